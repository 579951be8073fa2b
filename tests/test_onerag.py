"""The `onerag` dialect on the engine: connections that come back in mid-turn, and sessions that are deleted."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from support.memory import Attentive, MemoryTransport, Scripted, bench, settle
from trialogue import Failure, Fault, Metadata, Position
from trialogue.core.events import Receipt


def text(client: MemoryTransport, message_id: str) -> str:
    return "".join(frame["token"] for frame in client.told("stream_token") if frame["message_id"] == message_id)


async def test_metadata_that_says_nothing_starts_the_turn_and_nobody_else_notices(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client, v1 = await it.connect(dialect="onerag"), await it.connect()
        await it.ask(client, "a")
        assert client.types() == []
        it.service.emit("a", Metadata())
        it.service.emit("a", Metadata(session_id="s"))
        assert client.types() == ["stream_start"]
        it.service.emit("a", "x")
        it.service.done("a")
        await settle()
        assert client.types() == ["stream_start", "stream_token", "stream_sources", "stream_end"]
        offsets = [frame["offset"] for frame in v1.frames if "offset" in frame]
        assert offsets == list(range(1, len(offsets) + 1))
        assert v1.types("a") == [
            *("user_message", "stream_start", "stream_status", "stream_status"),
            *("stream_token", "stream_sources", "stream_end", "stream_receipt"),
        ]


async def test_the_start_tells_the_id_that_the_service_confirmed_also_in_later_turns(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag")
        await it.ask(client, "a")
        it.service.emit("a", Metadata([{"title": "t"}], session_id="theirs", data={"found": 1}))
        assert [frame["session_id"] for frame in client.told("stream_start")] == ["theirs"]
        it.service.done("a")
        await settle()
        late = await it.connect(dialect="onerag")
        await it.ask(client, "b", session_id="theirs")
        it.service.emit("b", "no metadata")
        for one in (client, late):
            assert one.told("stream_start")[-1]["session_id"] == "theirs"


async def test_a_service_that_confirms_what_it_was_given_tells_clients_nothing_new(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag", principal="alice")
        await it.ask(client, "a")
        it.service.emit("a", Metadata(session_id=it.service.sessions[-1]))
        assert it.service.sessions == ["alice/s"]
        assert [frame["session_id"] for frame in client.told("stream_start")] == ["s"]


async def test_an_error_before_metadata_has_no_start(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag")
        await it.ask(client, "a")
        it.service.emit("a", Failure(Fault("GEN-042", message="No")))
        await settle()
        assert client.types() == ["stream_error"]
        assert client.frames[0]["error_code"] == "GEN-042"


async def test_each_return_in_mid_turn_has_a_name_of_its_own_and_the_whole_turn(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag")
        await it.ask(client, "a")
        it.service.emit("a", Metadata([{"title": "t"}], session_id="theirs"), "one ")
        client.leave(1006)
        await settle()
        first = await it.connect(dialect="onerag")
        it.service.emit("a", "two ")
        first.leave(1006)
        await settle()
        v1 = await it.connect()  # a device that resumes by position is no return
        second = await it.connect(dialect="onerag")
        it.service.emit("a", "three")
        it.service.done("a")
        await settle()
        assert text(first, "a~r1") == "one two "
        assert text(second, "a~r2") == text(v1, "a") == "one two three"
        assert second.types() == ["stream_start", "stream_token", "stream_sources", "stream_end"]
        assert {frame["message_id"] for frame in second.frames} == {"a~r2"}
        assert second.told("stream_start")[0]["session_id"] == "theirs"
        await it.ask(second, "b")
        it.service.emit("b", "x")
        assert text(second, "b") == "x"
        third = await it.connect(dialect="onerag")
        assert text(third, "b~r1") == "x"


async def test_who_comes_back_between_turns_is_told_nothing(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag")
        await it.ask(client, "a")
        it.service.emit("a", "x")
        it.service.done("a")
        await settle()
        back = await it.connect(dialect="onerag")
        assert back.frames == []
        await it.ask(back, "a")  # not sure whether it had arrived
        assert back.types("a") == ["stream_start", "stream_token", "stream_sources", "stream_end"]
        assert len(it.service.turns) == 1


async def test_who_comes_back_before_metadata_waits_for_it_too(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag")
        await it.ask(client, "a")
        client.leave(1006)
        await settle()
        back = await it.connect(dialect="onerag")
        assert back.frames == []
        it.service.emit("a", Metadata())
        assert back.types("a~r1") == ["stream_start"]
        third = await it.connect(dialect="onerag")
        assert third.types("a~r2") == ["stream_start"]


async def test_a_position_means_nothing_in_this_dialect(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag")
        await it.ask(client, "a")
        it.service.emit("a", "one ", "two ")
        log = (await it.hub.session("", "s")).log
        back = await it.connect(dialect="onerag", after=Position(log.epoch, log.end - 1))
        assert text(back, "a~r1") == "one two "


async def test_a_turn_is_stopped_under_the_name_that_its_client_knows(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag")
        await it.ask(client, "a")
        it.service.emit("a", "x")
        back = await it.connect(dialect="onerag")
        back.say(type="ack", message_id="a~r1", index=0)
        back.say(type="cancel", message_id="a~r1")
        await settle()
        assert [frame["finish_reason"] for frame in back.told("stream_end")] == ["cancelled"]
        assert [frame["message_id"] for frame in client.told("stream_end")] == ["a"]
        log = (await it.hub.session("", "s")).log
        assert [event.acked for _, event in log.read(0, log.end) if isinstance(event, Receipt)] == [1]


async def test_bad_frames_have_the_deployed_server_s_names(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="onerag")
        client.raw("{no json")
        client.raw("[]")
        client.say(message_id="a", content="q", session_id="elsewhere")
        await settle()
        assert [frame["error_code"] for frame in client.frames] == [
            "WS-001-INVALID_JSON",
            "WS-002-VALIDATION_ERROR",
            "WS-002-VALIDATION_ERROR",
        ]


# Sessions that are made and deleted from outside.


async def test_a_deleted_session_ends_its_turns_and_its_connections_and_is_gone(autojump_clock: MockClock) -> None:
    async with bench(Attentive()) as it:
        client, v1 = await it.connect(dialect="onerag"), await it.connect()
        await it.ask(client, "a")
        it.service.emit("a", "x")
        await it.ask(client, "b", on_busy="enqueue")
        assert it.hub.delete("", "s")
        client.say(message_id="c", content="too late", session_id="s")
        await settle()
        assert [frame["finish_reason"] for frame in v1.told("stream_end")] == ["cancelled", "cancelled"]
        assert v1.types()[-1] == "stream_receipt"
        assert [frame["message_id"] for frame in client.told("stream_end")] == ["a", "b"]
        assert client.closed == v1.closed == (1000, "the session was deleted")
        assert "c" not in it.service.turns
        assert [receipt.message_id for receipt, _ in it.service.heard] == ["a"]
        assert it.hub.sessions == {}
        assert not it.hub.delete("", "s")
        assert it.hub.shelf.bytes == 0


async def test_a_deleted_session_waits_for_nobody_to_come_back(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False)) as it:
        client = await it.connect(dialect="onerag")
        await it.ask(client, "a")
        old = await it.hub.session("", "s")
        client.leave(1006)
        await settle()
        assert it.hub.delete("", "s")
        again = await it.connect()
        assert again.frames[0]["resumed"] == "new"
        assert (await it.hub.session("", "s")) is not old
        assert it.hub.shelf.vacant == 1  # the old one, until its upstream is given up
        await trio.sleep(1)
        assert it.hub.shelf.vacant == 0


async def test_a_reserved_session_is_there_and_goes_when_nobody_comes(autojump_clock: MockClock) -> None:
    async with bench(session_ttl=5) as it:
        (await it.hub.session("", "s")).reserve()
        await settle()
        assert ("", "s") in it.hub.sessions
        assert it.hub.shelf.vacant == 1
        await trio.sleep(6)
        assert it.hub.sessions == {}
