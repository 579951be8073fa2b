"""A chat's events for one reader: bounded, so that a reader who does not read costs no more than this.

When it is full the oldest event is thrown away, and the reader is told how many were, by `Missed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

from trialogue_adapters.client.errors import Left, LinkError
from trialogue_adapters.client.events import Event, Missed

MAX_EVENTS = 1000


class Feed:
    """Iterate it. It ends when the chat has been left, and raises the LinkError if the server has ended it."""

    def __init__(self, ended_by: Callable[[], LinkError | None]) -> None:
        self._ended_by = ended_by
        self._events: deque[Event] = deque()
        self._missed = 0
        self._news = anyio.Event()

    def __repr__(self) -> str:
        return f"<Feed, {len(self._events)} events waiting>"

    def put(self, event: Event) -> None:
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self._missed += 1
        self._events.append(event)
        self.poke()

    def poke(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Event:
        """Cancelled: no event is lost."""
        while not self._events:
            error = self._ended_by()
            if isinstance(error, Left):
                raise StopAsyncIteration
            if error is not None:
                raise error
            await self._news.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return Missed(missed)
        return self._events.popleft()
