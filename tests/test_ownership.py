"""`ownership.py` with `shared_log.py`: owners that are lost, stopped, cut off or late, and the store's own faults."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from support.memory import MemoryTransport
from support.nodes import a_while, cluster, ends, position, tokens, two
from trialogue import Connection, Handshake, dialect_for
from trialogue.core.events import Failed, Fenced, Snapshot, Started, Status, UserMessage
from trialogue.session import Session

# ── A lost owner ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_killed_owners_turn_ends_once_and_the_queue_goes_on(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "seen")
        await it.ask(two_, "n", on_busy="enqueue")
        seen = position(one)
        it.a.kill()
        await trio.sleep(6)
        assert ends(two_) == [("m", "WS-008")]
        assert it.owner is it.b
        it.service.emit("n", "go")
        it.service.done("n")
        await a_while()
        assert tokens(two_, "n") == "go"
        assert ends(two_) == [("m", "WS-008"), ("n", "stop")]
        told = [frame for frame in two_.frames if "epoch" in frame]
        assert len(told) == 1
        assert told[0]["type"] == "stream_error"
        back = await it.c.connect(after=seen)
        assert back.frames[0]["resumed"] == "replayed"
        assert ends(back) == [("m", "WS-008"), ("n", "stop")]
        offsets = [one.offset for one in it.server.streams["", "s"]]
        assert len(set(offsets)) == len(offsets)


async def test_a_turn_of_which_nothing_was_told_is_generated_afresh(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.a.kill()
        await trio.sleep(6)
        assert ends(two_) == []
        assert it.service.sessions == ["s", "s"], "generated a second time, the only case"
        it.service.emit("m", "x")
        it.service.done("m")
        await a_while()
        assert ends(two_) == [("m", "stop")]
        assert len([event for event in it.events() if isinstance(event, Started)]) == 1


async def test_what_was_asked_of_a_lost_owner_is_asked_of_the_next(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        _, two_ = await two(it)
        it.a.kill()
        await it.ask(two_, "m")
        assert two_.types() == ["session_ready", "presence"]
        await trio.sleep(6)
        it.service.done("m")
        await a_while()
        assert ends(two_) == [("m", "stop")]


async def test_who_comes_back_to_a_lost_session_takes_it_over(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one = await it.a.connect()
        await it.ask(one, "m")
        it.service.emit("m", "x")
        await a_while()
        it.a.kill()
        await trio.sleep(6)
        back = await it.b.connect(after=position(one))
        assert back.frames[0]["resumed"] == "replayed"
        assert ends(back) == [("m", "WS-008")]
        await it.ask(back, "m")
        assert ends(back)[-1] == ("m", "WS-008")
        assert it.service.sessions == ["s"]


async def test_the_clients_of_a_lost_node_are_dropped(autojump_clock: MockClock) -> None:
    async with cluster(linger=30) as it:
        one, _ = await two(it)
        it.b.kill()
        await trio.sleep(6)
        assert one.told("presence")[-1]["connections"] == 1


@pytest.mark.parametrize("trusting", [False, True])
async def test_a_stopped_owner_writes_nothing_when_it_wakes(trusting: bool, autojump_clock: MockClock) -> None:
    async with cluster(trusting=trusting) as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "x")
        await a_while()
        it.a.store.frozen = True
        it.service.emit("m", "never")
        await trio.sleep(10)
        assert ends(two_) == [("m", "WS-008")]
        it.a.store.frozen = False
        await a_while(2)
        assert ends(one) == [("m", "WS-008")]
        assert tokens(one, "m") == tokens(two_, "m") == "x"
        assert it.owner is it.b
        await it.ask(one, "n")
        it.service.done("n")
        await a_while()
        assert ends(one) == ends(two_) == [("m", "WS-008"), ("n", "stop")]


async def test_a_node_takes_over_before_its_service_is_there_and_what_waits_goes_on_when_it_is(
    autojump_clock: MockClock,
) -> None:
    async with cluster("ab") as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "seen")
        await it.ask(one, "n", on_busy="enqueue")
        it.b.hub.service = None
        it.a.kill()
        await trio.sleep(6)
        assert ends(two_) == [("m", "WS-008")]
        assert (two_.frames[-1]["phase"], two_.frames[-1]["for"]) == ("waiting", "capacity")
        await it.ask(two_, "o")
        assert ends(two_)[1:] == [("o", "WS-002")]
        it.b.hub.service = it.service
        await a_while()
        it.service.emit("n", "go")
        it.service.done("n")
        await a_while()
        assert tokens(two_, "n") == "go"
        assert ends(two_)[2:] == [("n", "stop")]


@pytest.mark.parametrize("way", ["nothing comes", "a cancel"])
async def test_a_turn_does_not_wait_for_ever_for_a_service(way: str, autojump_clock: MockClock) -> None:
    async with cluster("ab", first_token_timeout=10) as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.b.hub.service = None
        it.a.kill()
        await trio.sleep(6)
        assert two_.frames[-1]["phase"] == "waiting"
        if way == "a cancel":
            two_.say(type="cancel", message_id="m")
            await a_while()
            assert ends(two_) == [("m", "cancelled")]
        else:
            await trio.sleep(10)
            assert ends(two_) == [("m", "WS-002")]
        it.b.hub.service = it.service
        await it.ask(two_, "n")
        it.service.done("n")
        await a_while()
        assert ends(two_)[1:] == [("n", "stop")]
        assert (it.b.hub.slots.held, it.b.hub.slots.waiting) == (0, 0)


# ── The store ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_store_gone_ends_what_runs_and_healed_goes_on(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "x")
        await it.ask(one, "q", on_busy="enqueue")
        it.server.up = False
        await trio.sleep(2.6)
        assert sorted(ends(one)) == sorted(ends(two_)) == [("m", "WS-009"), ("q", "WS-009")]
        assert not it.a.hub.ready
        await it.ask(two_, "n")
        assert ends(two_)[-1] == ("n", "WS-009")
        it.server.up = True
        await trio.sleep(5)
        assert it.a.hub.ready
        assert len(ends(one)) == 2
        assert sorted((e.message_id, e.fault.code) for e in it.events() if isinstance(e, Failed)) == [
            ("m", "WS-009"),
            ("q", "WS-009"),
        ]
        await it.ask(two_, "n")
        it.service.done("n")
        await a_while()
        assert ends(one)[-1] == ends(two_)[-1] == ("n", "stop")
        assert it.service.open == 0


async def test_a_node_without_the_store_is_left_by_its_session(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        await it.ask(two_, "m")
        it.service.emit("m", "x")
        await a_while()
        it.a.store.cut = True
        await trio.sleep(8)
        assert ends(one) == [("m", "WS-009")]
        assert ends(two_) == [("m", "WS-008")]
        it.a.store.cut = False
        await trio.sleep(5)
        await it.ask(one, "n")
        it.service.done("n")
        await a_while()
        assert ends(one) == [("m", "WS-009"), ("n", "stop")]
        assert ends(two_) == [("m", "WS-008"), ("n", "stop")]


async def test_a_wiped_store_is_a_gap(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, _ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "x")
        await a_while()
        at = position(one)
        it.server.wipe()
        it.service.emit("m", "y")
        await trio.sleep(8)
        assert ends(one) == [("m", "WS-009")]
        back = await it.c.connect(after=at)
        assert back.frames[0]["resumed"] == "gap"
        await it.ask(back, "n")
        it.service.done("n")
        await a_while()
        assert ends(back)[-1] == ("n", "stop")
        await it.ask(one, "o")
        it.service.done("o")
        await a_while()
        assert ends(one)[-1] == ("o", "stop") or one.closed


async def test_a_turn_whose_stream_was_wiped_is_over_wherever_the_session_goes(autojump_clock: MockClock) -> None:
    async with cluster("ab") as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.server.wipe()
        it.a.kill()
        await trio.sleep(7)
        assert it.owner is it.b
        assert ends(two_) == [("m", "WS-009")]
        assert [type(event) for event in it.events() if not isinstance(event, Fenced)] == [Failed]
        await it.ask(two_, "next")
        it.service.done("next")
        await a_while()
        assert ends(two_)[1:] == [("next", "stop")]


async def test_who_was_told_that_a_turn_is_lost_never_sees_it_taken_up_again(autojump_clock: MockClock) -> None:
    """The store is lost, and then the lease, before it knows how the turn ended."""
    async with cluster("a") as it:
        client = await it.a.connect()
        await it.ask(client, "m")
        it.server.latency = 0.2
        it.a.store.cut = True
        await trio.sleep(2.6)
        it.a.store.cut = False
        while not isinstance(it.a.session(), Session):
            await trio.sleep(0.01)
        it.a.store._lose_lease()
        await trio.sleep(8)
        assert ends(client) == [("m", "WS-009")]
        (ended,) = (event for event in it.events() if isinstance(event, Failed))
        assert ended.fault.code == "WS-009"
        assert sum(isinstance(event, Status) for event in it.events()) == 1


async def test_what_a_node_claims_while_it_loses_its_lease_is_not_its_own(autojump_clock: MockClock) -> None:
    async with cluster("ab") as it:
        it.server.latency = 1.0
        turned_away = await it.a.connect()
        await trio.sleep(1.5)
        assert len(it.events()) == 1  # it has claimed, and reads
        it.a.store._lose_lease()
        it.server.latency = 0.001
        await trio.sleep(6)
        assert turned_away.closed
        one, two_ = await two(it)
        assert it.owner in (it.a, it.b)
        await it.ask(one, "m")
        assert "stream_start" in one.types()
        assert "stream_start" in two_.types()


async def test_who_comes_while_the_node_leaves_is_turned_away(autojump_clock: MockClock) -> None:
    async with cluster("ab") as it:
        await it.a.connect()
        await it.b.hub.find("", "s")  # nobody is there: whoever comes next asks the store whether it is current
        it.server.latency = 1.0
        late = MemoryTransport()
        async with trio.open_nursery() as nursery:  # a server's own: it outlives the hub for a moment
            nursery.start_soon(Connection(it.b.hub, late, dialect_for("trialogue.v1", "en"), Handshake("s")).run)
            await a_while()
            assert not late.closed
            it.b.scope.cancel()
        assert late.closed == (1013, "the sessions' store is not reachable")


async def test_an_owner_that_lets_go_tells_those_who_wait_for_its_answer(autojump_clock: MockClock) -> None:
    async with cluster("ab", durability="behind") as it:
        one, two_ = await two(it)
        del it.server.streams["", "s"]  # evicted, or expired; whoever owned it is still there
        await it.ask(two_, "m")
        await a_while(1)
        assert one.closed
        assert two_.closed or "stream_start" in two_.types()


async def test_a_letter_that_comes_while_the_store_is_gone_is_not_lost(autojump_clock: MockClock) -> None:
    async with cluster("ab") as it:
        one, two_ = await two(it)
        it.a.store.cut = True
        await trio.sleep(2.6)
        one.leave(1006)  # nobody is left at the owner that the store knows
        await it.ask(two_, "m")
        assert "stream_start" not in two_.types()
        it.a.store.cut = False
        await trio.sleep(1)
        assert "stream_start" in two_.types()


async def test_ids_outlive_the_entries_that_told_them(autojump_clock: MockClock) -> None:
    async with cluster(log_bytes=3_000) as it:
        one = await it.a.connect()
        for n in range(20):
            await it.ask(one, f"m{n}")
            it.service.emit(f"m{n}", "x" * 100)
            it.service.done(f"m{n}")
            await a_while()
        events = it.events()
        assert any(isinstance(event, Snapshot) for event in events)
        assert not any(isinstance(event, UserMessage) and event.message_id == "m0" for event in events)
        it.a.kill()
        await trio.sleep(6)
        back = await it.b.connect()
        await it.ask(back, "m0")
        assert ends(back) == [("m0", "stop")]
        assert len(it.service.sessions) == 20
        await it.ask(back, "m0", content="other")
        assert ends(back)[-1] == ("m0", "WS-001")
