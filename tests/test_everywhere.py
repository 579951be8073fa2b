"""`everywhere.py` with `inquiries.py`: what applications call, on the owner's node, on a guest's, on one without it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from support.memory import MemoryTransport, Scripted, bench
from support.nodes import Cluster, Node, a_while, cluster, ends, two
from trialogue import Everywhere, StoreGone
from trialogue.core.events import Ended
from trialogue.guests import GATHER_SECONDS
from trialogue.nodes import INQUIRY_SECONDS, VISIT_SECONDS

KEY = ("", "s")
NEWS = {"type": "news", "n": 1}
CALLERS = ("a", "b", "c")
"""The session's owner, a node with a client of it, and one that has nothing of it."""


def at(node: Node) -> Everywhere:
    return Everywhere(node.hub)


def news(*transports: MemoryTransport) -> list[list[int]]:
    return [[frame["n"] for frame in transport.told("news")] for transport in transports]


def left(it: Cluster) -> tuple[Any, ...]:
    """What there still is of any session, but for the floor of its epochs."""
    return (
        [node.hub.sessions for node in it.nodes.values() if node.hub.sessions and not node.store.dead],
        list(it.server.streams),
        list(it.server.owners),
    )


# ── Without a store ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_hub_that_is_alone_answers_as_it_always_did() -> None:
    async with bench() as it:
        here, client = Everywhere(it.hub), await it.connect()
        assert await here.is_connected("s")
        assert not await here.is_connected("t")
        assert await here.send_json("s", NEWS) == 1
        assert news(client) == [[1]]
        assert await here.delete("", "s")
        assert not await here.delete("", "s")


async def test_what_cannot_ask_other_nodes_does_not_pretend(autojump_clock: MockClock) -> None:
    async with cluster("a") as it:
        await it.a.connect()
        calls = (
            lambda hub: hub.is_connected("s"),
            lambda hub: hub.send_json("s", NEWS),
            lambda hub: hub.broadcast(NEWS),
            lambda hub: hub.delete("", "s"),
        )
        for call in calls:
            with pytest.raises(RuntimeError, match="other nodes"):
                call(it.a.hub)


# ── On any node ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_frame_reaches_every_device_wherever_it_is(caller: str, autojump_clock: MockClock) -> None:
    async with cluster() as it:
        devices = [*await two(it), await it.b.connect(dialect="seed")]
        stranger = await it.c.connect("t")
        assert [await at(it.nodes[caller]).send_json("s", {**NEWS, "n": n}) for n in range(5)] == [3] * 5
        await a_while()
        assert news(*devices, stranger) == [[0, 1, 2, 3, 4]] * 3 + [[]]
        assert not it.c.hub.sessions.get(KEY), "nothing of it was loaded for that"


@pytest.mark.parametrize("caller", CALLERS)
async def test_who_is_connected_is_known_everywhere(caller: str, autojump_clock: MockClock) -> None:
    async with cluster() as it:
        here = at(it.nodes[caller])
        assert not await here.is_connected("s")
        assert left(it) == ([], [], []), "asking makes no session"
        one, two_ = await two(it)
        assert await here.is_connected("s")
        assert not await here.is_connected("s", principal="somebody")
        one.leave(1006)
        await a_while()
        assert await here.is_connected("s"), "at b, not at its owner"
        two_.leave(1006)
        await a_while()
        assert not await here.is_connected("s")


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_deleted_session_ends_on_all_nodes(caller: str, autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        three = await it.b.connect(dialect="onerag")
        await it.ask(two_, "m")
        assert await at(it.nodes[caller]).delete("", "s")
        await a_while(0.5)
        assert [client.closed for client in (one, two_, three)] == [(1000, "the session was deleted")] * 3
        assert ends(one) == ends(two_) == [("m", "cancelled")]
        assert it.service.open == 0
        assert left(it) == ([], [], [])
        assert not await at(it.nodes[caller]).delete("", "s")
        await it.b.connect()
        assert [event.fresh for event in it.events()] == [True], "another stream"


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


# ── Nobody owns it ───────────────────────────────────────────────────────────────────────────────────────────────


async def abandon(it: Cluster) -> None:
    """A session that is in the store alone: its node has left."""
    one = await it.a.connect()
    await it.ask(one, "m")
    it.service.done("m")
    await a_while()
    one.leave(1006)
    await it.a.hub.drain(1)
    await a_while()
    it.a.scope.cancel()
    await a_while()
    assert it.server.streams[KEY]
    assert not it.server.owners


async def test_a_session_that_only_the_store_has_is_found(autojump_clock: MockClock) -> None:
    async with cluster(session_ttl=30) as it:
        await abandon(it)
        for node in (it.b, it.c):
            found = await node.hub.find("", "s")
            assert found is not None
            assert [event for _, event in found.log.read(found.log.start, found.log.end) if isinstance(event, Ended)]
        assert not await at(it.b).is_connected("s")
        await trio.sleep(VISIT_SECONDS + 1)
        assert KEY not in it.c.hub.sessions, "it was b that took it over"
        await trio.sleep(30)
        assert left(it) == ([], [], []), "and nobody came"


async def test_a_session_that_only_the_store_has_is_deleted(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        await abandon(it)
        assert await at(it.c).delete("", "s")
        await a_while()
        assert left(it) == ([], [], [])
        assert await it.b.hub.find("", "s") is None


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


async def test_an_owner_that_was_killed_is_waited_for_and_nobody_is_missed(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        _, two_ = await two(it)
        it.a.kill()
        asked_at = trio.current_time()
        assert await at(it.c).send_json("s", NEWS) == 1
        assert 4 < trio.current_time() - asked_at < INQUIRY_SECONDS
        await a_while()
        assert news(two_) == [[1]]


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


async def test_after_a_take_over_a_deletion_waits_for_the_clients_to_be_told(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        _, two_ = await two(it)
        it.a.kill()
        await trio.sleep(4.9)
        assert await at(it.c).delete("", "s")
        await a_while(GATHER_SECONDS)
        assert two_.closed == (1000, "the session was deleted")


# ── The store ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("caller", CALLERS)
async def test_without_the_store_nothing_is_known_and_that_is_told(caller: str, autojump_clock: MockClock) -> None:
    async with cluster() as it:
        await two(it)
        it.server.up = False
        asked_at = trio.current_time()
        with pytest.raises(StoreGone):
            await at(it.nodes[caller]).is_connected("t")
        with pytest.raises(StoreGone):
            await at(it.nodes[caller]).delete("", "t")
        assert trio.current_time() - asked_at < 5
        it.server.up = True
        await trio.sleep(5)
        assert await at(it.nodes[caller]).send_json("s", NEWS) == 2


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


async def test_it_is_said_that_the_hub_does_not_run(autojump_clock: MockClock) -> None:
    async with cluster("a") as it:
        hub = type(it.a.hub)(store=it.a.store)
        with pytest.raises(RuntimeError, match="not running"):
            await Everywhere(hub).is_connected("s")


async def test_what_was_only_looked_at_is_not_taken_for_what_there_is(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        await two(it)
        assert await it.c.hub.find("", "s")
        assert await at(it.a).delete("", "s")
        await a_while()
        assert await it.c.hub.find("", "s") is None
        again = await it.c.connect()
        await it.ask(again, "m")
        it.service.done("m")
        await a_while()
        assert ends(again) == [("m", "stop")]
