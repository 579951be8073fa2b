"""An answer's connection is cut after each of its bytes, resumed, and what the client has is what the log says.

`--cuts N` makes N cuts per listener, spread evenly over the bytes that the server sends, from its `101` on.
Half of the answers are ready at once (they are whole in the log when the client comes back), half are still running.
"""

from __future__ import annotations

import json
from collections import Counter
from statistics import quantiles

import pytest
import trio

from proof.cutting import TOKENS, Reader, read_until_cut, resume, size_of_an_answer
from support.fault_proxy import FaultProxy, fault_proxy
from support.raw_client import open_client, tokens
from support.server import Server

FLAGS = ("--messages-per-minute", "0", "--turns-per-minute", "0", "--handshakes-per-second", "0")
AT_ONCE = 8
"""Clients at a time: few, so that a resume's time is the server's, not their queue for one processor."""
P99_SECONDS = 0.2
"""For a resume; or twice what a first attach takes in the same minute, on a busy machine."""


def generations(server: Server) -> Counter[str]:
    """How often the service was asked for each message."""
    lines = (server.folder / "record.jsonl").read_text(encoding="utf-8").splitlines()
    return Counter(entry["message"] for line in lines if (entry := json.loads(line))["what"] == "opened")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_cut_after_any_byte_nothing_is_lost_and_nothing_comes_twice(
    server: Server, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    cuts = pytestconfig.getoption("cuts")
    readers: list[Reader] = []
    times: list[float] = []
    firsts: list[float] = []

    async def one(proxy: FaultProxy, number: int, size: int) -> None:
        reader = Reader(pace=0.002 * (number % 2))
        async with limiter:
            firsts.append(await read_until_cut(proxy, reader, 1 + number * size // cuts % size))
            if not reader.done:
                times.append(await resume(server, reader))
        readers.append(reader)

    limiter = trio.CapacityLimiter(AT_ONCE)
    async with fault_proxy(server) as proxy:
        size = await size_of_an_answer(proxy)
        async with trio.open_nursery() as nursery:
            for number in range(cuts):
                nursery.start_soon(one, proxy, number, size)
    lost, repeated = sum(reader.lost for reader in readers), sum(reader.repeated for reader in readers)
    percentiles, usual = quantiles(times, n=100), quantiles(firsts, n=100)
    with capsys.disabled():
        print(
            f"\ncuts, {server.listener}: an answer of {size} bytes, {len(times)} of {cuts} cut before its end, "
            f"{lost} lost, {repeated} repeated; a resume took {percentiles[49] * 1e3:.1f} ms (p50), "
            f"{percentiles[98] * 1e3:.1f} ms (p99); a first attach {usual[98] * 1e3:.1f} ms (p99)"
        )
    assert (lost, repeated) == (0, 0)
    assert all(tokens(reader.entries) == [f"t{n} " for n in range(TOKENS)] for reader in readers)
    assert len(times) > cuts * 0.9
    opened = generations(server)
    assert {opened[reader.message_id] for reader in readers} == {1}
    assert percentiles[98] <= max(P99_SECONDS, 2 * usual[98])


async def test_cut_again_and_again_the_rest_still_comes(server: Server) -> None:
    reader, connections = Reader(0.002), 0
    async with fault_proxy(server) as proxy:
        while not reader.done:
            connections += 1
            assert connections < 100
            await read_until_cut(proxy, reader, 1_000)
    assert connections > 3
    assert (reader.lost, reader.repeated) == (0, 0)
    assert tokens(reader.entries) == [f"t{n} " for n in range(TOKENS)]
    assert generations(server)[reader.message_id] == 1


async def test_a_plain_client_that_is_cut_gets_the_running_turn_whole_again(server: Server) -> None:
    async with fault_proxy(server) as proxy, open_client(proxy) as client:
        message_id = await client.say(tokens=TOKENS, pace=0.01)
        await client.wait_for("stream_token")
        proxy.link(client).down.cut_after(200)
        await client.end()
    async with open_client(server, client.session_id) as again:
        assert tokens(await again.turn(message_id)) == [f"t{n} " for n in range(TOKENS)]
