"""Two real servers on a real store: one session on both, a stop from afar, a return to the other, the store's loss."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import trio

from support.raw_client import open_client
from support.server import Server, running
from support.valkey import StoreServer

LATE = 0.5
"""Seconds that an end may take from one node to another here, on a busy machine. A quiet one takes a few ms."""


@pytest.fixture(scope="module")
def nodes(valkey: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Server, Server]]:
    with ExitStack() as stack:
        folders = (tmp_path_factory.mktemp("node") for _ in range(2))
        flags = ("--redis-url", valkey.url)
        one, two = (stack.enter_context(running(folder, "hypercorn", flags)) for folder in folders)
        yield one, two


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
    with running(tmp_path_factory.mktemp("node"), "hypercorn", ("--redis-url", own_valkey.url)) as server:
        assert await trio.to_thread.run_sync(ready, server) == 200
        own_valkey.kill()
        with trio.fail_after(5):
            while await trio.to_thread.run_sync(ready, server) != 503:
                await trio.sleep(0.05)
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
