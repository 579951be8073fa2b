"""`shared_log.py`: what waits in a lane, who sees it when, and what becomes of it when the log is owned no longer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from trialogue import Position
from trialogue.core.events import Ended, Event, Fenced, Snapshot, Started, Tokens, UserMessage
from trialogue.core.machine import Policy
from trialogue.log import Entry, Gap
from trialogue.shared_log import BEHIND_EVENTS, BEHIND_TOKENS, Durability, SharedLog
from trialogue.store import Key, Lane, Stored, Verdict

KEY = ("ann", "s")
EPOCH = 9
STARTED = Started("m", "s", "t")
ENDED = Ended("m", "stop", 3, 1)


class Store:
    """What a shared log asks of a store: lanes to write, within how many seconds, and what to trim."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.lanes: list[Lane] = []
        self.trimmed: list[Position] = []

    def append(self, lane: Lane, within: float) -> None:
        self.asked.append(within)
        self.lanes.append(lane)

    def trim(self, key: Key, before: Position) -> None:
        self.trimmed.append(before)

    def write(self, verdict: Verdict = Verdict.WRITTEN) -> tuple[int, int, Sequence[Event]] | None:
        """Take what the last lane that asked holds, and judge it at once."""
        taken = self.lanes[-1].take()
        if taken:
            self.lanes[-1].judge(verdict)
        return taken


class Owned:
    """A log that this node owns, its fence at offset 4; a follower that has seen the fence; who hears of its loss."""

    def __init__(self, durability: Durability = "ahead", keep_bytes: int = 1 << 20) -> None:
        self.store = Store()
        self.log = SharedLog(KEY, self.store, Position(EPOCH, 4), keep_bytes, lambda more: None, durability)  # type: ignore[arg-type]
        stored = [Stored(EPOCH, 4, Fenced(EPOCH, "here"))]
        entries = self.log.fit(stored)
        assert entries is not None
        self.log.absorb(entries)
        self.seen: list[Event] = []
        self.follower = self.log.follow(5, self._poke)
        self.lost: list[tuple[Verdict, Sequence[Event]]] = []
        self.log.own(lambda verdict, events: self.lost.append((verdict, events)))

    def _poke(self, entries: Sequence[Entry]) -> bool:
        self.seen += [event for _, event in entries]
        return bool(entries)

    def say(self, index: int, *texts: str, turn: str = "m") -> None:
        self.log.append_tokens(Tokens(turn, index, texts), sum(map(len, texts)))


def test_ahead_nobody_sees_what_is_not_written() -> None:
    it = Owned()
    it.log.extend([STARTED])
    it.say(0, "a", "b")
    assert (it.log.end, it.log.committed, it.seen) == (8, 5, [])
    assert it.log.read(5, 8) == [(5, STARTED), (6, Tokens("m", 0, ["a", "b"]))]  # but the session may read it
    it.store.write()
    assert (it.log.end, it.log.committed) == (8, 8)
    assert it.seen == [STARTED, Tokens("m", 0, ["a", "b"])]
    assert it.store.asked == [0.0]


def test_behind_everybody_sees_it_at_once_and_it_may_wait_for_company() -> None:
    it = Owned("behind")
    it.say(0, "a")
    it.say(1, "b")
    assert (it.log.end, it.log.committed) == (7, 7)
    assert it.seen == [Tokens("m", 0, ("a",)), Tokens("m", 1, ("b",))]
    assert it.store.asked == [BEHIND_TOKENS]
    it.log.extend([ENDED])
    it.say(2, "c")
    assert it.store.asked == [BEHIND_TOKENS, BEHIND_EVENTS]  # an end hurries what waits, and tokens do not slow it down
    assert it.store.write() == (EPOCH, 5, [Tokens("m", 0, ["a", "b"]), ENDED, Tokens("m", 2, ["c"])])
    assert len(it.seen) == 4


def test_behind_tokens_hurry_for_a_client_at_another_node() -> None:
    it = Owned("behind")
    it.log.followed_elsewhere(2)
    it.log.followed_elsewhere(-1)
    it.say(0, "a")
    it.store.write()
    it.log.followed_elsewhere(-1)
    it.say(1, "b")
    assert it.store.asked == [BEHIND_EVENTS, BEHIND_TOKENS]


def test_tokens_that_wait_together_are_one_event_and_nobody_elses_list_is_changed() -> None:
    it = Owned()
    texts = ["a"]
    it.log.append_tokens(Tokens("m", 0, texts), 1)
    it.say(1, "b", "c")
    texts.append("the service uses its list again")
    it.log.extend([STARTED])
    it.say(3, "d")
    it.say(0, "x", turn="another")
    whole = [Tokens("m", 0, ["a", "b", "c"]), STARTED, Tokens("m", 3, ["d"]), Tokens("another", 0, ["x"])]
    assert it.store.write() == (EPOCH, 5, whole)
    assert it.seen == whole


def test_what_comes_while_something_is_under_way_waits_for_the_next_time() -> None:
    it = Owned()
    it.say(0, "a")
    (lane,) = it.store.lanes
    assert lane.take() == (EPOCH, 5, [Tokens("m", 0, ["a"])])
    it.say(1, "b")
    assert len(it.store.lanes) == 2  # asked again: it was taken from
    assert it.log.read(5, 7) == [(5, Tokens("m", 0, ["a"])), (6, Tokens("m", 1, ["b"]))]
    lane.judge(Verdict.WRITTEN)
    assert it.seen == [Tokens("m", 0, ["a"])]
    assert it.store.write() == (EPOCH, 6, [Tokens("m", 1, ["b"])])
    assert it.seen == [Tokens("m", 0, ["a"]), Tokens("m", 1, ["b"])]
    assert lane.take() is None


@pytest.mark.parametrize("verdict", [Verdict.STALE, Verdict.WIPED, Verdict.UNREACHABLE])
def test_a_refusal_is_told_once_with_all_that_was_pending_and_ends_the_owning(verdict: Verdict) -> None:
    it = Owned()
    asked = UserMessage("m", "?", Policy.ENQUEUE)
    calls: list[str] = []
    it.log.extend([asked])
    it.log.after(lambda: calls.append("called"), lambda: calls.append("lost"))
    (lane,) = it.store.lanes
    lane.take()
    it.log.extend([STARTED])
    lane.judge(verdict)
    assert it.lost == [(verdict, [asked, STARTED])]
    assert (it.log.owned, it.log.end, calls, it.seen) == (False, 5, ["lost"], [])
    assert lane.take() is None
    lane.judge(verdict)  # it was asked for a second time
    it.say(0, "late")
    assert it.log.extend([ENDED]) == 5
    assert (len(it.lost), it.log.end) == (1, 5)


def test_what_waits_when_the_log_is_given_back_is_still_written_and_judged_for_nobody() -> None:
    it = Owned()
    it.log.extend([ENDED])
    assert it.log.disown() == [ENDED]
    assert it.log.disown() == ()
    assert it.store.write() == (EPOCH, 5, [ENDED])
    assert (it.log.committed, it.lost, it.seen) == (5, [], [])


def test_an_old_lanes_verdict_is_not_the_new_ones() -> None:
    it = Owned()
    it.log.extend([STARTED])
    (old,) = it.store.lanes
    old.take()
    it.log.disown()
    entries = it.log.fit([Stored(EPOCH + 1, 5, Fenced(EPOCH + 1, "here"))])
    assert entries
    it.log.absorb(entries)
    it.log.own(lambda verdict, events: it.lost.append((verdict, events)))
    it.say(0, "a")
    old.judge(Verdict.STALE)
    assert it.log.owned
    assert it.store.write() == (EPOCH + 1, 6, [Tokens("m", 0, ["a"])])
    assert it.lost == []


def test_after_is_called_when_all_before_it_is_written() -> None:
    it = Owned()
    calls: list[int] = []
    it.log.after(lambda: calls.append(0))
    assert calls == [0]
    it.say(0, "a")
    it.log.after(lambda: calls.append(1))
    it.store.lanes[-1].take()
    it.say(1, "b")
    it.log.after(lambda: calls.append(2))
    assert calls == [0]
    it.store.lanes[-1].judge(Verdict.WRITTEN)
    assert calls == [0, 1]
    it.store.write()
    assert calls == [0, 1, 2]


async def test_a_store_that_is_slow_holds_the_service_back(autojump_clock: MockClock) -> None:
    it = Owned()
    it.say(0, *"abcd")
    assert it.log.has_room(5)
    assert not it.log.has_room(4)
    async with trio.open_nursery() as nursery:
        waited: list[float] = []

        async def wait() -> None:
            await it.log.room(4)
            waited.append(trio.current_time())

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert waited == []
        it.store.write()
    assert len(waited) == 1


def test_positions_of_every_epoch_are_known_and_a_fresh_stream_has_no_older_ones() -> None:
    it = Owned()
    it.say(0, "a")
    it.store.write()
    it.log.disown()
    later = [Stored(EPOCH + 3, 6, Fenced(EPOCH + 3, "there")), Stored(EPOCH + 3, 7, STARTED)]
    entries = it.log.fit([Stored(EPOCH, 5, Tokens("m", 0, ["a"])), *later])  # the first is known
    assert entries == [(6, later[0].event), (7, STARTED)]
    it.log.absorb(entries)
    assert it.log.position(5) == Position(EPOCH, 5)
    assert it.log.position(8) == Position(EPOCH + 3, 8)
    assert it.log.covers(Position(EPOCH, 6))
    assert not it.log.covers(Position(EPOCH, 7))  # that epoch ended before it
    assert not it.log.covers(Position(EPOCH + 1, 7))
    assert it.log.fit([Stored(EPOCH + 3, 9, ENDED)]) is None  # a hole
    assert it.log.fit([Stored(EPOCH + 2, 8, ENDED)]) is None  # an older owner's
    fresh = it.log.fit([Stored(EPOCH + 4, 8, Fenced(EPOCH + 4, "there", fresh=True))])
    assert fresh
    it.log.absorb(fresh)
    assert not it.log.covers(Position(EPOCH + 3, 8))
    assert it.log.covers(Position(EPOCH + 4, 9))


def test_what_the_mirror_has_trimmed_goes_from_the_store_once_a_snapshot_is_there() -> None:
    it = Owned(keep_bytes=2_000)
    snapshot = Snapshot((), None)
    it.log.remember(lambda: snapshot)
    assert it.store.asked == []  # nothing was trimmed
    for number in range(20):
        it.log.extend([Ended(f"m{number}", "stop", 0, 1)])
        it.store.write()
    it.log.settle(None)
    assert it.log.start > 4
    with pytest.raises(Gap, match="trimmed"):
        it.log.read(4, 6)
    it.log.remember(lambda: snapshot)
    assert it.store.trimmed == []
    taken = it.store.write()
    assert taken
    assert taken[2] == [snapshot]
    assert it.store.trimmed == [it.log.position(it.log.start)]
