"""What the store port promises when the server fails: a verdict for all, in time; one word of it; a way back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from support.fault_proxy import FaultProxy, fault_proxy
from support.heed import Noted, Writer
from support.valkey import StoreServer, store_server, valkey_binary
from trialogue.core.events import Started, Tokens
from trialogue.log import Position
from trialogue.store import Key, Store, StoreGone, Verdict

from .conftest import opened

pytestmark = pytest.mark.slow

STARTED = Started("m", "s", "t")


async def writes_again(store: Store, heed: Noted, key: Key) -> None:
    writer = Writer(store, heed, key)
    owner = await store.owner(key)
    await writer.claim(expected=owner)
    assert await writer.write(STARTED, within=3) is Verdict.WRITTEN


async def test_nobody_there_at_the_start_is_said(own_valkey: StoreServer) -> None:
    own_valkey.kill()
    with pytest.RaisesGroup(pytest.RaisesExc(StoreGone, match=f"127.0.0.1:{own_valkey.port}")):
        async with opened(own_valkey.url):
            raise AssertionError("it opened")


async def test_killed_and_restarted(own_valkey: StoreServer, key: Key) -> None:
    async with opened(own_valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        await writer.write(STARTED)
        former = store.node
        own_valkey.kill()
        began = trio.current_time()
        assert await writer.write(STARTED) is Verdict.UNREACHABLE
        await heed.heard("store_gone")
        assert 1.9 < trio.current_time() - began < 2.5
        assert not store.reachable
        assert heed.told[-2:] == [("verdict", Verdict.UNREACHABLE), ("store_gone", None)]

        assert await writer.write(STARTED, within=0.1) is Verdict.UNREACHABLE  # at once, now
        with pytest.raises(StoreGone):
            await store.claim(key, None, Position(0, 0))
        own_valkey.start()
        assert await heed.heard("store_back") < 1.5
        assert store.reachable
        assert store.node != former
        assert await store.read(key) == []
        await writes_again(store, heed, key)
        assert heed.names == ["store_gone", "store_back"]


async def test_restarted_within_two_seconds_the_store_was_never_gone(own_valkey: StoreServer, key: Key) -> None:
    async with opened(own_valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        own_valkey.restart()
        assert await writer.write(STARTED) is Verdict.WIPED
        await heed.heard("store_back")
        assert heed.names == ["lease_lost", "store_back"]
        await writes_again(store, heed, key)


async def test_frozen_for_five_seconds(own_valkey: StoreServer, key: Key) -> None:
    async with opened(own_valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        store.follow(key, Position(writer.epoch, 1), heed.deliver)
        own_valkey.freeze()
        began = trio.current_time()
        writer.queue(STARTED)
        with pytest.raises(StoreGone):
            await store.read(key)
        await heed.heard("store_gone")
        assert trio.current_time() - began < 2.7
        assert heed.verdicts == [Verdict.UNREACHABLE]
        await trio.sleep_until(began + 5)
        own_valkey.thaw()
        assert await heed.heard("store_back") < 3
        await writes_again(store, heed, key)
        await heed.until(lambda: len(heed.stored) >= 2)  # the reader has found its way back, too


async def test_emptied(own_valkey: StoreServer, key: Key) -> None:
    async with opened(own_valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        former = store.node
        own_valkey.flush()
        assert await writer.write(STARTED, within=0.5) is Verdict.WIPED
        await heed.heard("store_back", within=2)
        assert heed.names == ["lease_lost", "store_back"]
        assert store.node != former
        claim = await store.claim(key, None, Position(writer.epoch, writer.offset))
        assert claim.made
        assert claim.fence
        assert claim.fence.epoch > writer.epoch


async def test_out_of_memory(own_valkey: StoreServer, key: Key) -> None:
    async with opened(own_valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        await writer.write(STARTED)
        node = store.node
        own_valkey.limit_memory(1)
        assert await writer.write(STARTED) is Verdict.UNREACHABLE
        await heed.heard("store_gone")
        assert len(entries_of(own_valkey, store, key)) == 2  # nothing was written, and nothing is lost
        own_valkey.limit_memory(0)
        await heed.heard("store_back", within=2)
        assert store.node == node or not own_valkey.ask("EXISTS", store._names.lease(node))  # type: ignore[attr-defined]
        await writes_again(store, heed, key)


def entries_of(server: StoreServer, store: Store, key: Key) -> list[object]:
    entries: list[object] = server.ask("XRANGE", store._names.session(key).log, "-", "+")  # type: ignore[attr-defined]
    return entries


async def test_memory_that_is_freed_in_time_is_no_outage(own_valkey: StoreServer, key: Key) -> None:
    async with opened(own_valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        own_valkey.limit_memory(1)
        writer.queue(STARTED)
        writer.queue(Tokens("m", 0, ["a"]))
        await trio.sleep(0.5)
        assert heed.verdicts == []
        own_valkey.limit_memory(0)
        await heed.until(lambda: len(heed.verdicts) == 2)
        assert heed.verdicts == [Verdict.WRITTEN] * 2
        assert heed.names == []


async def test_one_stream_of_another_type_harms_no_other(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url) as (store, heed):
        writer, other = Writer(store, heed, key), Writer(store, heed, ("bob", key[1]))
        await writer.claim()
        await other.claim()
        valkey.ask("SET", store._names.session(key).log, "a string")
        writer.queue(STARTED)
        other.queue(STARTED)
        await heed.until(lambda: len(heed.verdicts) == 2)
        assert heed.verdicts == [Verdict.UNREACHABLE, Verdict.WRITTEN]
        with pytest.raises(StoreGone, match=r"WRONGTYPE|WrongType"):
            await store.read(key)
        assert heed.names == []


async def test_a_server_that_has_become_a_replica_takes_no_writes_until_it_is_none(
    own_valkey: StoreServer, key: Key
) -> None:
    async with opened(own_valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        own_valkey.ask("REPLICAOF", "127.0.0.1", "1")
        assert await writer.write(STARTED) is Verdict.UNREACHABLE
        await heed.heard("store_gone")
        own_valkey.ask("REPLICAOF", "NO", "ONE")
        await heed.heard("store_back", within=2)
        await writes_again(store, heed, key)


async def test_a_password_that_is_no_longer_good(own_valkey: StoreServer, key: Key) -> None:
    own_valkey.ask("ACL", "SETUSER", "app", "on", ">one", "~*", "+@all")
    url = f"redis://app:one@127.0.0.1:{own_valkey.port}"
    async with opened(url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        own_valkey.ask("ACL", "SETUSER", "app", "resetpass", ">two")
        own_valkey.ask("CLIENT", "KILL", "USER", "app")
        assert await writer.write(STARTED) is Verdict.UNREACHABLE
        await heed.heard("store_gone")
        own_valkey.ask("ACL", "SETUSER", "app", ">one")
        await heed.heard("store_back", within=2)
        await writes_again(store, heed, key)
    with pytest.RaisesGroup(pytest.RaisesExc(StoreGone, match="WRONGPASS")):
        async with opened(f"redis://app:three@127.0.0.1:{own_valkey.port}"):
            raise AssertionError("it opened")


async def test_a_server_that_still_loads_its_data() -> None:
    """LOADING: it is there, and answers nothing but that."""
    with store_server(valkey_binary(), "--enable-debug-command", "yes") as server:
        server.ask("DEBUG", "POPULATE", 3000)
        server.ask("SAVE")
        server.slow_start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
        with pytest.RaisesGroup(pytest.RaisesExc(StoreGone, match="LOADING")):
            async with opened(server.url):
                raise AssertionError("it opened")


@asynccontextmanager
async def through_proxy(server: StoreServer) -> AsyncGenerator[tuple[Store, Noted, FaultProxy]]:
    async with fault_proxy(server) as proxy, opened(f"redis://127.0.0.1:{proxy.port}") as (store, heed):
        yield store, heed, proxy


async def test_a_cut_connection_costs_nothing(valkey: StoreServer, key: Key) -> None:
    """Cut after every number of bytes of an append and of its reply: each is written once, and its verdict says so."""
    async with through_proxy(valkey) as (store, heed, proxy):
        writer = Writer(store, heed, key)
        await writer.claim()
        store.follow(key, Position(writer.epoch, 0), heed.deliver)
        rounds = 0
        for cut in range(0, 240, 12):
            link = pipe_link(store, proxy)
            (link.up if rounds % 2 else link.down).cut_after(cut // 4)
            assert await writer.write(Tokens("m", rounds, ["a"]), within=4) is Verdict.WRITTEN
            rounds += 1
        await heed.until(lambda: len(heed.stored) == rounds + 1)

        assert [stored.event for stored in heed.stored[1:]] == [Tokens("m", index, ["a"]) for index in range(rounds)]
        assert heed.stored == await store.read(key)
        assert heed.names == []


def pipe_link(store: Store, proxy: FaultProxy) -> object:
    stream = store._pipe._link._stream  # type: ignore[attr-defined]
    return proxy._links[stream.socket.getsockname()[1]]


async def test_all_connections_cut_while_letters_are_under_way(valkey: StoreServer, key: Key) -> None:
    from trialogue.core.letters import AskCancel

    async with through_proxy(valkey) as (store, heed, proxy), opened(valkey.url) as (other, inbox):
        letters = [AskCancel(("ann", "s"), store.node, number, None) for number in range(200)]
        for number, letter in enumerate(letters):
            store.send(other.node, letter)
            if number % 20 == 0:
                for link in proxy.links:
                    link.down.cut_after(0)
                await trio.sleep(0.02)
        await inbox.until(lambda: len(inbox.letters) == len(letters))
        assert inbox.letters == letters  # none lost, none twice, in order
        assert heed.names == []


async def test_a_connection_that_vanishes_is_an_outage_and_healed(valkey: StoreServer, key: Key) -> None:
    async with through_proxy(valkey) as (store, heed, proxy):
        writer = Writer(store, heed, key)
        await writer.claim()
        store.follow(key, Position(writer.epoch, 1), heed.deliver)
        await trio.sleep(0.05)
        for link in proxy.links:
            link.vanish()
        began = trio.current_time()
        assert await writer.write(STARTED, within=2.5) is Verdict.UNREACHABLE
        await heed.heard("store_back", within=3)
        assert trio.current_time() - began < 5
        await writes_again(store, heed, key)
        await heed.until(lambda: len(heed.stored) >= 2)


STOPPED = """
import sys, trio
sys.path.insert(0, "tests")
from support.heed import Noted, Writer
from trialogue.core.events import Started
from trialogue_adapters.valkey import Address, ValkeyStore

async def main():
    store, heed = ValkeyStore(Address.parse(sys.argv[1])), Noted()
    async with store.open(heed):
        writer = Writer(store, heed, ("ann", "stopped"))
        await writer.claim()
        print(store.node, flush=True)
        while "lease_lost" not in heed.names:
            verdict = await writer.write(Started("m", "s", "t"))
            await trio.sleep(0.01)
        print(verdict.value, heed.names, flush=True)
        await heed.heard("store_back")
        print(store.node, flush=True)

trio.run(main)
"""


@pytest.mark.slow
async def test_a_node_that_was_stopped_knows_it_and_writes_nothing(valkey: StoreServer) -> None:
    """SIGSTOP for longer than the lease, while another takes its session; SIGCONT: not one append gets in."""
    with subprocess.Popen([sys.executable, "-c", STOPPED, valkey.url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            node = process.stdout.readline().strip()
            async with opened(valkey.url) as (store, heed):
                key = ("ann", "stopped")
                store.watch(node)
                await trio.sleep(0.3)
                os.kill(process.pid, signal.SIGSTOP)
                took = await heed.heard("node_gone")
                assert 3.5 < took < 6
                writer = Writer(store, heed, key)
                claim = await writer.claim(expected=node)
                assert claim.fence
                os.kill(process.pid, signal.SIGCONT)
                said = await trio.to_thread.run_sync(process.stdout.readline)
                assert said.split()[0] in ("unreachable", "stale")
                assert "'lease_lost'" in said
                assert process.stdout.readline().strip() not in ("", node)
                entries = await store.read(key)
                assert entries[-1].epoch == claim.fence.epoch
                assert [entry.epoch for entry in entries].count(claim.fence.epoch) == 1
        finally:
            process.kill()
