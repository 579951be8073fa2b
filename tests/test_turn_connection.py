"""A connection that is for one turn: where it starts, that it ends with it, and what leaving means; a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from support.event_stream import EventReader, Sse, text_of
from support.memory import Bench, MemoryTransport, bench, settle
from trialogue import Connection, Done, Handshake, Policy, Position, SseDialect, Turn


class EventTransport(MemoryTransport):
    """A client end that reads events. Like HTTP's, it parks what it is given until it is drained."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = EventReader()
        self.events: list[Sse] = []

    def write(self, frames: Sequence[bytes]) -> bool:
        self.writes += 1
        self.events += self.reader.feed(b"".join(frames))
        return False

    def names(self) -> list[str]:
        """Chunks in a row told once."""
        names = [event.name for event in self.events]
        return [name for n, name in enumerate(names) if not (n and name == names[n - 1] == "chunk")]


async def follow(it: Bench, message_id: str, after: Position | None = None, **frame: str) -> EventTransport:
    transport = EventTransport()
    handshake = Handshake("s", after=after, turn=message_id)
    connection = Connection(it.hub, transport, SseDialect(message_id, "en"), handshake)
    it.start(connection)
    await it.ask(transport, message_id, **frame)
    return transport


async def answered(it: Bench, name: str, *tokens: str) -> EventTransport:
    transport = await follow(it, name)
    it.service.emit(name, *tokens, Done())
    it.service.finish(name)
    await settle()
    return transport


async def test_it_ends_with_its_turn() -> None:
    async with bench() as it:
        one = await answered(it, "a", "x", "y")
        assert one.names() == ["metadata", "chunk", "metadata", "done"]
        assert one.closed == (1000, "all is told")
        assert it.hub.connections == 0


async def test_its_end_stops_no_other_turn(autojump_clock: MockClock) -> None:
    async with bench(linger=5) as it:
        first = await follow(it, "a")
        second = await follow(it, "b", on_busy="enqueue")
        second.leave(1006)
        it.service.done("a")
        await settle()
        assert first.closed == (1000, "all is told")
        await trio.sleep(4)
        assert it.service.open == 1
        await trio.sleep(2)
        assert it.service.closed == ["a", "b"]


@pytest.mark.parametrize("ended", [False, True])
async def test_it_resumes_with_the_rest_at_every_position(ended: bool) -> None:
    async with bench() as it:
        before = await answered(it, "before", "z")
        if ended:
            whole = await answered(it, "a", *"uvwxy")
        else:
            whole = await follow(it, "a")
            it.service.emit("a", *"uvwxy")
        epoch = it.hub.sessions["", "s"].log.epoch
        for offset in range(before.events[0].offset, it.hub.sessions["", "s"].log.end + 1):
            again = await follow(it, "a", Position(epoch, offset))
            told = [event for event in whole.events if event.offset <= offset or not ended]
            rest = [event for event in whole.events[1:] if event.offset > offset] or (
                whole.events[-1:] if ended else []
            )
            assert again.events[0].body["resumed"] == "replayed"
            assert again.events[1:] == rest, (offset, told)
            assert (again.closed is not None) is ended
            again.leave(1006)
        assert len(it.service.sessions) == 2


async def test_without_a_position_a_known_turn_comes_from_its_start_with_positions() -> None:
    async with bench() as it:
        past = await answered(it, "a", "x", "y")
        running = await follow(it, "b")
        again = await follow(it, "a")
        assert again.events[1:] == past.events[1:]
        assert again.closed
        it.service.emit("b", "1")
        late = await follow(it, "b")
        assert late.events[1:] == running.events[1:]
        assert it.service.sessions == ["s", "s"]


@pytest.mark.parametrize("position", [Position(1, 0), Position(2**60, 0)])
async def test_an_unknown_position_is_a_gap_and_the_turn_comes_from_its_start(position: Position) -> None:
    async with bench() as it:
        past = await answered(it, "a", "x", "y")
        again = await follow(it, "a", position)
        assert again.events[0].body["resumed"] == "gap"
        assert again.events[1:] == past.events[1:]


async def test_of_a_turn_that_is_trimmed_only_the_ending_is_told() -> None:
    async with bench(log_bytes=2_000) as it:
        past = await answered(it, "a", "x", "y")
        for name in "bcdef":
            await answered(it, name, "z" * 1_000)
        log = it.hub.sessions["", "s"].log
        assert log.start > past.events[-1].offset
        for after in (None, Position(log.epoch, past.events[1].offset), Position(log.epoch, log.end)):
            again = await follow(it, "a", after)
            assert again.names() == ["metadata", "done"]
            assert again.closed
        assert it.service.sessions == ["s"] * 6


async def test_of_a_turn_that_is_partly_trimmed_the_rest_is_told_to_who_has_its_beginning() -> None:
    async with bench() as it:
        past = await answered(it, "a", "x", "y")
        log = it.hub.sessions["", "s"].log
        while log.start < past.events[1].offset:
            log._trim(1)  # type: ignore[attr-defined]
        assert log.start < past.events[-1].offset
        again = await follow(it, "a", Position(log.epoch, log.start))
        assert again.events[0].body["resumed"] == "replayed"
        assert again.events[1:] == [event for event in past.events if event.offset > log.start]
        assert (await follow(it, "a")).names() == ["metadata", "done"]


async def test_other_turns_are_not_told_and_a_newer_message_ends_it() -> None:
    async with bench() as it:
        first = await follow(it, "a")
        it.service.emit("a", "old")
        second = await follow(it, "b")
        it.service.emit("b", "new", Done())
        await settle()
        assert first.events[-1].body["finish_reason"] == "interrupted"
        assert (text_of(first.events), text_of(second.events)) == ("old", "new")
        assert first.closed
        assert second.closed


async def test_a_refusal_is_an_error_and_the_end() -> None:
    async with bench() as it:
        await follow(it, "a")
        refused = await follow(it, "b", on_busy="reject")
        assert refused.names() == ["metadata", "error"]
        assert refused.events[-1].body["error_code"] == "WS-003"
        assert refused.closed


async def test_leaving_is_a_drop_and_the_end_waits_in_the_log(autojump_clock: MockClock) -> None:
    async with bench(linger=5) as it:
        client = await follow(it, "a")
        client.leave(1006)
        await trio.sleep(4)
        it.service.emit("a", "x", Done())
        it.service.finish("a")
        await settle()
        again = await follow(it, "a", Position(*map(int, client.events[-1].id.split(":"))))
        assert again.names()[1:] == ["chunk", "metadata", "done"]


async def test_it_is_told_that_it_is_alive(autojump_clock: MockClock) -> None:
    async with bench(first_token_timeout=0) as it:
        quiet, seed = await follow(it, "a"), await it.connect(dialect="seed")
        await trio.sleep(61)
        assert quiet.reader.comments == ["ping"] * 3
        assert seed.frames == [frame for frame in seed.frames if frame["type"] == "stream_start"]


async def test_a_full_one_is_sent_no_heartbeat_and_no_more_than_a_batch(autojump_clock: MockClock) -> None:
    async with bench(window=10, stall_timeout=100) as it:
        stuck = await follow(it, "a")
        stuck.full = True
        it.service.emit("a", "x")
        assert not it.service.turns["a"](["y"] * 20)
        writes = stuck.writes
        await trio.sleep(60)
        assert stuck.writes == writes
        stuck.make_room()
        await settle()
        assert text_of(stuck.events) == "x" + "y" * 20


async def test_the_hub_foresees_what_a_session_would_refuse() -> None:
    async with bench(queue_size=0) as it:
        fresh = Turn("b", "b")
        assert await it.hub.foresee("", "s", fresh) is None
        await follow(it, "a")
        assert await it.hub.foresee("", "s", fresh) is None
        for policy in (Policy.REJECT, Policy.ENQUEUE):
            fault = await it.hub.foresee("", "s", Turn("b", "b", policy))
            assert fault
            assert fault.code == "WS-003"
        other = await it.hub.foresee("", "s", Turn("a", "another"))
        assert other
        assert other.code == "WS-001"
        it.hub.service = None
        assert await it.hub.foresee("", "s", Turn("a", "a")) is None, "what is known may always be followed"
        missing = await it.hub.foresee("", "s", fresh)
        assert missing
        assert missing.code == "WS-002"
        it.hub.service = it.service
