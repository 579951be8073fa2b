"""`announcements.py`: frames for everybody, in one order, whoever dies with one."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from support.nodes import NEWS, a_while, at, cluster, news, two
from trialogue import StoreGone

CALLERS = "abc"


async def test_a_broadcast_reaches_everybody_once_and_in_one_order(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        devices = [*await two(it), await it.c.connect("t"), await it.c.connect("u", principal="somebody")]
        async with trio.open_nursery() as nursery:
            for caller in CALLERS:
                for n in range(3):
                    nursery.start_soon(at(it.nodes[caller]).broadcast, {"type": "news", "n": f"{caller}{n}"})
        await a_while()
        told = news(*devices)
        assert told[0] == told[1] == told[2] == told[3]
        assert sorted(map(str, told[0])) == sorted(f"{caller}{n}" for caller in CALLERS for n in range(3))
        assert not any(principal == session_id == "" for principal, session_id in it.server.owners)


async def test_a_broadcast_outlives_who_died_with_it_and_a_store_that_was_away(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        _, two_ = await two(it)
        it.server.owners["", ""] = it.a.store.node  # it dies in the midst of one
        it.a.kill()
        await at(it.b).broadcast(NEWS)
        await a_while()
        assert news(two_) == [[1]]
        it.server.up = False
        with pytest.raises(StoreGone):
            await at(it.c).broadcast({**NEWS, "n": 2})
        it.server.wipe()
        it.server.up = True
        await trio.sleep(5)
        late = await it.c.connect("t")
        await at(it.b).broadcast({**NEWS, "n": 3})
        await a_while()
        assert news(two_, late) == [[1, 3], [3]]
