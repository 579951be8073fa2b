"""A client's credential: a fixed one, or one that is fetched before every connect and again before it expires.

It knows neither sockets nor keys; whoever made the chat has said how to fetch one.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from trialogue_adapters.client.errors import Unreachable

RENEW_AT = 0.8
"""Of its life: time enough to try, and not so often that anybody notices."""
MIN_DELAY = 1.0
"""Seconds: a token that is as good as dead is no reason to ask without pause."""


@dataclass(frozen=True, slots=True)
class Token:
    """A credential that expires in so many seconds from now: it is renewed on the open connection before that."""

    value: str = field(repr=False)
    expires_in: float


Fetched = str | Token | None
TokenSource = str | Callable[[], Fetched] | Callable[[], Awaitable[Fetched]] | None


class Credential:
    """`take` before each connect; iterate `renewals` while it lasts."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._expires_in: float | None = None

    def __repr__(self) -> str:
        return f"<Credential, {'fetched' if self.renewable else 'fixed' if self._source else 'none'}>"

    @property
    def renewable(self) -> bool:
        """Can a fresh one be had?"""
        return callable(self._source)

    async def take(self) -> str | None:
        """The credential to show now; None: none is needed. Raises ValueError for what no header can hold.

        What the function raises goes on to whoever connects, but OSError: that is Unreachable, and tried again.
        """
        try:
            fetched = self._source() if callable(self._source) else self._source
            if inspect.isawaitable(fetched):
                fetched = await fetched
        except OSError as error:
            raise Unreachable(f"no credential could be fetched: {error}") from error
        self._expires_in = fetched.expires_in if isinstance(fetched, Token) else None
        value = fetched.value if isinstance(fetched, Token) else fetched
        if value is not None and not (value and value.isascii() and value.isprintable() and " " not in value):
            raise ValueError("token: must be printable ASCII without spaces")
        return value

    async def renewals(self) -> AsyncIterator[str]:
        """Newer ones, each in time; ends when the last one does not expire, or none could be fetched."""
        while self._expires_in is not None:
            await anyio.sleep(max(self._expires_in * RENEW_AT, MIN_DELAY))
            try:
                value = await self.take()
            except Unreachable:
                return  # the server will say that it has expired, and we come back with another
            if value is None:
                return
            yield value
