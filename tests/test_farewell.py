"""`farewell.py`: a hub's drain, and when its clients are to come back; on a virtual clock."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from support.memory import Scripted, bench, settle
from trialogue.farewell import DRAIN_BATCH, DRAIN_PAUSE, MIN_RETURN_MS, RETURNS_PER_SECOND


async def test_a_drain_lets_running_turns_end(autojump_clock: MockClock) -> None:
    async with bench() as it:
        busy, idle, plain = await it.connect(), await it.connect("t"), await it.connect("s", "seed")
        await it.ask(busy, "a")
        await it.ask(busy, "b", on_busy="enqueue")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.hub.drain, 20.0)
            await settle()
            [goaway] = idle.told("goaway")
            assert (goaway["reason"], 1000 <= goaway["retry_after_ms"] < 1010) == ("drain", True)
            assert idle.closed == (1012, "restart")
            assert busy.told("stream_error")[0]["error_code"] == "WS-006"
            assert busy.told("stream_error")[0]["message_id"] == "b"
            await it.ask(busy, "c")
            assert busy.told("stream_error")[1]["message_id"] == "c"
            assert not it.hub.ready
            await trio.sleep(5)
            assert busy.closed is None
            it.service.done("a")
            await settle()
        assert busy.told("stream_end")[0]["finish_reason"] == "stop"
        assert busy.types()[-1] == "goaway"
        assert busy.closed == plain.closed == (1012, "restart")
        assert it.hub.connections == 0


async def test_a_drains_deadline_ends_what_still_runs(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False)) as it:
        client = await it.connect()
        await it.ask(client, "a")
        started = trio.current_time()
        await it.hub.drain(20.0)
        assert trio.current_time() - started < 20.5
        assert client.told("stream_error")[0]["error_code"] == "WS-006"
        assert client.closed == (1012, "restart")


async def test_a_drain_does_not_wait_for_stuck_readers(autojump_clock: MockClock) -> None:
    async with bench() as it:
        stuck = await it.connect()
        stuck.full = True
        await it.ask(stuck, "a")
        started = trio.current_time()
        await it.hub.drain(5.0, farewell=0.5)
        assert trio.current_time() - started <= 5.5


async def test_a_drain_lets_idle_connections_go_in_batches(autojump_clock: MockClock) -> None:
    async with bench() as it, trio.open_nursery() as nursery:
        clients = [await it.connect(f"s{n}") for n in range(2 * DRAIN_BATCH + 50)]
        nursery.start_soon(it.hub.drain, 20.0)
        gone = []
        for _ in range(4):
            await settle()
            gone.append(sum(client.closed == (1012, "restart") for client in clients))
            await trio.sleep(DRAIN_PAUSE)
        assert gone == [DRAIN_BATCH, 2 * DRAIN_BATCH, len(clients), len(clients)]


async def test_clients_are_asked_to_come_back_one_after_the_other(autojump_clock: MockClock) -> None:
    async with bench() as it:
        clients = [await it.connect(f"s{n}") for n in range(300)]
        await it.hub.drain(20.0)
        times = sorted(client.told("goaway")[0]["retry_after_ms"] for client in clients)
        assert MIN_RETURN_MS <= times[0] < times[150] < times[-1] <= MIN_RETURN_MS + 1000 * 300 // RETURNS_PER_SECOND
        assert len(set(times)) > 100


async def test_from_the_first_moment_of_a_drain_no_session_takes_a_turn(autojump_clock: MockClock) -> None:
    async with bench() as it, trio.open_nursery() as nursery:
        clients = [await it.connect(f"s{n}", "seed") for n in range(DRAIN_BATCH + 1)]
        nursery.start_soon(it.hub.drain, 20.0)
        await settle()
        await it.ask(clients[-1], "late", session_id=f"s{DRAIN_BATCH}")
        assert clients[-1].closed is None
        assert clients[-1].told("stream_error")[0]["error_code"] == "WS-006"


async def test_a_drain_has_time_for_its_batches_however_short_its_timeout(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False), turns_per_minute=0, messages_per_minute=0) as it:
        clients = [await it.connect(f"s{n}") for n in range(5 * DRAIN_BATCH)]
        for n, client in enumerate(clients):
            await it.ask(client, "a", session_id=f"s{n}")
        started = trio.current_time()
        await it.hub.drain(0.1, farewell=0.4)
        assert trio.current_time() - started <= 0.51
        assert {client.told("stream_error")[0]["error_code"] for client in clients} == {"WS-006"}
        assert {client.closed for client in clients} == {(1012, "restart")}


async def test_a_latecomer_to_a_drain_is_sent_away(autojump_clock: MockClock) -> None:
    async with bench() as it:
        await it.hub.drain(1.0)
        client = await it.connect()
        assert client.closed == (1012, "restart")
