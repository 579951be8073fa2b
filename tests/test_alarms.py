"""`alarms.py`: on a virtual clock."""

from __future__ import annotations

from math import inf

import trio
from trio.testing import MockClock

from trialogue.alarms import Alarms


async def test_alarms_are_called_in_time_and_in_order(autojump_clock: MockClock) -> None:
    alarms, called = Alarms(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        for when in (3.0, 1.0, 2.0):
            alarms.set(when, lambda when=when: called.append((when, trio.current_time())))
        await trio.sleep(1.5)
        alarms.set(1.6, lambda: called.append((1.6, trio.current_time())))  # earlier than what it waits for
        alarms.set(0.0, lambda: called.append((0.0, trio.current_time())))  # past already
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert called == [(1.0, 1.0), (0.0, 1.5), (1.6, 1.6), (2.0, 2.0), (3.0, 3.0)]


async def test_a_cancelled_alarm_is_not_called_and_holds_nothing(autojump_clock: MockClock) -> None:
    alarms, called = Alarms(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        alarm = alarms.set(1.0, lambda: called.append(1))
        assert repr(alarm) == "<Alarm set>"
        alarm.cancel()
        assert repr(alarm) == "<Alarm off>"
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert not called
    assert repr(alarms) == "<Alarms 0 set>"


async def test_an_alarm_that_raises_stops_no_other(autojump_clock: MockClock) -> None:
    alarms, called = Alarms(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        alarms.set(1.0, lambda: 1 / 0)
        alarms.set(1.0, lambda: called.append(2))
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert called == [2]


async def test_an_alarm_for_never_costs_nothing_and_one_that_sets_itself_for_now_does_not_spin(
    autojump_clock: MockClock,
) -> None:
    alarms, called = Alarms(), []
    alarms.set(inf, lambda: called.append(0))
    assert repr(alarms) == "<Alarms 0 set>"

    def again() -> None:
        called.append(trio.current_time())
        if len(called) < 5:
            alarms.set(trio.current_time(), again)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        alarms.set(1.0, again)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert called == [1.0] * 5
