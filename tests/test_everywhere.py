"""`everywhere.py`: what applications call, on the owner's node, on a guest's, on one without it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from support.memory import bench
from support.nodes import NEWS, Cluster, a_while, at, cluster, ends, left, news, two
from trialogue import Everywhere, StoreGone
from trialogue.core.events import Ended
from trialogue.nodes import INQUIRY_SECONDS, VISIT_SECONDS

KEY = ("", "s")
CALLERS = ("a", "b", "c")
"""The session's owner, a node with a client of it, and one that has nothing of it."""


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


async def test_an_owner_that_was_killed_is_waited_for_and_nobody_is_missed(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        _, two_ = await two(it)
        it.a.kill()
        asked_at = trio.current_time()
        assert await at(it.c).send_json("s", NEWS) == 1
        assert 4 < trio.current_time() - asked_at < INQUIRY_SECONDS
        await a_while()
        assert news(two_) == [[1]]


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
