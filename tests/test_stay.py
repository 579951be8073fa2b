"""`stay.py`: clients that come and go, and how long turns and sessions outlast them; on a virtual clock."""

from __future__ import annotations

import gc

import pytest
import trio
from trio.testing import MockClock

from support.memory import Scripted, bench, settle
from trialogue import Position
from trialogue.memory_log import MemoryLog
from trialogue.session import Session
from trialogue.stay import FORGET_MS, Stay


@pytest.mark.parametrize("code", [1000, 1005])
async def test_the_last_one_leaving_on_purpose_stops_everything(code: int, autojump_clock: MockClock) -> None:
    async with bench() as it:
        one, two = await it.connect(), await it.connect()
        await it.ask(one, "a")
        await it.ask(one, "b", on_busy="enqueue")
        one.leave(code)
        await settle()
        assert it.service.open == 1
        two.leave(code)
        await settle()
        assert it.service.open == 0
        back = await it.connect(after=Position(it.hub.sessions["", "s"].log.epoch, 0))
        assert [(e["message_id"], e["finish_reason"]) for e in back.told("stream_end")] == [
            ("a", "cancelled"),
            ("b", "cancelled"),
        ]


@pytest.mark.parametrize("code", [1001, 1006, 4001])
async def test_a_dropped_clients_turn_goes_on_for_the_linger(code: int, autojump_clock: MockClock) -> None:
    async with bench() as it:
        one = await it.connect()
        await it.ask(one, "a")
        one.leave(code)
        await trio.sleep(29)
        assert it.service.open == 1
        await trio.sleep(2)
        assert it.service.open == 0


async def test_coming_back_in_time_keeps_the_turn(autojump_clock: MockClock) -> None:
    async with bench() as it:
        one = await it.connect()
        await it.ask(one, "a")
        one.leave(1006)
        await trio.sleep(20)
        await it.connect()
        await trio.sleep(9)  # the first token is due after 30
        assert it.service.open == 1


async def test_a_session_lives_for_its_ttl_and_no_longer(autojump_clock: MockClock) -> None:
    async with bench(session_ttl=600) as it:
        one = await it.connect()
        epoch = it.hub.sessions["", "s"].log.epoch
        one.leave(1000)
        await trio.sleep(599)
        assert it.hub.sessions
        two = await it.connect()
        assert Position.parse(two.frames[0]["position"]).epoch == epoch
        two.leave(1000)
        await trio.sleep(601)
        assert not it.hub.sessions
        three = await it.connect(after=Position(epoch, 0))
        assert three.frames[0]["resumed"] == "gap"
        assert Position.parse(three.frames[0]["position"]).epoch > epoch


async def test_the_others_hear_who_comes_and_goes() -> None:
    async with bench() as it:
        one = await it.connect()
        two = await it.connect()
        two.leave(1006)
        await settle()
        assert [frame["connections"] for frame in one.told("presence")] == [2, 1]
        assert not two.told("presence")


async def test_who_comes_to_a_session_that_is_being_deleted_is_greeted_and_sent_to_the_next(
    autojump_clock: MockClock,
) -> None:
    async with bench(Scripted(obeys=False)) as it:
        one = await it.connect()
        await it.ask(one, "a")
        session = it.hub.sessions["", "s"]
        session.delete()
        late = await it.connect()
        await settle()
        assert late.types()[0] == "session_ready"
        [goaway] = late.told("goaway")
        assert (goaway["reason"], goaway["retry_after_ms"]) == ("restart", FORGET_MS)
        assert late.closed == (1012, "restart")


async def test_while_somebody_is_there_it_is_on_no_shelf() -> None:
    async with bench() as it:
        one = await it.connect()
        session = it.hub.sessions["", "s"]
        assert isinstance(session, Session)
        session.reserve()
        assert it.hub.shelf.vacant == 0
        session.delete()
        assert it.hub.shelf.vacant == 0
        await settle()
        assert one.closed == (1000, "the session was deleted")
        assert it.hub.sessions == {}


async def test_a_session_that_has_ended_is_freed_at_once(autojump_clock: MockClock) -> None:
    """Its log may be large, and the collector comes seldom (see `tuning.py`)."""
    async with bench(session_ttl=1) as it:
        one = await it.connect()
        await it.ask(one, "a")
        it.service.done("a")
        await settle()
        one.leave(1006)
        await settle()
        it.service.turns.clear()  # each `emit` is its generation's
        gc.collect()  # connections are in cycles
        gc.disable()
        try:
            await trio.sleep(2)
            it.hub.alarm(0, lambda: None)  # the alarms' task holds on to the one that it called last
            await settle()
            assert not it.hub.sessions
            assert not [thing for thing in gc.get_objects() if isinstance(thing, Session | Stay | MemoryLog)]
        finally:
            gc.enable()


async def test_repr() -> None:
    async with bench() as it:
        await it.connect()
        session = it.hub.sessions["", "s"]
        assert repr(session._stay) == "<Stay of 1 clients>"
