"""The Authenticator port: what a caller shows goes in, a principal or a refusal comes out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

BEARER_SUBPROTOCOL = "bearer."
"""Browsers cannot set headers on a WebSocket, but they can offer `bearer.<token>` beside `trialogue.v1`."""

MAX_PRINCIPAL = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request tells of who sends it.

    `headers` are as they came; `secure`: TLS ends in this process; `peer`: the TCP peer's address, "" if it has none.
    """

    headers: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)
    subprotocols: Sequence[str] = field(default=(), repr=False)
    secure: bool = False
    peer: str = ""

    def all(self, name: str) -> list[str]:
        """Every value of that header, in order."""
        wanted = name.encode()
        return [value.decode("latin-1").strip() for key, value in self.headers if key.lower() == wanted]

    def first(self, name: str) -> str:
        """The header's first value; "" if there is none."""
        return next(iter(self.all(name)), "")

    @property
    def token(self) -> str | None:
        """The credential that is shown; the first of these that is there counts, whatever the others say."""
        for subprotocol in self.subprotocols:
            if subprotocol.startswith(BEARER_SUBPROTOCOL):
                return subprotocol.removeprefix(BEARER_SUBPROTOCOL)
        if key := self.first("x-api-key"):
            return key
        scheme, _, token = self.first("authorization").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None


@dataclass(frozen=True, slots=True)
class Grant:
    """Who has come, and until when (seconds of unix time; `inf`: the credential does not expire)."""

    principal: str
    expires_at: float = inf


@dataclass(slots=True)
class Denied(Exception):
    """Not let in. 401: no credential, or none that counts; 403: it would count, but not for this.

    `reason` is told to the caller and may be logged: it never repeats what the caller has shown.
    """

    status: int
    reason: str
    challenges: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class Misconfigured(Exception):
    """A key, a secret or a list of origins cannot be used. Says why in one line, for the operator; quotes no secret."""


class Authenticator(Protocol):
    """Tells who calls. Called on Trio's thread, so it must not block for long."""

    @property
    def challenges(self) -> Sequence[str]:
        """What is wanted, as values of `WWW-Authenticate`."""

    def identify(self, caller: Caller) -> Grant:
        """Who it is. Raises Denied."""

    def principals(self) -> Collection[str] | None:
        """Everybody who can be meant, where that is a short list that is known; else None."""


def is_principal(name: object) -> bool:
    """Is it a name to key sessions by: 1 to 256 printable characters? ("" is everybody.)"""
    return isinstance(name, str) and 0 < len(name) <= MAX_PRINCIPAL and name.isprintable()
