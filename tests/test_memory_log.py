"""`memory_log.py`: against a list, and its followers against each other."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trialogue.core.events import Ended, Event, Sources, Started, Tokens, UserMessage
from trialogue.core.machine import Policy
from trialogue.log import Follower, Gap
from trialogue.memory_log import RUN_TOKENS, MemoryLog


def flat(entries: list[tuple[int, Event]]) -> list[tuple[int, Any]]:
    """One item per offset: a token with its index, or the event."""
    items: list[tuple[int, Any]] = []
    for offset, event in entries:
        if isinstance(event, Tokens):
            items += [(offset + n, (event.message_id, event.index + n, text)) for n, text in enumerate(event.texts)]
        else:
            items.append((offset, event))
    return items


class LogAgainstAList(RuleBasedStateMachine):
    """The log keeps what a list keeps; every follower reads all of it, once, in order, or is told of a gap."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryLog(7, keep_bytes=2_000)
        self.model: list[tuple[int, Any]] = []
        self.followers: list[tuple[Follower, int, list[tuple[int, Any]]]] = []
        self.floor: int | None = None
        self.pokes = 0
        self.turn = 0
        self.index = 0

    def _poke(self, fresh: object) -> bool:
        self.pokes += 1
        return False

    def _append(self, events: list[Event]) -> None:
        before, self.pokes = self.log.end, 0
        assert self.log.extend(events) == before
        assert self.pokes == len(self.followers)
        offset = before
        for event in events:
            items = flat([(offset, event)])
            self.model += items
            offset += len(items)
        assert self.log.end == offset

    @rule(texts=st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=8))
    def tokens(self, texts: list[str]) -> None:
        self._append([Tokens(f"m{self.turn}", self.index, texts)])
        self.index += len(texts)

    @rule()
    def next_turn(self) -> None:
        self._append([Ended(f"m{self.turn}", "stop", self.index, 1), Started(f"m{self.turn + 1}", "s", "t")])
        self.turn, self.index = self.turn + 1, 0

    @rule(back=st.integers(0, 50))
    def pin(self, back: int) -> None:
        self.floor = max(self.log.start, self.log.end - back)
        self.log.settle(self.floor)

    @rule()
    def unpin(self) -> None:
        self.floor = None
        self.log.settle(None)

    @precondition(lambda self: len(self.followers) < 4)
    @rule(back=st.integers(0, 300))
    def follow(self, back: int) -> None:
        follower = self.log.follow(self.log.end - back, self._poke)
        assert self.log.start <= follower.position <= self.log.end
        self.followers.append((follower, follower.position, []))

    @precondition(lambda self: self.followers)
    @rule(data=st.data(), limit=st.integers(1, 30))
    def take(self, data: st.DataObject, limit: int) -> None:
        follower, start, had = self.followers[data.draw(st.integers(0, len(self.followers) - 1))]
        trimmed = follower.position < self.log.start
        try:
            entries = follower.take(limit)
        except Gap:
            assert trimmed
            follower.close()
            self.followers = [row for row in self.followers if row[0] is not follower]
            return
        assert not trimmed or not entries
        had += flat(entries)
        assert had == self.model[start : start + len(had)]
        assert follower.position == start + len(had)
        assert not entries or self.log.sent_up_to(follower.position) >= follower.position

    @precondition(lambda self: self.followers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        follower, _, _ = self.followers.pop(data.draw(st.integers(0, len(self.followers) - 1)))
        follower.close()
        follower.close()

    @rule(start=st.integers(0, 400), count=st.integers(0, 60))
    def read(self, start: int, count: int) -> None:
        start, end = min(start, self.log.end), min(start + count, self.log.end)
        if start >= self.log.start:
            assert flat(self.log.read(start, end)) == self.model[start:end]
        elif end > start:
            with pytest.raises(Gap):
                self.log.read(start, end)

    @invariant()
    def what_is_pinned_is_kept(self) -> None:
        assert self.floor is None or self.log.start <= self.floor
        assert self.log.committed == self.log.end == len(self.model)

    @invariant()
    def room_is_about_the_fastest_follower(self) -> None:
        behind = min((follower.behind for follower, _, _ in self.followers), default=0)
        assert self.log.has_room(10) == (behind < 10)


TestLogAgainstAList = LogAgainstAList.TestCase
TestLogAgainstAList.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_the_oldest_is_trimmed_past_the_bound() -> None:
    log = MemoryLog(1, keep_bytes=10_000)
    for turn in range(500):
        log.extend([Started(f"m{turn}", "s", "t"), Ended(f"m{turn}", "stop", 0, 0)])
    assert log.size <= 10_000
    assert 0 < log.start < log.end == 1000


def test_a_pinned_turn_outgrows_the_bound() -> None:
    log = MemoryLog(1, keep_bytes=1_000)
    log.extend([Started("m", "s", "t")])
    log.settle(0)
    log.extend([Tokens("m", 0, ["x" * 100] * 100)])
    assert log.start == 0
    log.settle(None)
    log.extend([Ended("m", "stop", 100, 0)])
    assert log.start > 0


def test_a_settled_turn_reads_the_same() -> None:
    texts = [chr(0x1F600 + n % 5) * (n % 3) + "안녕" + str(n) for n in range(200)]
    log = MemoryLog(1, 100_000)
    log.extend([Started("m", "s", "t"), Tokens("m", 0, texts), Ended("m", "stop", 200, 0)])
    before = log.read(0, log.end)
    log.settle(None)
    assert flat(log.read(0, log.end)) == flat(before)
    assert flat(log.read(50, 60)) == flat(before)[50:60]


def test_a_settled_turn_is_kept_compact() -> None:
    tracemalloc.start()
    try:
        log = MemoryLog(1, 100_000)
        log.settle(0)
        before, _ = tracemalloc.get_traced_memory()
        for n in range(200):
            log.append_tokens(Tokens("m", n, [f"{n:05}"]), 5)
        running, _ = tracemalloc.get_traced_memory()
        counted = log.size
        log.settle(None)
        settled, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert settled - before < (running - before) / 4
    assert log.size < counted / 4


def test_a_long_turn_is_kept_compact_while_it_runs_and_reads_the_same() -> None:
    texts = [f"{n:05}가" for n in range(5000)]
    tracemalloc.start()
    try:
        log = MemoryLog(1, 10_000)
        log.settle(0)
        before, _ = tracemalloc.get_traced_memory()
        for n in range(0, 5000, 2):
            log.append_tokens(Tokens("m", n, [f"{n:05}가", f"{n + 1:05}가"]), 16)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (kept - before) / 5000 < 24  # bytes; a string of its own would be 88
    assert flat(log.read(0, log.end)) == [(n, ("m", n, text)) for n, text in enumerate(texts)]
    follower = log.follow(RUN_TOKENS - 3, lambda entries: False)
    assert flat(follower.take(6)) == [(n, ("m", n, texts[n])) for n in range(RUN_TOKENS - 3, RUN_TOKENS + 3)]


async def test_the_fastest_reader_sets_the_pace() -> None:
    log = MemoryLog(1, 10_000)
    fast, _slow = log.follow(0, lambda fresh: False), log.follow(0, lambda fresh: False)
    log.extend([Tokens("m", 0, ["x"] * 20)])
    assert not log.has_room(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.room, 10)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        fast.take(15)
    assert log.has_room(10)


async def test_a_newcomer_at_the_end_makes_room() -> None:
    log = MemoryLog(1, 10_000)
    log.follow(0, lambda fresh: False)
    log.extend([Tokens("m", 0, ["x"] * 20)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.room, 10)
        await trio.testing.wait_all_tasks_blocked()
        log.follow(log.end, lambda fresh: False)


def test_what_nobody_was_sent_is_known_until_it_is_settled() -> None:
    log = MemoryLog(1, 10_000)
    early = log.follow(0, lambda fresh: False)
    log.extend([Tokens("m", 0, ["x"] * 10)])
    early.take(4)
    early.close()
    log.follow(log.end, lambda fresh: True)
    log.extend([Tokens("m", 10, ["x"] * 10)])
    assert (log.sent_up_to(0), log.sent_up_to(10)) == (4, 20)
    back = log.follow(4, lambda fresh: False)
    back.take(3)
    assert (log.sent_up_to(0), log.sent_up_to(7)) == (7, 7)
    back.take(3)
    assert log.sent_up_to(0) == 20
    log.extend([Tokens("m", 20, ["x"] * 10)])
    log.settle(20)
    assert log.sent_up_to(20) == 30


def test_what_clients_and_pipelines_put_into_events_counts() -> None:
    log = MemoryLog(1, 10_000)
    log.extend([UserMessage("m", "x" * 1_000, Policy.INTERRUPT, {"k": "y" * 1_000})])
    log.extend([Sources("m", [{"content": "z" * 1_000}])])
    assert log.size > 3_000


async def test_nobody_waits_for_readers_that_have_left() -> None:
    log = MemoryLog(1, 10_000)
    only = log.follow(0, lambda fresh: False)
    log.extend([Tokens("m", 0, ["x"] * 20)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.room, 10)
        await trio.testing.wait_all_tasks_blocked()
        only.close()


def test_reprs_say_where_things_stand() -> None:
    log = MemoryLog(7, 1_000)
    follower = log.follow(0, lambda fresh: False)
    log.extend([Started("m", "s", "t")])
    assert repr(log) == "<MemoryLog 7:0-1, 256 bytes, 1 followers>"
    assert repr(follower) == "<Follower at 0, 1 behind>"
