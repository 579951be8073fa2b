"""An application's frames for everybody: entries of a stream that every node follows, and that is no session's.

No node knows all others, and none is asked to. Whoever announces owns that stream for the instant: the store's one
order is everybody's. It is never read back; a node that was away has missed what was said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from trialogue.core.events import Announced, Event
from trialogue.log import Position
from trialogue.store import Key, Store, Stored, StoreGone, Verdict

KEY: Key = ("", "")
"""Not a session's: their ids are not empty."""

RETRY_SECONDS = 0.5

MUTEX_SECONDS = 0.005
"""Until it is tried again when another node is announcing, which takes two round trips."""

KEPT_MS = 60_000
"""Epochs are times: what is older than a minute has been read by every node that has a lease."""


class _Announcement:
    """What is appended while this node owns the stream: one entry behind the fence."""

    __slots__ = ("_event", "_fence", "judged", "key", "verdict")

    def __init__(self, fence: Position, event: Announced) -> None:
        self.key = KEY
        self.judged = trio.Event()
        self.verdict: Verdict | None = None
        self._fence = fence
        self._event: Announced | None = event

    def __repr__(self) -> str:
        return f"<Announcement at {self._fence}, {self.verdict}>"

    def take(self) -> tuple[int, int, Sequence[Event]] | None:
        event, self._event = self._event, None
        return (self._fence.epoch, self._fence.offset + 1, [event]) if event else None

    def judge(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.judged.set()


class Announcements:
    """`tell` is called with each, also with those of this node."""

    def __init__(self, store: Store, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._store = store
        self._tell = tell
        self._next = Position(0, 0)
        self._announcing = trio.Lock()

    def __repr__(self) -> str:
        return f"<Announcements, next is {self._next}>"

    async def begin(self) -> None:
        """Follow from now on; what was announced before is not told. As soon as the store answers."""
        while True:
            try:
                before = await self._store.read(KEY)
            except StoreGone:
                await trio.sleep(RETRY_SECONDS)
                continue
            for stored in before:
                self._next = Position(stored.epoch, stored.offset + 1)
            self._store.follow(KEY, self._next, self._take)
            return

    def _take(self, entries: Sequence[Stored]) -> None:
        for epoch, offset, event in entries:
            self._next = Position(epoch, offset + 1)
            if isinstance(event, Announced):
                self._tell(event.body)

    async def announce(self, body: Mapping[str, Any]) -> None:
        """Returns when the store has it. Raises StoreGone; cancelled: it may be told all the same."""
        async with self._announcing:
            try:
                fence = await self._claim()
                announcement = _Announcement(fence, Announced(body))
                self._store.append(announcement, 0)
                self._store.trim(KEY, Position(max(0, fence.epoch - KEPT_MS), 0))
            finally:
                self._store.release(KEY)  # also if it is not known whether it was claimed
            await announcement.judged.wait()
        if announcement.verdict is not Verdict.WRITTEN:
            raise StoreGone("the store has not taken it")

    async def _claim(self) -> Position:
        """Own the stream, once whoever owns it has announced, or is gone."""
        expected: str | None = None
        while True:
            claim = await self._store.claim(KEY, expected, self._next)
            if claim.fence is not None:
                return claim.fence
            if await self._store.alive(claim.owner):
                await trio.sleep(MUTEX_SECONDS)
            else:
                expected = claim.owner
