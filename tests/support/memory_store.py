"""A shared store in memory, for many hubs in one Trio run: what the real one promises, and how it fails.

Ids of a stream must grow, an append makes no stream, a claim compares and sets, everything takes a round trip and may
be lost on either half of it. A node can be cut off, killed (nothing more is written, its lease runs out) or frozen
(nothing goes in or out, and nobody there notices); the server can be down, or wiped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from math import inf
from typing import TypeVar

import trio

from trialogue.core.events import Event, Fenced, width
from trialogue.core.letters import Letter
from trialogue.log import Position
from trialogue.store import Claim, Heed, Key, Lane, Stored, StoreGone, Verdict

LEASE, RENEW, STOP_WRITING, ACK, PROBE, POLL = 5.0, 1.0, 4.0, 2.0, 0.5, 0.25
"""Seconds, as the real store's."""

_numbers = count(1)
T = TypeVar("T")


class Server:
    """What all nodes share."""

    def __init__(self, latency: float = 0.001) -> None:
        self.latency = latency
        self.up = True
        self.streams: dict[Key, list[Stored]] = {}
        self.owners: dict[Key, str] = {}
        self.floors: dict[Key, int] = {}
        self.leases: dict[str, float] = {}
        self.inboxes: dict[str, list[Letter]] = {}
        self.refused = 0
        """Appends of stale owners."""
        self.changed = trio.Event()

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def wipe(self) -> None:
        """FLUSHALL."""
        for everything in (self.streams, self.owners, self.floors, self.leases, self.inboxes):
            everything.clear()  # type: ignore[attr-defined]

    def alive(self, node: str) -> bool:
        return self.leases.get(node, 0.0) > trio.current_time()

    def append(self, key: Key, epoch: int, offset: int, events: Sequence[Event]) -> Verdict:
        """XADD NOMKSTREAM with an id of our own."""
        stream = self.streams.get(key)
        if stream is None:
            return Verdict.WIPED
        if stream and (epoch, offset) <= stream[-1][:2]:
            self.refused += 1
            return Verdict.STALE
        for event in events:
            stream.append(Stored(epoch, offset, event))
            offset += width(event)
        self.notify()
        return Verdict.WRITTEN

    def claim(self, key: Key, expected: str | None, known: Position, node: str) -> Claim:
        owner = self.owners.get(key)
        if owner is not None and owner not in (expected, node):
            return Claim(owner)
        stream = self.streams.setdefault(key, [])
        made = not stream
        last = stream[-1] if stream else Stored(0, 0, Fenced(0, ""))
        offset = known.offset if made else last.offset + width(last.event)
        now_ms = int(trio.current_time() * 1000)
        epoch = max(self.floors.get(key, 0) + 1, last.epoch + 1, now_ms, known.epoch + 1)
        self.floors[key], self.owners[key] = epoch, node
        assert self.append(key, epoch, offset, [Fenced(epoch, node, made)]) is Verdict.WRITTEN
        return Claim(node, Position(epoch, offset), made)


class MemoryStore:
    """One node's connection to the server."""

    def __init__(self, server: Server, name: str = "node", *, trusting: bool = False) -> None:
        self.server = server
        self.node = self._new_name(name)
        self.reachable = False
        self.cut = False
        self.frozen = False
        self.dead = False
        self.trusting = trusting  # it does not look at the clock before it writes
        self._name = name
        self._heed: Heed
        self._queue: deque[Callable[[], Callable[[], None] | None]] = deque()
        self._under_way: list[Callable[[], Callable[[], None] | None]] = []
        self._lanes: list[Lane] = []  # that have something to write
        self._taken: list[Lane] = []  # whose verdict is under way
        self._due = inf
        self._more = trio.Event()
        self._renewed = 0.0
        self._follows: dict[Key, tuple[tuple[int, int], Callable[[Sequence[Stored]], None]]] = {}
        self._watched: dict[str, None] = {}  # in the order of watching: a schedule plays the same in every process
        self._generation = 0  # of everything that is under way

    def _new_name(self, name: str) -> str:
        return f"{name}-{next(_numbers)}"

    # The network.

    @property
    def _through(self) -> bool:
        return self.server.up and not (self.cut or self.frozen or self.dead)

    async def _pass(self) -> None:
        """Half a round trip; for as long as nothing comes through."""
        await trio.sleep(self.server.latency / 2)
        while not self._through:
            await trio.sleep(0.01)

    async def _ask(self, command: Callable[[], T]) -> T:
        """A round trip of its own, with a deadline."""
        if not self.reachable:
            raise StoreGone("not reachable")
        with trio.move_on_after(ACK):
            await self._pass()
            answer = command()
            await self._pass()
            return answer
        raise StoreGone("no answer in time")

    @asynccontextmanager
    async def open(self, heed: Heed) -> AsyncGenerator[None]:
        self._heed = heed
        self._renew()
        self.reachable = True
        async with trio.open_nursery() as nursery:
            for task in (self._write, self._read_all, self._keep_lease, self._poll):
                nursery.start_soon(task)
            try:
                yield
            finally:
                if not self.dead:
                    while commands := [*self._under_way, *self._take()]:
                        self._under_way = []
                        for answer in [answer for command in commands if (answer := command())]:
                            answer()
                    self.server.leases.pop(self.node, None)
                nursery.cancel_scope.cancel()

    def kill(self) -> None:
        """Nothing more comes from this node."""
        self.dead = True

    # Writing: one round trip at a time, with all that waits, as soon as any of it is due.

    def _put(self, command: Callable[[], Callable[[], None] | None]) -> None:
        self._queue.append(command)
        self._hurry(0.0)

    def _hurry(self, within: float) -> None:
        self._due = min(self._due, trio.current_time() + within)
        self._more.set()

    def append(self, lane: Lane, within: float) -> None:
        self._lanes.append(lane)
        self._hurry(within)

    def _take(self) -> list[Callable[[], Callable[[], None] | None]]:
        """Lanes first: a session is released, or goes, after what its owner had to say."""
        batch = [command for lane in self._lanes if (command := self._writing(lane))]
        batch += self._queue
        self._lanes, self._due = [], inf
        self._queue.clear()
        return batch

    def _writing(self, lane: Lane) -> Callable[[], Callable[[], None]] | None:
        taken = lane.take()
        if taken is None:
            return None
        self._taken.append(lane)
        epoch, offset, events = taken

        def command() -> Callable[[], None]:
            verdict = self.server.append(lane.key, epoch, offset, events)
            return lambda: self._acknowledge(lane, verdict)

        return command

    def _acknowledge(self, lane: Lane, verdict: Verdict) -> None:
        self._taken.remove(lane)
        lane.judge(verdict)

    async def _write(self) -> None:
        while True:
            while self._due > trio.current_time():
                self._more = trio.Event()
                with trio.move_on_at(self._due):
                    await self._more.wait()
            generation = self._generation
            self._under_way = self._take()
            await self._pass()
            batch, self._under_way = self._under_way, []
            if generation != self._generation:
                continue
            if trio.current_time() - self._renewed > STOP_WRITING and not self.trusting:
                self._lose_lease()
                continue
            answers = [answer for command in batch if (answer := command())]
            await self._pass()
            if generation == self._generation:
                for answer in answers:
                    answer()

    def _fail_all(self) -> None:
        self._generation += 1
        self._queue.clear()
        self._under_way = []
        lanes, self._taken, self._lanes = [*self._taken, *self._lanes], [], []
        for lane in lanes:
            lane.judge(Verdict.UNREACHABLE)

    def trim(self, key: Key, before: Position) -> None:
        def command() -> None:
            if stream := self.server.streams.get(key):
                stream[:] = [one for one in stream if (one.epoch, one.offset) >= before]

        self._put(command)

    def touch(self, key: Key, ttl: float) -> None: ...

    def release(self, key: Key) -> None:
        node = self.node

        def command() -> None:
            if self.server.owners.get(key) == node:
                del self.server.owners[key]

        self._put(command)

    def delete(self, key: Key) -> None:
        node = self.node

        def command() -> None:
            self.server.streams.pop(key, None)
            if self.server.owners.get(key) == node:
                del self.server.owners[key]

        self._put(command)

    def send(self, node: str, letter: Letter) -> None:
        def command() -> None:
            self.server.inboxes.setdefault(node, []).append(letter)
            self.server.notify()

        self._put(command)

    # Asking.

    async def owner(self, key: Key) -> str | None:
        return await self._ask(lambda: self.server.owners.get(key))

    async def alive(self, node: str) -> bool:
        return await self._ask(lambda: self.server.alive(node))

    async def claim(self, key: Key, expected: str | None, known: Position) -> Claim:
        node = self.node
        return await self._ask(lambda: self.server.claim(key, expected, known, node))

    async def read(self, key: Key, after: Position | None = None) -> list[Stored]:
        def command() -> list[Stored]:
            stream = self.server.streams.get(key, [])
            return [
                one
                for one in stream
                if after is None or (one.epoch, one.offset + width(one.event) - 1) >= (after.epoch, after.offset)
            ]

        return await self._ask(command)

    # Reading.

    def follow(self, key: Key, after: Position, deliver: Callable[[Sequence[Stored]], None]) -> None:
        self._follows[key] = ((after.epoch, after.offset), deliver)
        self.server.notify()

    def unfollow(self, key: Key) -> None:
        self._follows.pop(key, None)

    async def _read_all(self) -> None:
        while True:
            changed = self.server.changed
            await self._pass()
            for letter in self.server.inboxes.pop(self.node, ()):
                self._heed.received(letter)
            for key in list(self._follows):
                self._deliver(key)
            if changed is self.server.changed:
                await changed.wait()

    def _deliver(self, key: Key) -> None:
        after, deliver = self._follows[key]
        fresh = [one for one in self.server.streams.get(key, ()) if one[:2] >= after]
        if fresh:
            last = fresh[-1]
            self._follows[key] = ((last.epoch, last.offset + 1), deliver)
            deliver(fresh)

    # The lease, and everybody else's.

    def _renew(self) -> None:
        self._renewed = trio.current_time()
        self.server.leases[self.node] = self._renewed + LEASE

    async def _keep_lease(self) -> None:
        while True:
            await trio.sleep(PROBE)
            with trio.move_on_after(ACK) as patience:
                sent_at, node = trio.current_time(), self.node
                await self._pass()
                late = trio.current_time() - self._renewed > STOP_WRITING
                if self.reachable and (late or not self.server.alive(node)):  # SET … XX: one that is gone is lost
                    self._lose_lease()
                    continue
                if not self.reachable and trio.current_time() - self._renewed > STOP_WRITING:
                    self._rename()
                self.server.leases[self.node] = trio.current_time() + LEASE
                await self._pass()
                self._renewed = sent_at
                if not self.reachable:
                    self.reachable = True
                    self._heed.store_back()
            if patience.cancelled_caught and self.reachable and not self.dead and not self.frozen:
                self.reachable = False
                self._fail_all()
                self._heed.store_gone()

    def _rename(self) -> None:
        self.node = self._new_name(self._name)

    def _lose_lease(self) -> None:
        self.reachable = False
        self._fail_all()
        self._rename()
        self._heed.lease_lost()

    def watch(self, node: str) -> None:
        self._watched[node] = None

    async def _poll(self) -> None:
        while True:
            await trio.sleep(POLL)
            await self._pass()
            for node in list(self._watched):
                if not self.server.alive(node):
                    self._watched.pop(node, None)
                    self._heed.node_gone(node)
