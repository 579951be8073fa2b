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


@pytest.fixture(params=["valkey", "model"])
def node(request: pytest.FixtureRequest) -> Node:
    """Opens a further node of one deployment."""
    if request.param == "valkey":
        server: StoreServer = request.getfixturevalue("valkey")
        return lambda: opened(server.url)
    model = Model()

    @asynccontextmanager
    async def modelled() -> AsyncGenerator[tuple[Any, Noted]]:
        store, heed = MemoryStore(model), Noted()
        async with store.open(heed):
            yield store, heed

    return modelled


async def test_claim_append_read(node: Node, key: Key) -> None:
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
        assert await store.read(key, Position(writer.epoch, 4)) == whole[3:]
        assert await store.read(key, Position(writer.epoch, 5)) == []


async def test_take_over(node: Node, key: Key) -> None:
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


async def test_release_and_delete(node: Node, key: Key) -> None:
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


async def test_follow(node: Node, key: Key) -> None:
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


async def test_letters_and_leases(node: Node) -> None:
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
