"""Who listens to a store in a test: notes everything, and lets a test wait for it (or for an append's verdict)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from trialogue.core.events import Event, Tokens
from trialogue.core.letters import Letter
from trialogue.log import Position
from trialogue.store import Claim, Key, Store, Stored, Verdict

WAIT_SECONDS = 8.0


class Noted:
    """A `Heed`. `told`: the names of what happened, in order, with whatever came along."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.letters: list[Letter] = []
        self.stored: list[Stored] = []
        self._news = trio.lowlevel.ParkingLot()

    def note(self, what: str, thing: object = None) -> None:
        self.told.append((what, thing))
        self._news.unpark_all()

    def received(self, letter: Letter) -> None:
        self.letters.append(letter)
        self.note("received", letter)

    def node_gone(self, node: str) -> None:
        self.note("node_gone", node)

    def store_gone(self) -> None:
        self.note("store_gone")

    def store_back(self) -> None:
        self.note("store_back")

    def lease_lost(self) -> None:
        self.note("lease_lost")

    def deliver(self, stored: Sequence[Stored]) -> None:
        """What `follow` is given."""
        self.stored += stored
        self.note("delivered", stored)

    @property
    def names(self) -> list[str]:
        """What happened, but for letters and entries."""
        return [what for what, _ in self.told if what not in ("received", "delivered", "verdict")]

    @property
    def verdicts(self) -> list[Verdict]:
        return [thing for what, thing in self.told if what == "verdict" and isinstance(thing, Verdict)]

    @property
    def events(self) -> list[Event]:
        """What was delivered, without fences' positions."""
        return [stored.event for stored in self.stored]

    async def until(self, ready: Callable[[], object], within: float = WAIT_SECONDS) -> None:
        """Wait until that is so; looks whenever something was noted."""
        with trio.fail_after(within):
            while not ready():
                await self._news.park()

    async def heard(self, what: str, within: float = WAIT_SECONDS) -> float:
        """Wait until that has happened. Returns how many seconds that took."""
        began = trio.current_time()
        await self.until(lambda: what in [name for name, _ in self.told], within)
        return trio.current_time() - began


class Writer:
    """A session's owner, as far as a store sees one: claims, and appends where the last append ended. A `Lane`: the
    verdict on what was taken is noted once for each call of `queue`."""

    def __init__(self, store: Store, heed: Noted, key: Key) -> None:
        self.store = store
        self.heed = heed
        self.key = key
        self.epoch = 0
        self.offset = 0
        self._waiting: list[Sequence[Event]] = []
        self._start = 0  # the first waiting event's offset
        self._taken = 0

    async def claim(self, expected: str | None = None) -> Claim:
        """Own the session, if that can be had."""
        claim = await self.store.claim(self.key, expected, Position(self.epoch, self.offset))
        if claim.fence:
            self.epoch, self.offset = claim.fence.epoch, claim.fence.offset + 1
        return claim

    def queue(self, *events: Event, within: float = 0.0) -> None:
        if not self._waiting:
            self._start = self.offset
        self._waiting.append(events)
        self.offset += sum(len(event.texts) if isinstance(event, Tokens) else 1 for event in events)
        self.store.append(self, within)

    def take(self) -> tuple[int, int, Sequence[Event]] | None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return None
        assert not self._taken, "taken again before the verdict"
        self._taken = len(waiting)
        return self.epoch, self._start, [event for events in waiting for event in events]

    def judge(self, verdict: Verdict) -> None:
        judged, self._taken = self._taken, 0
        if verdict is not Verdict.WRITTEN:
            judged += len(self._waiting)
            self._waiting.clear()
        for _ in range(judged):
            self.heed.note("verdict", verdict)

    async def write(self, *events: Event, within: float = WAIT_SECONDS) -> Verdict:
        """Append, and wait for the verdict."""
        before = len(self.heed.verdicts)
        self.queue(*events)
        await self.heed.until(lambda: len(self.heed.verdicts) > before, within)
        return self.heed.verdicts[before]
