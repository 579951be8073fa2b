"""`connection.py`: one client, its bad habits, and its slowness; on a virtual clock."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from support.memory import bench, settle
from trialogue import Done, Progress
from trialogue.stay import Wake


async def test_a_full_transport_is_left_alone_until_it_has_room() -> None:
    async with bench() as it:
        slow, quick = await it.connect(dialect="seed"), await it.connect(dialect="seed")
        await it.ask(quick, "a")
        slow.full = True
        it.service.emit("a", "1")
        writes = slow.writes
        for n in range(2, 12):
            it.service.emit("a", str(n))
        assert slow.writes == writes
        assert len(quick.told("stream_token")) == 11
        slow.make_room()
        await settle()
        assert slow.writes == writes + 1
        assert slow.frames == quick.frames


async def test_a_client_that_takes_nothing_for_too_long_is_closed(autojump_clock: MockClock) -> None:
    async with bench() as it:
        stuck, other = await it.connect(dialect="seed"), await it.connect(dialect="seed")
        stuck.full = True
        await it.ask(other, "a")
        await trio.sleep(9.9)
        assert stuck.closed is None
        await trio.sleep(0.2)
        assert stuck.closed == (4000, "too slow")
        assert other.closed is None
        assert it.hub.connections == 1


async def test_a_client_too_slow_for_the_log_is_closed(autojump_clock: MockClock) -> None:
    async with bench(log_bytes=2_000) as it:
        slow, quick = await it.connect(dialect="seed"), await it.connect(dialect="seed")
        slow.full = True
        for name in "abcdef":
            await it.ask(quick, name)
            it.service.emit(name, "x" * 1_000, Done())
            it.service.finish(name)
            await settle()
        slow.make_room()
        await settle()
        assert slow.closed is not None
        assert slow.closed[0] == 4000
        assert quick.closed is None


async def test_the_generation_waits_for_its_only_reader_and_not_for_a_slow_one(autojump_clock: MockClock) -> None:
    async with bench(window=10) as it:
        slow = await it.connect(dialect="seed")
        await it.ask(slow, "a")
        emit = it.service.turns["a"]
        slow.full = True
        emit(["x"])
        assert not emit(["x"] * 20)
        quick = await it.connect(dialect="seed")
        assert emit([])
        quick.leave(1006)
        await settle()
        assert not emit([])
        slow.make_room()
        await settle()
        assert emit([])


async def test_waiting_for_readers_is_not_silence_of_the_pipeline(autojump_clock: MockClock) -> None:
    async with bench(window=10, token_timeout=5, stall_timeout=60) as it:
        slow = await it.connect(dialect="seed")
        await it.ask(slow, "a")
        emit = it.service.turns["a"]
        slow.full = True
        emit(["x"])
        emit(["x"] * 20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(emit.room)
            await trio.sleep(20)
            slow.make_room()
        assert not slow.told("stream_error")
        await trio.sleep(4)
        assert not slow.told("stream_error")
        await trio.sleep(4)
        assert slow.told("stream_error")[0]["error_code"] == "RAG-003"


async def test_with_no_reader_the_turn_runs_free(autojump_clock: MockClock) -> None:
    async with bench(window=10) as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        client.leave(1006)
        await settle()
        emit = it.service.turns["a"]
        assert emit(["x"] * 1000)


async def test_replies_wait_behind_the_entries_that_caused_them(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        client.full = True
        it.service.emit("a", "1")
        client.say(type="cancel")
        client.say(type="ping", id="p")
        await settle()
        client.make_room()
        await settle()
        kinds = client.types()[-4:]
        assert [kind for kind in kinds if kind != "stream_receipt"] == ["stream_end", "cancel_result", "pong"]


async def test_too_many_replies_for_a_full_transport_close_it(autojump_clock: MockClock) -> None:
    async with bench(max_replies=3) as it:
        client = await it.connect()
        other = await it.connect()
        client.full = True
        await it.ask(other, "a")
        for n in range(5):
            client.say(type="ping", id=n)
        await settle()
        client.make_room()
        await settle()
        assert client.closed == (4000, "too slow")
        assert other.closed is None


async def test_pings_are_answered_in_mid_stream_and_on_the_seed() -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.emit("a", "x")
        client.say(type="ping", id=7)
        client.say(type="ping")
        await settle()
        assert client.told("pong") == [{"type": "pong", "id": 7}, {"type": "pong", "id": None}]


async def test_a_renewed_credential_is_taken_silently_while_everybody_is_let_in() -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        client.say(type="auth", token="t")
        client.say(type="ping")
        await settle()
        assert client.types() == ["pong"]


async def test_a_transport_that_ends_while_it_is_full(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        client.full = True
        await it.ask(client, "a")
        client.end_while_full()
        client.leave(1006)
        await settle()
        assert it.hub.connections == 0


async def test_after_a_goodbye_nothing_is_obeyed(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        client.full = True
        client.say(type="ping")
        await settle()
        client.raw(b"binary")
        await it.ask(client, "late")
        assert not it.service.turns


async def test_a_long_replay_is_one_reply(autojump_clock: MockClock) -> None:
    async with bench(max_replies=2) as it:
        first = await it.connect()
        await it.ask(first, "z")
        for n in range(50):
            it.service.emit("z", f"t{n}", Progress({"event": "step"}))
        it.service.done("z")
        await settle()
        late = await it.connect()
        late.full = True
        late.say(type="ping")
        await it.ask(late, "z")
        late.make_room()
        await settle()
        assert late.closed is None
        assert late.types("z")[-1] == "stream_end"


async def test_a_client_is_answered_in_the_order_in_which_it_asked() -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        for n in range(100):
            client.say(message_id=f"r{n}", content="x", session_id="s", on_busy="reject")
            client.say(type="ping", id=n)
        await settle()
        kinds = [frame["type"] for frame in client.frames[1:]]
        assert kinds == ["stream_error", "pong"] * 100


async def test_what_waits_in_the_inbox_does_not_change_the_order_of_answers() -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        (session,) = it.hub.sessions.values()
        for n in range(20):
            for _ in range(5):
                session.tell(Wake())
            client.say(message_id=f"r{n}", content="x", session_id="s", on_busy="reject")
            client.say(type="ping", id=n)
            await settle()
        kinds = [frame["type"] for frame in client.frames[1:]]
        assert kinds == ["stream_error", "pong"] * 20


async def test_binary_frames_close_with_1003() -> None:
    async with bench() as it:
        client = await it.connect()
        client.raw(b"x")
        await settle()
        assert client.closed is not None
        assert client.closed[0] == 1003


@pytest.mark.parametrize(
    ("frame", "closes"), [("가" * 21_845 + "x", False), ("가" * 21_846, True), ("x" * 65_537, True)]
)
async def test_the_frame_limit_is_in_bytes(frame: str, closes: bool) -> None:
    async with bench() as it:
        client = await it.connect()
        client.raw(frame)
        await settle()
        assert (client.closed is not None) is closes
        if closes:
            assert client.closed is not None
            assert client.closed[0] == 1009
        else:
            assert client.frames[-1]["error_code"] == "WS-001"


BAD = [
    "",
    "{",
    "null",
    "[]",
    "1",
    '"x"',
    "[" * 5000,
    "9" * 5000,
    json.dumps({"message_id": "m", "content": " ", "session_id": "s"}),
]


@pytest.mark.parametrize("frame", BAD, ids=lambda frame: repr(frame[:12]))
async def test_bad_input_is_answered_and_the_connection_goes_on(frame: str) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        client.raw(frame)
        await it.ask(client, "a")
        assert client.types() == ["stream_error", "stream_start"]
        assert client.frames[0]["error_code"] == "WS-001"
        assert client.frames[0]["solutions"]


async def test_another_sessions_id_is_refused() -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a", session_id="t")
        client.say(type="cancel", message_id="a", session_id="t")
        await settle()
        assert [frame["error_code"] for frame in client.frames] == ["WS-004", "WS-004"]


async def test_without_a_service_messages_are_refused_and_pings_answered() -> None:
    async with bench() as it:
        it.hub.service = None
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        client.say(type="ping")
        await settle()
        assert client.types() == ["stream_error", "pong"]
        assert (client.frames[0]["error_code"], client.frames[0]["retry_after_ms"]) == ("WS-002", 2000)
        it.hub.service = it.service
        await it.ask(client, "a")
        assert client.types()[-1] == "stream_start"


async def test_too_many_frames_are_refused_and_say_when_to_come_back(autojump_clock: MockClock) -> None:
    async with bench(messages_per_minute=3) as it:
        client = await it.connect(dialect="seed")
        for n in range(4):
            client.say(type="ping", id=n)
        await settle()
        assert client.types() == ["pong", "pong", "pong", "stream_error"]
        refusal = client.frames[-1]
        assert refusal["error_code"] == "WS-005"
        await trio.sleep(refusal["retry_after_ms"] / 1000)
        client.say(type="ping", id="later")
        await settle()
        assert client.frames[-1] == {"type": "pong", "id": "later"}


async def test_too_many_turns_are_refused_but_not_their_repeats(autojump_clock: MockClock) -> None:
    async with bench(turns_per_minute=2) as it:
        client = await it.connect(dialect="seed")
        for name in ("a", "b", "c", "a"):
            await it.ask(client, name)
        assert [frame["error_code"] for frame in client.told("stream_error")] == ["WS-005"]
        assert len(it.service.sessions) == 2


async def test_a_silent_peer_is_lost_and_one_that_answers_is_not(autojump_clock: MockClock) -> None:
    async with bench() as it:
        silent, other = await it.connect(), await it.connect()
        await trio.sleep(20.1)
        assert (silent.probes, other.probes) == (1, 1)
        silent.silent = True
        await trio.sleep(19.8)
        assert it.hub.connections == 2
        await trio.sleep(0.2)
        assert it.hub.connections == 1
        assert silent.closed is None  # to whom should a close frame be sent?
        await trio.sleep(100)
        assert other.probes == 7


async def test_typing_is_relayed_to_the_others_and_never_logged() -> None:
    async with bench() as it:
        one, two, plain = await it.connect(), await it.connect(), await it.connect(dialect="seed")
        end = it.hub.sessions["", "s"].log.end
        one.say(type="typing", active=True)
        await settle()
        assert two.told("typing") == [{"type": "typing", "active": True}]
        assert not one.told("typing")
        assert plain.frames == []
        assert it.hub.sessions["", "s"].log.end == end


async def test_a_transport_that_breaks_its_contract_hurts_nobody_else() -> None:
    async with bench() as it:
        good, bad = await it.connect(dialect="seed"), await it.connect(dialect="seed")
        bad.broken = True
        await it.ask(good, "a")
        it.service.emit("a", "x")
        await settle()
        assert good.types() == ["stream_start", "stream_token"]
        assert bad.closed == (1011, "internal error")
        assert it.hub.connections == 1


@pytest.mark.parametrize("ticks", range(5))
async def test_an_append_while_a_stuck_client_leaves_is_no_error(ticks: int, caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as it:
        stuck, other = await it.connect(dialect="seed"), await it.connect(dialect="seed")
        await it.ask(other, "a")
        stuck.full = True
        stuck.leave(1006)
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        it.service.emit("a", "x")
        await settle()
        assert other.types() == ["stream_start", "stream_token"]
        assert it.hub.connections == 1
    assert caplog.records == []


async def test_a_replay_is_sent_in_bounded_pieces() -> None:
    async with bench(window=10_000) as it:
        first = await it.connect(dialect="seed")
        await it.ask(first, "a")
        it.service.emit("a", *["x"] * 2_000)
        late = await it.connect(dialect="seed")
        assert len(late.told("stream_token")) == 2_000
        assert late.writes > 5


async def test_cancelled_from_outside_it_is_a_drop(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        client.leave(1006)
        await settle()
        assert it.service.open == 1


async def test_the_first_frame_of_v1_is_the_session() -> None:
    async with bench() as it:
        client = await it.connect()
        (ready,) = client.frames
        assert list(ready) == [
            "type",
            "session_id",
            "position",
            "resumed",
            "running",
            "queued",
            "connections",
            "limits",
            "heartbeat_s",
        ]
        assert (ready["resumed"], ready["running"], ready["queued"], ready["connections"]) == ("new", None, [], 1)
