"""`guests.py`: clients of other nodes that have yet to find the owner, and those that find it leaving."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from support.memory import Scripted
from support.nodes import NEWS, a_while, at, cluster, news, two
from trialogue.guests import GATHER_SECONDS


async def test_who_comes_while_a_session_is_being_deleted_comes_back_to_the_next(autojump_clock: MockClock) -> None:
    async with cluster(service=lambda: Scripted(obeys=False)) as it:
        one, _ = await two(it)
        await it.ask(one, "m")
        assert await at(it.c).delete("", "s")
        late = [await node.connect() for node in it.nodes.values()]
        assert [client.closed for client in late] == [(1012, "restart")] * 3
        [goaway] = late[2].told("goaway")
        await trio.sleep(goaway["retry_after_ms"] / 1000)
        await it.c.connect()
        assert [event.fresh for event in it.events()] == [True], "another stream"


@pytest.mark.parametrize("after", [0.0, 0.01, 0.06, 0.2])
async def test_while_a_session_goes_from_owner_to_owner_nobody_is_missed(
    after: float, autojump_clock: MockClock
) -> None:
    async with cluster() as it, trio.open_nursery() as nursery:
        _, two_ = await two(it)
        nursery.start_soon(it.a.hub.drain, 1)
        await trio.sleep(after)
        assert await at(it.c).is_connected("s")
        assert await at(it.c).send_json("s", NEWS) == 1
        await a_while()
        assert news(two_) == [[1]]


async def test_after_a_take_over_a_deletion_waits_for_the_clients_to_be_told(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        _, two_ = await two(it)
        it.a.kill()
        await trio.sleep(4.9)
        assert await at(it.c).delete("", "s")
        await a_while(GATHER_SECONDS)
        assert two_.closed == (1000, "the session was deleted")
