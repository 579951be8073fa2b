"""Two real servers on a real store: one session on both, a stop from afar, a return to the other, the store's loss."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import trio

from support.raw_client import Closed, fresh, open_client
from support.server import MOUNTED, Server, running
from support.valkey import StoreServer

LATE = 0.5
"""Seconds that an end may take from one node to another here, on a busy machine. A quiet one takes a few ms."""


@pytest.fixture(scope="module")
def nodes(valkey: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Server, Server]]:
    with ExitStack() as stack:
        folders = (tmp_path_factory.mktemp("node") for _ in range(2))
        flags = ("--redis-url", valkey.url, "--dialect", "onerag")
        one, two = (stack.enter_context(running(folder, "hypercorn", flags)) for folder in folders)
        yield one, two


@pytest.fixture(scope="module")
def host(valkey: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """A third node: an application on asyncio that has the engine in it, and its own endpoints."""
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn"))):
        pytest.skip("FastAPI is not installed")
    with running(tmp_path_factory.mktemp("host"), MOUNTED, ("--redis-url", valkey.url)) as server:
        yield server


async def call(server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    wanted = Request(server.address + path, data, {"content-type": "application/json"}, method=method)

    def send() -> tuple[int, Any]:
        try:
            with urlopen(wanted) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)

    return await trio.to_thread.run_sync(send)


async def test_a_turn_of_one_node_is_seen_and_stopped_on_the_other(nodes: tuple[Server, Server]) -> None:
    one, two = nodes
    async with open_client(one, "shared", v1=True) as owner, open_client(two, "shared", v1=True) as other:
        message = await owner.say(tokens=None, pace=0.01)
        await other.wait_for("stream_token")
        began = trio.current_time()
        await other.cancel(message)
        end = await other.wait_for("stream_end")
        assert trio.current_time() - began < LATE
        assert end["finish_reason"] == "cancelled"
        assert await owner.wait_for("stream_end") == end


async def test_who_comes_back_to_the_other_node_misses_nothing(nodes: tuple[Server, Server]) -> None:
    one, two = nodes
    async with open_client(one, "wanderer", v1=True) as client:
        position = client.ready["position"]
        message = await client.say(tokens=50, pace=0.01)
        await client.wait_for("stream_token")
        await client.vanish("reset")
    async with open_client(two, "wanderer", v1=True, query={"after": position}) as client:
        assert client.ready["resumed"] == "replayed"
        tokens = [frame for frame in await client.turn(message) if frame["type"] == "stream_token"]
        assert [token["index"] for token in tokens] == list(range(50))


async def test_a_host_speaks_to_all_devices_of_a_session_on_other_nodes(
    nodes: tuple[Server, Server], host: Server
) -> None:
    session = fresh("s")
    assert await call(host, "GET", f"/connected/{session}") == (200, {"connected": False})
    async with (
        open_client(nodes[0], session, v1=True) as one,
        open_client(nodes[1], session, v1=True) as two,
        open_client(host, session, v1=True) as three,
    ):
        assert await call(host, "GET", f"/connected/{session}") == (200, {"connected": True})
        for n in range(3):
            assert await call(host, "POST", f"/send/{session}", {"type": "news", "n": n}) == (200, {"told": 3})
        for client in (one, two, three):
            assert [(await client.wait_for("news"))["n"] for _ in range(3)] == [0, 1, 2]
        async with open_client(nodes[0], fresh("t")) as stranger:
            for n in range(3):
                assert await call(host, "POST", "/broadcast", {"type": "all", "n": n}) == (200, {})
            for client in (one, two, three, stranger):
                assert [(await client.wait_for("all"))["n"] for _ in range(3)] == [0, 1, 2]
    assert await call(host, "POST", f"/send/{fresh('nobody')}", {"type": "news"}) == (200, {"told": 0})


@pytest.mark.parametrize("door", ["the host's", "a node's"])
async def test_who_deletes_a_session_on_one_node_ends_it_on_all(
    door: str, nodes: tuple[Server, Server], host: Server, valkey: StoreServer
) -> None:
    one, two = nodes
    session = fresh("s")
    server, path = (host, f"/session/{session}") if door == "the host's" else (two, f"/api/chat/session/{session}")
    async with open_client(one, session, v1=True) as first, open_client(host, session, v1=True) as second:
        message = await second.say(tokens=None, pace=0.01)
        await first.wait_for("stream_token", message)
        assert (await call(two, "GET", f"/api/chat/session/{session}/info"))[1]["messageCount"] >= 1
        assert (await call(server, "DELETE", path))[0] == 200
        for client in (first, second):
            assert (await client.wait_for("stream_end", message))["finish_reason"] == "cancelled"
            with pytest.raises(Closed) as closed:
                await client.wait_for("nothing more")
            assert closed.value.code == 1000
    with trio.fail_after(5):
        while any(session.encode() in key and b":floor" not in key for key in valkey.ask("KEYS", "*")):
            await trio.sleep(0.02)
    assert (await call(two, "GET", f"/api/chat/history/{session}"))[0] == 404
    async with open_client(one, session, v1=True) as again:
        await again.turn(await again.say(tokens=2))


async def test_a_session_that_one_node_has_made_is_another_nodes_clients(nodes: tuple[Server, Server]) -> None:
    one, two = nodes
    session = (await call(one, "POST", "/api/chat/session", {}))[1]["session_id"]
    async with open_client(two, session) as client:
        assert (await client.turn(await client.say(tokens=2)))[-1]["type"] == "stream_end"
    said = (await call(one, "GET", f"/api/chat/history/{session}"))[1]
    assert [told["role"] for told in said["messages"]] == ["user", "assistant"]
    assert (await call(one, "DELETE", f"/api/chat/session/{session}"))[0] == 200
    with trio.fail_after(5):  # what has begun is not over yet
        while (await call(two, "DELETE", f"/api/chat/session/{session}"))[0] != 404:
            await trio.sleep(0.02)


async def test_the_store_counts(nodes: tuple[Server, Server]) -> None:
    one, _ = nodes
    async with open_client(one, v1=True) as client:
        await client.turn(await client.say(tokens=3))
        with urlopen(f"{one.address}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    counts = dict(line.rsplit(" ", 1) for line in lines if line.startswith("trialogue_store_"))
    assert counts["trialogue_store_reachable"] == "1.0"
    assert float(counts["trialogue_store_sessions_owned"]) >= 1
    assert float(counts['trialogue_store_appends_total{verdict="written"}']) >= 3
    assert counts['trialogue_store_appends_total{verdict="stale"}'] == "0.0"
    trips = [
        float(count) for name, count in counts.items() if name.startswith("trialogue_store_round_trip_seconds_bucket")
    ]
    assert trips == sorted(trips)
    assert trips[-1] == float(counts["trialogue_store_round_trip_seconds_count"]) > 3
    assert float(counts["trialogue_store_round_trip_seconds_sum"]) > 0


def ready(server: Server) -> int:
    try:
        with urlopen(f"{server.address}/readyz") as answer:
            return int(answer.status)
    except HTTPError as error:
        body = error.read().decode()
        assert "store not reachable" in body
        return error.code


async def test_readyz_says_that_the_store_is_gone_and_back(
    own_valkey: StoreServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(
        tmp_path_factory.mktemp("node"), "hypercorn", ("--redis-url", own_valkey.url, "--dialect", "onerag")
    ) as server:
        assert await trio.to_thread.run_sync(ready, server) == 200
        own_valkey.kill()
        with trio.fail_after(5):
            while await trio.to_thread.run_sync(ready, server) != 503:
                await trio.sleep(0.05)
        for method, path in (("GET", "/api/chat/history/s"), ("DELETE", "/api/chat/session/s")):
            status, told = await call(server, method, path)
            assert (status, told["error"]["code"]) == (503, "WS-009")
        for path in ("/chat/stream", "/chat/cancel"):
            status, told = await call(server, "POST", path, {"session_id": "s", "message": "m", "message_id": "m"})
            assert (status, told["error"]["code"]) == (503, "WS-009"), path
        own_valkey.start()
        with trio.fail_after(5):
            while await trio.to_thread.run_sync(ready, server) != 200:
                await trio.sleep(0.05)


async def test_no_store_at_the_start_is_told_in_one_line(
    own_valkey: StoreServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own_valkey.kill()
    folder = tmp_path_factory.mktemp("node")
    with pytest.raises(AssertionError), running(folder, "hypercorn", ("--redis-url", own_valkey.url)):
        pass
    assert f"trialogue: --redis-url: 127.0.0.1:{own_valkey.port}: " in (folder / "server.log").read_text()
