"""A node's right to write, by its own clock: how long it lasts, and what it takes to lose it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trialogue_adapters.valkey.lease import RENEW, SAFE, TTL, Lease, LeaseLost, new_name


async def taken() -> Lease:
    lease = Lease()
    lease.taken("me", trio.current_time())
    return lease


async def test_there_is_none_before_it_is_taken(autojump_clock: MockClock) -> None:
    lease = Lease()
    assert (lease.node, lease.held) == ("", False)
    with pytest.raises(LeaseLost):
        lease.check()


async def test_it_is_held_from_when_it_was_asked_for_not_from_the_answer(autojump_clock: MockClock) -> None:
    lease, asked = Lease(), trio.current_time()
    await trio.sleep(1.5)
    lease.taken("me", asked)
    assert (lease.node, lease.held) == ("me", True)
    await trio.sleep_until(asked + SAFE - 0.01)
    lease.check()
    await trio.sleep_until(asked + SAFE)
    with pytest.raises(LeaseLost):
        lease.check()


async def test_a_renewal_counts_from_when_it_was_asked_for(autojump_clock: MockClock) -> None:
    lease = await taken()
    asked = trio.current_time() + 1
    await trio.sleep(3)
    lease.renewed("me", asked, found=True)
    await trio.sleep_until(asked + SAFE - 0.01)
    assert lease.held
    await trio.sleep_until(asked + SAFE)
    assert not lease.held


async def test_an_answer_that_comes_late_takes_nothing_back(autojump_clock: MockClock) -> None:
    lease = await taken()
    began = trio.current_time()
    await trio.sleep(2)
    lease.renewed("me", began + 2, found=True)
    lease.renewed("me", began + 1, found=True)
    await trio.sleep_until(began + 2 + SAFE - 0.01)
    assert lease.held


async def test_a_lease_that_was_not_found_is_lost_at_once(autojump_clock: MockClock) -> None:
    lease = await taken()
    lease.renewed("me", trio.current_time(), found=False)
    assert not lease.held


async def test_the_answer_to_a_former_names_renewal_is_nobodys(autojump_clock: MockClock) -> None:
    lease = await taken()
    began = trio.current_time()
    lease.renewed("before", began, found=False)
    assert lease.held
    await trio.sleep(1)
    lease.renewed("before", trio.current_time(), found=True)
    await trio.sleep_until(began + SAFE)
    assert not lease.held


def test_a_node_stops_before_others_may_begin_and_may_miss_renewals() -> None:
    assert SAFE <= TTL - 1  # a second for whatever was sent at the last moment, and for clocks that drift
    assert 3 * RENEW < SAFE


def test_no_name_comes_twice() -> None:
    assert len({new_name() for _ in range(1000)}) == 1000
