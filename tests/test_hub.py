"""`hub.py`: finding sessions, supervising them, and speaking to them from outside."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from support.memory import Attentive, Bench, Scripted, bench, settle
from trialogue import Connection, Ending, Handshake, Hub, Limits, dialect_for
from trialogue.core.machine import Cancel
from trialogue.generation import Generation
from trialogue.memory_log import MemoryLog
from trialogue.session import Crash, Session


class Recorder:
    """A meter that writes down."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.facts.append((name, values))

    def count(self, name: str) -> int:
        return sum(fact == name for fact, _ in self.facts)


async def test_applications_speak_to_one_session_or_to_all() -> None:
    async with bench() as it:
        one, two, other = await it.connect("s"), await it.connect("s", "seed"), await it.connect("t")
        assert it.hub.is_connected("s")
        assert not it.hub.is_connected("u")
        assert it.hub.send_json("s", {"type": "news"}) == 2
        assert it.hub.send_json("u", {"type": "news"}) == 0
        assert it.hub.broadcast({"type": "all"}) == 3
        for client in (one, two):
            assert [frame["type"] for frame in client.told("news", "all")] == ["news", "all"]
        assert other.told("news", "all") == [{"type": "all"}]


async def test_a_broken_connection_hurts_no_other_of_a_broadcast() -> None:
    async with bench() as it:
        bad, good = await it.connect("s"), await it.connect("t")
        bad.broken = True
        it.hub.broadcast({"type": "all"})
        await settle()
        assert good.told("all")
        assert bad.closed == (1011, "internal error")
        assert not it.hub.is_connected("s")


async def test_sessions_of_different_principals_never_meet() -> None:
    async with bench() as it:
        assert (await it.hub.session("alice", "s")) is not (await it.hub.session("bob", "s"))
        assert (await it.hub.session("alice", "s")) is (await it.hub.session("alice", "s"))


async def test_epochs_grow_even_if_the_clock_does_not() -> None:
    hub = Hub(Scripted(), now_ms=lambda: 1000)
    async with hub.open():
        epochs = [(await hub.session("", name)).log.epoch for name in "abc"]
    assert epochs == [1000, 1001, 1002]


async def test_without_a_running_hub_nobody_attaches() -> None:
    hub = Hub(Scripted())
    assert not hub.running
    with pytest.raises(RuntimeError, match="not running"):
        (await hub.session("", "s"))
    assert repr(hub) == "<Hub closed, 0 sessions, 0 connections>"


def test_a_hub_that_is_opened_again_counts_by_its_new_clock() -> None:
    """Each run of Trio has a clock of its own, and a budget of the last one's may lie in the future of this one's."""
    hub = Hub(limits=Limits(handshakes_per_second=1))

    async def knock() -> list[bool]:
        async with hub.open():
            return [hub.admission.knock("a") for _ in range(2)]

    assert trio.run(knock) == [True, False]
    assert trio.run(knock, clock=MockClock()) == [True, False]


async def test_a_crash_ends_the_running_turn_and_the_queue_goes_on() -> None:
    async with bench() as it:
        client, other = await it.connect(), await it.connect("t")
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="enqueue", options={"top_k": 3})
        await it.ask(other, "x", session_id="t")
        it.hub.sessions["", "s"].tell(Crash(RuntimeError("planted")))
        await settle()
        assert client.told("stream_error")[0] | {"message": "", "solutions": [], "offset": 0} == {
            "type": "stream_error",
            "message_id": "a",
            "error_code": "WS-007",
            "message": "",
            "solutions": [],
            "offset": 0,
        }
        assert client.told("stream_start")[-1]["message_id"] == "b"
        assert it.service.most_open == 2  # one of each session: the crashed generation was joined
        assert it.service.closed == ["a"]
        it.service.done("b")
        await it.ask(client, "c")
        it.service.done("c")
        await settle()
        assert [end["message_id"] for end in client.told("stream_end")] == ["b", "c"]
        assert other.types() == ["session_ready", "user_message", "stream_start", "stream_status"]


async def test_a_crash_waits_for_an_upstream_that_refuses(autojump_clock: MockClock) -> None:
    async with bench(Attentive(obeys=False)) as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.hub.sessions["", "s"].tell(Crash(RuntimeError("planted")))
        await it.ask(client, "b")
        assert list(it.service.turns) == ["a"]
        await trio.sleep(0.3)
        assert list(it.service.turns) == ["a", "b"]


async def test_a_crash_does_not_change_how_an_earlier_turn_ended(autojump_clock: MockClock) -> None:
    async with bench(Attentive(closes_after=0.1)) as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="rollback")
        it.hub.sessions["", "s"].tell(Crash(RuntimeError("planted")))
        await trio.sleep(1)
        assert it.service.heard[0][0].ending is Ending.RETRACTED


async def test_a_session_that_cannot_be_given_up_lets_its_connections_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as it:
        client, other = await it.connect(), await it.connect("t")
        await it.ask(client, "a")
        monkeypatch.setattr(Session, "_unended", lambda self: 1 / 0)
        it.hub.sessions["", "s"].tell(Crash(RuntimeError("planted")))
        await settle()
        assert client.closed is not None
        assert client.closed[0] == 1011
        assert it.hub.is_connected("t")
        assert other.closed is None


async def test_the_message_whose_handling_crashed_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        session = it.hub.sessions["", "s"]
        perform = Session._perform

        def crash(self: Session, effects: Any) -> None:
            monkeypatch.setattr(Session, "_perform", perform)
            raise RuntimeError("planted")

        monkeypatch.setattr(Session, "_perform", crash)
        await it.ask(client, "a")
        assert session.state.idle
        assert client.frames[-1]["error_code"] == "WS-007"
        await it.ask(client, "a")
        assert client.types()[-1] == "stream_start"


async def test_a_repeat_after_a_crash_does_not_generate_again() -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.done("a")
        await settle()
        it.hub.sessions["", "s"].tell(Crash(RuntimeError("planted")))
        await settle()
        await it.ask(client, "a")
        assert len(client.told("stream_start")) == 1


async def test_a_bug_in_an_append_crashes_its_session_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as it:
        client, other = await it.connect(), await it.connect("t")
        await it.ask(client, "a")
        await it.ask(other, "x", session_id="t")
        append = MemoryLog.append_tokens

        def crash(self: MemoryLog, tokens: Any, size: int) -> None:
            monkeypatch.setattr(MemoryLog, "append_tokens", append)
            raise RuntimeError("planted")

        monkeypatch.setattr(MemoryLog, "append_tokens", crash)
        it.service.emit("a", "x")
        await settle()
        assert client.told("stream_error")[0]["error_code"] == "WS-007"
        it.service.emit("x", "fine")
        assert other.told("stream_token")


async def test_a_session_that_crashes_too_often_is_closed() -> None:
    meter = Recorder()
    async with bench() as it:
        it.hub.meter = meter
        client, other = await it.connect(), await it.connect("t")
        for n in range(4):
            await it.ask(client, f"m{n}", on_busy="enqueue")
        session = it.hub.sessions["", "s"]
        for _ in range(4):
            session.tell(Crash(RuntimeError("planted")))
            await settle()
        assert meter.count("crashed") == 4
        assert client.closed is not None
        assert client.closed[0] == 1011
        endings = [frame["message_id"] for frame in client.told("stream_error")]
        assert endings == ["m0", "m1", "m2", "m3"]
        assert ("", "s") not in it.hub.sessions
        assert other.closed is None
        assert it.hub.shelf.vacant == 0  # its client has left by now, but it is nobody's to come back to


async def test_three_crashes_in_half_a_minute_are_forgiven(autojump_clock: MockClock) -> None:
    async with bench(session_ttl=1e6) as it:
        client = await it.connect()
        session = it.hub.sessions["", "s"]
        for _ in range(12):
            session.tell(Crash(RuntimeError("planted")))
            await trio.sleep(10.1)
        assert client.closed is None


async def test_a_turn_without_a_place_waits_says_so_and_gets_the_next() -> None:
    async with bench(max_generations=1) as it:
        one, two = await it.connect("s"), await it.connect("t")
        await it.ask(one, "a")
        await it.ask(two, "b", session_id="t")
        assert two.types("b") == ["user_message", "stream_start", "stream_status"]
        assert (two.frames[-1]["phase"], two.frames[-1]["for"]) == ("waiting", "capacity")
        assert list(it.service.turns) == ["a"]
        it.service.done("a")
        await settle()
        assert two.frames[-1]["phase"] == "retrieving"
        assert list(it.service.turns) == ["a", "b"]


async def test_of_more_waiting_turns_than_may_wait_one_is_refused() -> None:
    async with bench(max_generations=1, max_waiting=2) as it:
        clients = [await it.connect(session_id, "seed") for session_id in "stuv"]
        for client, session_id in zip(clients, "stuv", strict=True):
            await it.ask(client, f"m-{session_id}", session_id=session_id)
        assert [client.types() for client in clients] == [["stream_start"]] * 3 + [["stream_error"]]
        assert clients[3].frames[-1]["error_code"] == "WS-010"
        it.service.done("m-s")
        await settle()
        await it.ask(clients[3], "m-v", session_id="v")
        assert clients[3].types()[-1] == "stream_start"


async def test_a_turn_that_is_cancelled_while_it_waits_ends_once_and_the_service_never_hears_of_it() -> None:
    async with bench(max_generations=1) as it:
        one, two = await it.connect("s"), await it.connect("t")
        await it.ask(one, "a")
        await it.ask(two, "b", session_id="t")
        two.say(type="cancel", message_id="b")
        await settle()
        assert two.types("b")[-3:] == ["stream_end", "cancel_result", "stream_receipt"]
        assert it.hub.slots.waiting == 0
        it.service.done("a")
        await settle()
        assert list(it.service.turns) == ["a"]
        assert (it.hub.slots.held, it.hub.census.open) == (0, 0)
        await it.ask(two, "c", session_id="t")
        assert list(it.service.turns) == ["a", "c"]


async def test_an_interrupt_passes_its_place_on(autojump_clock: MockClock) -> None:
    async with bench(max_generations=1) as it:
        one, two = await it.connect("s"), await it.connect("t")
        await it.ask(one, "a")
        await it.ask(two, "b", session_id="t")
        await it.ask(one, "c")  # the place of `a` goes to `b`, which came first
        assert list(it.service.turns) == ["a", "b"]
        assert one.frames[-1]["phase"] == "waiting"
        it.service.done("b")
        await settle()
        assert list(it.service.turns) == ["a", "b", "c"]


async def test_an_abandoned_upstream_gives_its_place_back(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False), max_generations=1) as it:
        one, two = await it.connect("s"), await it.connect("t")
        await it.ask(one, "a")
        await it.ask(two, "b", session_id="t")
        one.say(type="cancel", message_id="a")
        await settle()
        assert list(it.service.turns) == ["a"]
        await trio.sleep(0.3)
        assert list(it.service.turns) == ["a", "b"]
        assert it.hub.census.abandoned == 1


async def test_a_bug_while_settling_crashes_the_session_and_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        monkeypatch.setattr(Generation, "_sent", lambda *arguments: 1 / 0)
        it.service.done("a")
        await settle()
        monkeypatch.undo()
        await it.ask(client, "b")
        assert client.types("b")[-1] == "stream_status"
        assert list(it.service.turns) == ["a", "b"]


async def test_tokens_are_counted_once_per_turn_when_it_is_settled(autojump_clock: MockClock) -> None:
    """And from the cancel to the end, and to the upstream's end, and what came too late."""
    meter, service = Recorder(), Scripted(closes_after=0.1)
    async with Hub(service, Limits(), meter).open() as hub, trio.open_nursery() as nursery:
        it = Bench(hub, service, nursery)
        client = await it.connect()
        await it.ask(client, "m")
        service.emit("m", "one", "two")
        client.say(type="cancel")
        await settle()
        assert meter.count("ended") == meter.count("stopped") == 1
        assert not meter.count("settled")
        service.emit("m", "too late")
        await trio.sleep(1)
        facts = dict(meter.facts)
        assert (facts["settled"], facts["wasted"]) == ((2, 2), (1,))
        assert facts["upstream_closed"] == (pytest.approx(0.1),)
        assert facts["stopped"] == (pytest.approx(0.0),)
        assert meter.count("settled") == meter.count("attached") == 1
        nursery.cancel_scope.cancel()


async def test_facts_add_up() -> None:
    meter = Recorder()
    hub = Hub(Scripted(), Limits(), meter)
    async with hub.open(), trio.open_nursery() as nursery:
        from support.memory import MemoryTransport

        transport = MemoryTransport()
        nursery.start_soon(Connection(hub, transport, dialect_for("seed", "en"), Handshake("s")).run)
        await settle()
        for name in "abc":
            transport.say(message_id=name, content="x", session_id="s")
        transport.raw("null")
        await settle()
        hub.sessions["", "s"].tell(Cancel(None, None))
        await settle()
        nursery.cancel_scope.cancel()
    assert meter.count("accepted") == meter.count("ended") == 3
    assert [values[0] for name, values in meter.facts if name == "refused"] == ["WS-001"]


async def test_a_service_that_dies_leaves_what_waits_waiting_for_the_next(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="enqueue")
        it.hub.service = None
        it.service.done("a")
        await settle()
        assert client.frames[-1]["type"] == "stream_status"
        assert client.frames[-1]["phase"] == "waiting"
        it.hub.service = it.service
        await settle()
        it.service.done("b")
        await settle()
        assert [end["message_id"] for end in client.told("stream_end")] == ["a", "b"]
