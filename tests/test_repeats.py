"""`repeats.py`: the same message id again, by those who saw the turn and those who did not."""

from __future__ import annotations

from trio.testing import MockClock

from support.memory import bench, settle
from trialogue.core.machine import Repeat
from trialogue.repeats import Repeats


async def test_a_repeated_id_never_generates_twice(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "a")
        it.service.emit("a", "x")
        it.service.done("a")
        await settle()
        await it.ask(client, "a")
        assert len(client.told("stream_start")) == 1
        assert [s for s in client.told("stream_status") if s["phase"] == "duplicate"]
        assert len(it.service.sessions) == 1


async def test_a_latecomers_repeat_is_sent_the_ended_turn(autojump_clock: MockClock) -> None:
    async with bench() as it:
        first = await it.connect()
        await it.ask(first, "a")
        it.service.emit("a", "x", "y")
        it.service.done("a")
        await settle()
        late = await it.connect(dialect="seed")
        assert late.frames == []
        await it.ask(late, "a")
        assert late.types() == ["stream_start", "stream_token", "stream_sources", "stream_end"]


async def test_a_latecomers_repeat_waits_for_the_running_turn(autojump_clock: MockClock) -> None:
    async with bench() as it:
        first = await it.connect()
        await it.ask(first, "a")
        it.service.emit("a", "x")
        it.service.done("a")
        await settle()
        await it.ask(first, "b")
        late = await it.connect(dialect="seed")
        await it.ask(late, "a")
        assert late.types() == ["stream_start"]
        await it.ask(first, "c")
        assert [(f["type"], f["message_id"]) for f in late.frames] == [
            ("stream_start", "b"),
            ("stream_end", "b"),
            ("stream_start", "a"),
            ("stream_token", "a"),
            ("stream_sources", "a"),
            ("stream_end", "a"),
            ("stream_start", "c"),
        ]


async def test_of_a_trimmed_turn_its_ending_is_told(autojump_clock: MockClock) -> None:
    async with bench(log_bytes=2_000) as it:
        first = await it.connect()
        for name in ("a", "b", "c", "d"):
            await it.ask(first, name)
            it.service.emit(name, "x" * 1_000)
            it.service.done(name)
            await settle()
        late = await it.connect(dialect="seed")
        await it.ask(late, "a")
        assert late.types() == ["stream_end"]
        assert (late.frames[0]["finish_reason"], late.frames[0]["total_tokens"]) == ("stop", 1)


async def test_asking_often_for_an_old_turn_brings_it_once_and_never_into_a_running_one() -> None:
    async with bench() as it:
        first = await it.connect()
        await it.ask(first, "z")
        it.service.done("z")
        await it.ask(first, "a")
        await it.ask(first, "q", on_busy="enqueue")
        late = await it.connect(dialect="seed")
        for _ in range(20):
            await it.ask(late, "z")
        first.say(type="cancel", message_id="q")
        await settle()
        assert "z" not in [frame["message_id"] for frame in late.frames]
        it.service.done("a")
        await settle()
        assert [frame["message_id"] for frame in late.told("stream_start")] == ["a", "z"]


async def test_a_past_turn_that_had_to_wait_for_its_reader_is_not_sent_into_the_next() -> None:
    async with bench() as it:
        one = await it.connect(dialect="seed")
        await it.ask(one, "a")
        it.service.emit("a", "x")
        it.service.done("a")
        await settle()
        slow = await it.connect()
        slow.full = True
        await it.ask(slow, "a")
        await it.ask(one, "b")
        it.service.emit("b", "y")
        slow.make_room()
        await settle()
        assert slow.types("a") == ["stream_status"]
        it.service.done("b")
        await settle()
        ends = [(frame["type"], frame["message_id"]) for frame in slow.told("stream_start", "stream_end")]
        assert ends == [("stream_start", "b"), ("stream_end", "b"), ("stream_start", "a"), ("stream_end", "a")]


def test_repr() -> None:
    repeats = Repeats({})
    repeats.ask(Repeat(1, "a"))
    repeats.ask(Repeat(1, "a"))
    assert repr(repeats) == "<Repeats, 1 due>"
