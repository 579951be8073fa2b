"""`inquiries.py`: what was asked of a node that is lost, or through a store that is."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from support.nodes import NEWS, at, cluster, left, two
from trialogue import StoreGone
from trialogue.nodes import INQUIRY_SECONDS


async def test_what_was_asked_of_a_node_in_the_instant_it_was_killed_is_asked_of_the_next(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as it, trio.open_nursery() as nursery:
        it.server.latency = 0.1
        _, two_ = await two(it)
        await trio.sleep(1)
        nursery.start_soon(at(it.c).delete, "", "s")
        await trio.sleep(0.25)  # the letter is under way
        it.a.kill()
        await trio.sleep(INQUIRY_SECONDS)
        assert two_.closed == (1000, "the session was deleted")
        assert left(it) == ([], [], [])


async def test_an_answer_that_is_lost_with_the_store_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with cluster() as it, trio.open_nursery() as nursery:
        it.server.latency = 0.1
        await two(it)
        await trio.sleep(1)

        async def ask() -> None:
            with pytest.raises(StoreGone, match="before another node had answered"):
                await at(it.c).send_json("s", NEWS)

        nursery.start_soon(ask)
        await trio.sleep(0.25)
        it.server.up = False
