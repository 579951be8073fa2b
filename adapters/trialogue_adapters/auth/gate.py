"""The gate before every session: is the page's origin allowed, and who is it?

A WebSocket is let in by what the Authenticator accepts, or by a `ws_token` for just that session; a `ws_token` is
minted by what the Authenticator accepts, and by nothing else: no token begets tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from math import inf

from trialogue_adapters.auth.origins import Origins
from trialogue_adapters.auth.port import Authenticator, Caller, Denied, Grant
from trialogue_adapters.auth.ws_tokens import PREFIX, WsTokens

EVERYBODY = ("",)


class Gate:
    """`authenticator` None lets everybody in, as the principal "", whatever they show."""

    def __init__(
        self,
        authenticator: Authenticator | None = None,
        ws_tokens: WsTokens | None = None,
        origins: Origins | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.now = now
        self._authenticator = authenticator
        self._ws_tokens = ws_tokens or WsTokens(now=now)
        self._origins = origins or Origins()

    def __repr__(self) -> str:
        return f"<Gate {self._authenticator or 'open'}, {self._origins}>"

    @property
    def open(self) -> bool:
        """Is everybody let in, as the principal ""?"""
        return self._authenticator is None

    def allows(self, caller: Caller) -> bool:
        """May the page that calls, if one does?"""
        return self._origins.allow(caller)

    def admit(self, caller: Caller, session_id: str, ws_token: str | None = None) -> Grant:
        """Who opens a WebSocket on that session. `ws_token` is the query's. Raises Denied."""
        self._check_origin(caller)
        with self._challenging():
            return self.identify(caller, session_id, ws_token)

    def enter(self, caller: Caller) -> Grant:
        """Who calls over HTTP. Raises Denied."""
        self._check_origin(caller)
        with self._challenging():
            return self._authenticator.identify(caller) if self._authenticator else Grant("")

    def screen(self, caller: Caller) -> None:
        """Judge what does not depend on the session, before a body is read that tells which it is. Raises Denied."""
        token = caller.token
        if token is not None and token.startswith(PREFIX):
            self._check_origin(caller)
        else:
            self.enter(caller)

    def mint(self, grant: Grant, session_id: str) -> tuple[str, int]:
        """A `ws_token` for that session, and the second (unix time) in which it expires."""
        return self._ws_tokens.mint(grant, session_id, named=self._principals() is None)

    def lease(self, grant: Grant, session_id: str) -> Lease | None:
        """What a connection has to renew in time; None if nothing expires."""
        return None if grant.expires_at == inf else Lease(self, grant, session_id)

    def identify(self, caller: Caller, session_id: str, ws_token: str | None = None) -> Grant:
        """Whose credential it is, wherever the page stands. Raises Denied."""
        if self._authenticator is None:
            return Grant("")
        token = caller.token if ws_token is None else ws_token
        if ws_token is not None or (token is not None and token.startswith(PREFIX)):
            return self._ws_tokens.check(token or "", session_id, self._principals())
        return self._authenticator.identify(caller)

    def _principals(self) -> Collection[str] | None:
        return self._authenticator.principals() if self._authenticator else EVERYBODY

    def _check_origin(self, caller: Caller) -> None:
        if not self.allows(caller):
            raise Denied(403, "pages of this origin are not let in")

    @contextmanager
    def _challenging(self) -> Generator[None]:
        """A 401 says what is wanted (RFC 9110, section 11.6.1)."""
        try:
            yield
        except Denied as denied:
            if denied.status == 401 and self._authenticator:
                denied.challenges = self._authenticator.challenges
            raise


class Lease:
    """A connection's credential, as the engine sees it: how long it is good, and how it is renewed."""

    __slots__ = ("_expires_at", "_gate", "_principal", "_session_id")

    def __init__(self, gate: Gate, grant: Grant, session_id: str) -> None:
        self._gate = gate
        self._principal = grant.principal
        self._expires_at = grant.expires_at
        self._session_id = session_id

    def __repr__(self) -> str:
        return f"<Lease {self.remaining():.0f} s>"

    def remaining(self) -> float:
        return self._expires_at - self._gate.now()

    def renew(self, token: str) -> bool:
        """The same principal's newer credential for this session counts; one that ends earlier takes nothing away."""
        try:
            grant = self._gate.identify(_bearer(token), self._session_id)
        except Denied:
            return False
        if grant.principal != self._principal:
            return False
        self._expires_at = max(self._expires_at, grant.expires_at)
        return True


def _bearer(token: str) -> Caller:
    """A caller that shows nothing but this token."""
    return Caller([(b"authorization", b"Bearer " + token.encode("latin-1", "replace"))])
