"""Questions to a real server: a reply, an error or a silence, each to who asked; and the way back after any of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from support.valkey import StoreServer, store_server, valkey_binary
from trialogue.store import StoreGone
from trialogue_adapters.valkey import Address
from trialogue_adapters.valkey.asker import Asker

PATIENCE = 0.3


@asynccontextmanager
async def asking(url: str) -> AsyncGenerator[Asker]:
    async with trio.open_nursery() as nursery:
        yield Asker(Address.parse(url), nursery, PATIENCE)
        nursery.cancel_scope.cancel()


async def test_many_questions_at_once_go_over_one_connection(valkey: StoreServer) -> None:
    async with asking(valkey.url) as asker:
        before = int(valkey.info("total_connections_received"))
        replies: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            replies[number] = await asker.ask(b"ECHO", b"%d" % number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)
        assert replies == {number: b"%d" % number for number in range(50)}
        assert int(valkey.info("total_connections_received")) == before + 2  # the other one asks for that


async def test_an_error_is_who_askeds_alone(valkey: StoreServer) -> None:
    async with asking(valkey.url) as asker:
        valkey.ask("SET", "text", "x")
        before = int(valkey.info("total_connections_received"))
        with pytest.raises(StoreGone, match="wrong kind of value"):
            await asker.ask(b"XLEN", b"text")
        assert await asker.ask(b"GET", b"text") == b"x"
        assert int(valkey.info("total_connections_received")) == before + 2


async def test_a_silence_has_its_deadline_and_its_connection_is_not_used_again(own_valkey: StoreServer) -> None:
    async with asking(own_valkey.url) as asker:
        former = await asker.ask(b"CLIENT", b"ID")
        own_valkey.freeze()
        began = trio.current_time()
        with pytest.raises(StoreGone, match="no reply to GET"):
            await asker.ask(b"GET", b"a")
        assert trio.current_time() - began < PATIENCE + 0.2
        own_valkey.thaw()
        assert await asker.ask(b"CLIENT", b"ID") > former  # whatever silenced that one is not waited for again


async def test_a_question_may_wait_longer_than_others(own_valkey: StoreServer) -> None:
    async with asking(own_valkey.url) as asker:
        own_valkey.ask("XADD", "s", "1-1", "a", "b")
        words = (b"XREAD", b"BLOCK", b"%.0f" % (2000 * PATIENCE), b"STREAMS", b"s", b"$")
        assert await asker.ask(*words, patience=PATIENCE * 4) is None
        with pytest.raises(StoreGone):
            await asker.ask(*words)


async def test_a_cut_connection_fails_what_waits_and_the_next_question_opens_another(own_valkey: StoreServer) -> None:
    async with asking(own_valkey.url) as asker, trio.open_nursery() as nursery:
        failed = trio.Event()

        async def wait() -> None:
            with pytest.raises(StoreGone):
                await asker.ask(b"BLPOP", b"never", b"0", patience=5)
            failed.set()

        for cut in (lambda: own_valkey.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), asker.hang_up):
            failed = trio.Event()
            nursery.start_soon(wait)
            while not int(own_valkey.info("blocked_clients")):
                await trio.sleep(0.005)
            cut()
            with trio.fail_after(1):
                await failed.wait()
            assert await asker.ask(b"ECHO", b"x") == b"x"


async def test_who_is_cancelled_takes_nobodys_reply(valkey: StoreServer) -> None:
    async with asking(valkey.url) as asker:
        for number in range(20):
            with trio.CancelScope() as scope:
                scope.cancel() if number == 0 else None  # while it connects
                scope.deadline = trio.current_time() + number * 1e-4
                await asker.ask(b"ECHO", b"cancelled")
            with trio.fail_after(1):
                assert await asker.ask(b"ECHO", b"%d" % number) == b"%d" % number


async def test_nobody_there_is_said_and_looked_for_again(own_valkey: StoreServer) -> None:
    own_valkey.kill()
    async with asking(own_valkey.url) as asker:
        for _ in range(2):
            with pytest.raises(StoreGone):
                await asker.ask(b"PING")
        own_valkey.start()
        assert await asker.ask(b"ECHO", b"x") == b"x"


async def test_the_address_database_password_and_socket_are_used(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with store_server(valkey_binary(), "--unixsocket", str(path)) as server:
        server.ask("ACL", "SETUSER", "app", "on", ">sec/ret", "~*", "+@all")
        for url in (f"redis://app:sec%2Fret@127.0.0.1:{server.port}/3", f"unix://app:sec%2Fret@{path}?db=3"):
            async with asking(url) as asker:
                assert await asker.ask(b"ACL", b"WHOAMI") == b"app"
                assert b"db=3" in await asker.ask(b"CLIENT", b"INFO")
