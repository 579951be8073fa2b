"""What the port says, on the real store and on the model that the engine is tried on: so that the model is true."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio

from support.heed import Noted, Writer
from support.memory_store import MemoryStore
from support.memory_store import Server as Model
from support.valkey import StoreServer
from trialogue.core.events import Ended, Fenced, Started, Tokens
from trialogue.core.letters import AskCancel
from trialogue.log import Position
from trialogue.store import Key, Store, Stored, Verdict

from .conftest import opened

STARTED = Started("m", "s", "t")
ENDED = Ended("m", "stop", 2, 1)
HELLO = Tokens("m", 0, ["a", "b"])

Node = Callable[[], AbstractAsyncContextManager[tuple[Store, Noted]]]


class Deployment:
    """Calling it opens a further node. `wipe` is FLUSHALL."""

    def __init__(self, node: Node, wipe: Callable[[], None]) -> None:
        self._node = node
        self.wipe = wipe

    def __call__(self) -> AbstractAsyncContextManager[tuple[Store, Noted]]:
        return self._node()


@pytest.fixture(params=["valkey", "model"])
def node(request: pytest.FixtureRequest) -> Deployment:
    if request.param == "valkey":
        server: StoreServer = request.getfixturevalue("valkey")
        return Deployment(lambda: opened(server.url), server.flush)
    model = Model()

    @asynccontextmanager
    async def modelled() -> AsyncGenerator[tuple[Any, Noted]]:
        store, heed = MemoryStore(model), Noted()
        async with store.open(heed):
            yield store, heed

    return Deployment(modelled, model.wipe)


async def test_claim_append_read(node: Deployment, key: Key) -> None:
    async with node() as (store, heed):
        writer = Writer(store, heed, key)
        claim = await writer.claim()
        assert claim == (store.node, Position(writer.epoch, 0), True)
        assert await store.owner(key) == store.node
        assert await store.alive(store.node)
        assert not await store.alive("nobody")
        writer.queue(STARTED)
        writer.queue(HELLO)
        writer.queue(ENDED)
        assert heed.verdicts == []
        await heed.until(lambda: len(heed.verdicts) == 3)
        assert heed.verdicts == [Verdict.WRITTEN] * 3
        whole = [
            Stored(writer.epoch, 0, Fenced(writer.epoch, store.node, fresh=True)),
            Stored(writer.epoch, 1, STARTED),
            Stored(writer.epoch, 2, HELLO),
            Stored(writer.epoch, 4, ENDED),
        ]
        assert await store.read(key) == whole
        assert await store.read(key, Position(writer.epoch, 2)) == whole[2:]
        assert await store.read(key, Position(writer.epoch, 3)) == whole[2:]  # what holds it is part of it
        assert await store.read(key, Position(writer.epoch, 4)) == whole[3:]
        assert await store.read(key, Position(writer.epoch, 5)) == []


async def test_take_over(node: Deployment, key: Key) -> None:
    async with node() as (old, old_heed), node() as (new, new_heed):
        former, heir = Writer(old, old_heed, key), Writer(new, new_heed, key)
        await former.claim()
        await former.write(STARTED, HELLO)
        assert await heir.claim() == (old.node, None, False)
        assert await heir.claim("somebody") == (old.node, None, False)
        taken = await heir.claim(old.node)
        assert taken == (new.node, Position(heir.epoch, 4), False)
        assert heir.epoch > former.epoch
        former.queue(ENDED)
        former.queue(STARTED)
        await old_heed.until(lambda: len(old_heed.verdicts) == 3)
        assert old_heed.verdicts[1:] == [Verdict.STALE] * 2
        assert await heir.write(ENDED) is Verdict.WRITTEN
        again = await heir.claim()  # one's own: a new epoch
        assert again.fence == Position(heir.epoch, 6)


async def test_release_and_delete(node: Deployment, key: Key) -> None:
    async with node() as (one, heed), node() as (two, other):
        first, second = Writer(one, heed, key), Writer(two, other, key)
        await first.claim()
        await first.write(STARTED)
        one.release(key)
        await until_owned_by(two, key, None)
        assert (await second.claim()).fence == Position(second.epoch, 2)
        one.release(key)
        await trio.sleep(0.05)
        assert await two.owner(key) == two.node
        two.delete(key)
        await until_owned_by(one, key, None)
        assert await one.read(key) == []
        assert await second.write(ENDED) is Verdict.WIPED
        former = second.epoch
        fresh = await second.claim()
        assert fresh.made
        assert fresh.fence
        assert fresh.fence.epoch > former
        assert fresh.fence.offset == second.offset - 1


async def until_owned_by(store: Store, key: Key, owner: str | None) -> None:
    with trio.fail_after(2):
        while await store.owner(key) != owner:
            await trio.sleep(0.01)


async def test_follow(node: Deployment, key: Key) -> None:
    async with node() as (one, heed), node() as (two, other):
        writer = Writer(one, heed, key)
        await writer.claim()
        await writer.write(STARTED)
        two.follow(key, Position(writer.epoch, 1), other.deliver)
        await writer.write(HELLO)
        await writer.write(ENDED)
        heir = Writer(two, other, key)
        await heir.claim(one.node)
        await other.until(lambda: len(other.stored) == 4)
        assert other.stored == (await two.read(key))[1:]
        two.unfollow(key)
        two.unfollow(key)
        await heir.write(STARTED)
        await trio.sleep(0.05)
        assert len(other.stored) == 4


async def test_letters_and_leases(node: Deployment) -> None:
    async with node() as (one, heed):
        async with node() as (two, other):
            letters = [AskCancel(("ann", "s"), one.node, number, None) for number in range(20)]
            for letter in letters:
                one.send(two.node, letter)
            one.send("nobody", letters[0])
            await other.until(lambda: len(other.letters) == 20)
            assert other.letters == letters
            assert heed.letters == []
            one.watch(two.node)
            left = two.node
        assert await heed.heard("node_gone") < 1
        assert ("node_gone", left) in heed.told
        assert heed.names == ["node_gone"]


async def test_the_floor_of_its_epochs_outlives_a_session(node: Deployment, key: Key) -> None:
    """Nothing else can tell who knows nothing: neither the stream, which is gone, nor the clock, which may go back."""
    async with node() as (store, _):
        first = await store.claim(key, None, Position(0, 0))
        assert first.fence
        ahead = (await store.claim(key, None, Position(first.fence.epoch + 10**9, 0))).fence
        assert ahead
        store.delete(key)
        await until_owned_by(store, key, None)
        fresh = await store.claim(key, None, Position(0, 0))
        assert fresh.made
        assert fresh.fence
        assert fresh.fence.epoch > ahead.epoch


async def test_a_claim_is_behind_everything_that_its_caller_knows(node: Deployment, key: Key) -> None:
    async with node() as (store, _):
        first = await store.claim(key, None, Position(0, 77))
        assert first.fence
        assert first.fence.offset == 77  # of a stream that it makes
        far = Position(first.fence.epoch + 10**9, 5)
        assert (await store.claim(key, None, far)).fence == Position(far.epoch + 1, 78)
        assert [stored.offset for stored in await store.read(key)] == [77, 78]


async def test_a_refused_lane_is_told_of_all_that_it_holds_and_harms_no_other(node: Deployment, key: Key) -> None:
    async with node() as (one, heed), node() as (two, other):
        lost, kept = Writer(one, heed, key), Writer(one, Noted(), (key[0], f"{key[1]} kept"))
        await lost.claim()
        await kept.claim()
        await Writer(two, other, key).claim(one.node)
        for _ in range(3):
            for writer in (lost, kept):
                writer.queue(STARTED)
        await kept.heed.until(lambda: len(kept.heed.verdicts) == 3)
        await heed.until(lambda: len(heed.verdicts) == 3)
        assert heed.verdicts == [Verdict.STALE] * 3
        assert kept.heed.verdicts == [Verdict.WRITTEN] * 3


async def test_what_comes_while_an_entry_is_under_way_is_taken_after_its_verdict(node: Deployment, key: Key) -> None:
    async with node() as (one, heed):
        writer = Writer(one, heed, key)  # it asserts that
        await writer.claim()
        for _ in range(200):
            writer.queue(STARTED)
            await trio.lowlevel.checkpoint()
        await heed.until(lambda: len(heed.verdicts) == 200)
        assert [stored.offset for stored in await one.read(key)] == list(range(201))


async def test_a_trim_takes_nothing_from_its_position_on(node: Deployment, key: Key) -> None:
    async with node() as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        await writer.write(STARTED)
        await writer.write(HELLO)
        store.trim(key, Position(writer.epoch, 2))
        await writer.write(ENDED)  # behind the trim
        assert [stored.offset for stored in await store.read(key)][-2:] == [2, 4]


async def test_who_is_not_the_owner_deletes_the_stream_alone(node: Deployment, key: Key) -> None:
    async with node() as (one, heed), node() as (two, _):
        writer = Writer(one, heed, key)
        await writer.claim()
        two.delete(key)
        with trio.fail_after(2):
            while await two.read(key):
                await trio.sleep(0.01)
        assert await two.owner(key) == one.node
        assert await writer.write(STARTED) is Verdict.WIPED


async def test_who_follows_a_stream_that_is_not_there_yet_hears_of_it(node: Deployment, key: Key) -> None:
    async with node() as (one, heed), node() as (two, other):
        two.follow(key, Position(0, 0), other.deliver)
        writer = Writer(one, heed, key)
        await writer.claim()
        await writer.write(STARTED)
        await other.until(lambda: len(other.stored) == 2)
        assert other.stored == await one.read(key)


async def test_leaving_writes_what_is_queued_and_gives_the_lease_back(node: Deployment, key: Key) -> None:
    async with node() as (stays, _):
        async with node() as (leaves, heed):
            writer = Writer(leaves, heed, key)
            await writer.claim()
            writer.queue(STARTED)
            writer.queue(HELLO)
            left = leaves.node
        assert [stored.event for stored in await stays.read(key)][1:] == [STARTED, HELLO]
        assert not await stays.alive(left)
        assert await stays.owner(key) == left  # whoever finds the owner gone may have it


async def test_watching_one_that_is_gone_already_is_told_once(node: Deployment) -> None:
    async with node() as (store, heed):
        store.watch("nobody")
        store.watch("nobody")
        assert await heed.heard("node_gone") < 1
        await trio.sleep(0.6)
        assert heed.told == [("node_gone", "nobody")]


async def test_a_wiped_store_is_a_lost_lease_and_another_name(node: Deployment, key: Key) -> None:
    async with node() as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        former, known = store.node, writer.epoch
        node.wipe()
        assert await writer.write(STARTED) is Verdict.WIPED
        await heed.heard("store_back")
        assert heed.names == ["lease_lost", "store_back"]
        assert store.reachable
        assert store.node != former
        assert await store.alive(store.node)
        assert await store.owner(key) is None
        assert (await writer.claim()).made
        assert writer.epoch > known
        assert await writer.write(STARTED) is Verdict.WRITTEN
