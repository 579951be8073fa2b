"""Drops, restarts, drains, TLS and credentials: the link comes back, and an answer is told once and whole."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
import trustme

from support.auth import token as minted
from support.auth import write_files
from support.fault_proxy import FaultProxy, fault_proxy
from support.loops import LOOPS, Loop
from support.server import Server, running
from trialogue_adapters.client import (
    Chat,
    Connected,
    Disconnected,
    Refused,
    Token,
    TurnRestarted,
    Unreachable,
    connect,
)
from trialogue_adapters.client import chat as link

pytestmark = pytest.mark.usefixtures("hasty")


def address(proxy: FaultProxy) -> str:
    return f"http://{proxy.host}:{proxy.port}"


def kill(proxy: FaultProxy, number: int) -> None:
    """End every link, in one of three ways: at once with a reset, with a FIN, or somewhere within the next frames."""
    for open_link in list(proxy._links.values()):
        match number % 3:
            case 0:
                open_link.reset()
            case 1:
                open_link.finish()
            case 2:
                open_link.down.cut_after(50 + 7 * number)


async def test_ten_kills_during_an_answer(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(address(proxy)) as chat:
            happened = chat.events()
            turn = await chat.send("long", options={"tokens": 300, "pace": 0.004})
            taken, kills = [], 0
            async for token in turn:
                taken.append(token)
                if len(taken) % 25 == 0 and kills < 10 and chat.connected:
                    loop.outside(partial(kill, proxy, kills))
                    kills += 1
            assert kills == 10
            assert taken == [f"t{n} " for n in range(300)]
            assert (turn.text, turn.ending, turn.whole) == ("".join(taken), "stop", True)
            drops = [event for event in happened._events if isinstance(event, Disconnected)]
            returns = [event for event in happened._events if isinstance(event, Connected)]
            assert len(drops) >= 8, "some kills may fall together"
            assert {event.resumed for event in returns} == {"replayed"}

    async with fault_proxy(server) as proxy:
        await loop.run(scenario)


async def test_what_is_said_while_away_is_said_after_the_return(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(address(proxy)) as chat:
            await cut(chat)
            first, second = await chat.send("first"), await chat.send("second")
            withdrawn, stopped = await chat.send("withdrawn"), await chat.send("stopped")
            assert (await withdrawn.cancel()).outcome == "cancelled"
            assert [await one.ended() for one in (first, second, withdrawn)] == ["stop", "stop", "cancelled"]
            assert await stopped.ended() == "stop"
            assert not server.record("opened", "withdrawn")

    async def cut(chat: Chat) -> None:
        loop.outside(lambda: kill(proxy, 0))
        while chat.connected:
            await anyio.sleep(0.001)

    async with fault_proxy(server) as proxy:
        await loop.run(scenario)


async def test_a_server_that_falls_silent_is_left(server: Server, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(link, "PONG_SECONDS", 0.2)

    async def scenario() -> None:
        async with connect(address(proxy)) as chat:
            await anyio.sleep(0.5)
            assert chat.connected, "it answers pings"
            turn = await chat.send("one", options={"first": 0.1})
            loop.outside(lambda: [one.vanish() for one in proxy._links.values()])
            happened = chat.events()
            assert await anext(happened) == Disconnected(1006, "no pong", pytest.approx(0, abs=0.1))
            assert await turn.ended() == "stop"

    async with fault_proxy(server) as proxy:
        await loop.run(scenario)


# ── The server goes, and another comes ───────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def two_servers(folder: Path) -> AsyncIterator[tuple[Server, Server, SimpleNamespace, FaultProxy]]:
    """One, and its successor; `behind` says which of them the proxy leads to."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    with running(folder / "a", "hypercorn") as first, running(folder / "b", "hypercorn") as second:
        behind = SimpleNamespace(host=first.host, port=first.port)
        async with fault_proxy(behind) as proxy:
            yield first, second, behind, proxy


async def test_a_server_that_was_killed_begins_the_answer_anew(loop: Loop, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connect(address(proxy)) as chat:
            turn = await chat.send("lost", options={"tokens": 100, "pace": 0.005})
            unseen = await chat.send("unseen", on_busy="enqueue")
            taken = []
            with pytest.raises(TurnRestarted) as restarted:  # noqa: PT012 - the loop is what is tested
                async for token in turn:
                    taken.append(token)
                    if len(taken) == 5:
                        behind.port = second.port
                        os.kill(first.process.pid, signal.SIGKILL)
            assert restarted.value.retryable
            assert (chat.resumed, turn.edition) == ("gap", 1)
            assert [token async for token in turn] == [f"t{n} " for n in range(100)]
            assert (turn.ending, turn.whole) == ("stop", True)
            assert [token async for token in unseen] == ["t0 ", "t1 ", "t2 "], "nobody had seen any of it: no error"

    async with two_servers(tmp_path) as (first, second, behind, proxy):
        await loop.run(scenario)


async def test_a_drain_is_come_back_from_when_the_server_has_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connect(address(proxy)) as chat:
            happened = chat.events()
            before = anyio.current_time()
            behind.port = second.port
            first.signal()
            left = await anext(happened)
            assert isinstance(left, Disconnected)
            assert left.code == 1012
            turn = await chat.send("kept")
            assert await anext(happened) == Connected("gap")
            assert anyio.current_time() - before >= left.retry_in > 0
            assert await turn.ended() == "stop"

    async with two_servers(tmp_path) as (first, second, behind, proxy):
        await scenario()


# ── Credentials and TLS ──────────────────────────────────────────────────────────────────────────────────────────


async def test_credentials(tmp_path: Path) -> None:
    asked = []

    async def short() -> Token:
        asked.append(anyio.current_time())
        return Token(minted("s1", lifetime=3), 1.25)

    async def scenario(how: object, session_id: str, seconds: float) -> Chat:
        async with connect(server.address, session_id=session_id, token=how) as chat:  # type: ignore[arg-type]
            await anyio.sleep(seconds)
            await (await chat.send("one")).ended()
            return chat

    with running(tmp_path, "hypercorn", write_files(tmp_path)) as server:
        for wrong in (None, "key-of-nobody", minted("another")):
            with pytest.raises(Refused) as refused:
                await scenario(wrong, "s1", 0)
            assert (refused.value.status, refused.value.retryable) == (401, False)
        with pytest.raises(ValueError, match="printable"):
            await scenario("a\r\nb", "s1", 0)
        await scenario("key-of-alice", "s1", 0)
        chat = await scenario(short, "s1", 3.2)
        assert len(asked) == 4, "renewed each second"
        assert chat.resumed == "attached", "on the open connection, which has outlived its first token"
        assert repr(chat._credential) == "<Credential, fetched>"


async def test_an_expired_credential_is_fetched_anew(loop: Loop, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with connect(server.address, session_id="s1", token=lambda: minted("s1", lifetime=1.5)) as chat:
            happened = chat.events()
            turn = await chat.send("long", options={"tokens": 40, "pace": 0.05})
            assert [token async for token in turn] == [f"t{n} " for n in range(40)]
            assert [type(await anext(happened)) for _ in range(2)] == [Disconnected, Connected]

    with running(tmp_path, "hypercorn", write_files(tmp_path)) as server:
        await loop.run(scenario)


async def test_tls(listener: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    both = str(tmp_path / "both.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def scenario() -> None:
        with pytest.raises(Unreachable, match="certificate verify failed"):
            async with connect(server.address):
                pass
        async with connect(server.address, tls=trusting) as chat:
            assert str(chat._address).startswith("wss://127.0.0.1:")
            turn = await chat.send("one", options={"tokens": 2000})
            assert [token async for token in turn] == [f"t{n} " for n in range(2000)]

    with running(tmp_path, listener, ("--certfile", both, "--keyfile", both)) as server:
        for loop in LOOPS:
            await Loop(loop).run(scenario)
