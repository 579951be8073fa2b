"""An `Emit` for tests of bridges: what a service has told, in which batches, and room on demand."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import trio

from trialogue import ServiceEvent


class Sinkhole:
    """An `Emit` that collects; `room_for` limits how much it takes before it says that it is full."""

    def __init__(self, room_for: int = 10**9) -> None:
        self.events: list[ServiceEvent] = []
        self.batches: list[int] = []
        self.room_for = room_for
        self._more = trio.Event()
        self.threads: set[int] = set()

    def __call__(self, batch: Sequence[ServiceEvent]) -> bool:
        self.threads.add(threading.get_ident())
        self.batches.append(len(batch))
        self.events += batch
        self._more.set()
        self._more = trio.Event()
        return self.has_room()

    def has_room(self) -> bool:
        return len(self.events) < self.room_for

    async def room(self) -> None:
        while not self.has_room():
            await self._more.wait()

    async def until(self, count: int) -> None:
        with trio.fail_after(5):
            while len(self.events) < count:
                await self._more.wait()

    def make_room(self, more: int) -> None:
        self.room_for += more
        self._more.set()
        self._more = trio.Event()
