"""Cuts after any byte, and the storm of repeats, as on one server: but each return is to a random one of three nodes.

`--node-cuts N` makes N cuts.
"""

from __future__ import annotations

from statistics import quantiles

import pytest
import trio

from proof.cutting import TOKENS, Reader, read_until_cut, resume, size_of_an_answer
from proof.storm import Storm
from support.cluster import Cluster
from support.fault_proxy import FaultProxy, fault_proxy
from support.raw_client import tokens

AT_ONCE = 8


@pytest.mark.timeout(3600)
async def test_cut_after_any_byte_and_resumed_on_any_node(
    three: Cluster, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    cuts = pytestconfig.getoption("node_cuts")
    readers: list[Reader] = []
    times: list[float] = []
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def one(proxy: FaultProxy, number: int, size: int) -> None:
        reader = Reader(pace=0.002 * (number % 2))
        async with limiter:
            await read_until_cut(proxy, reader, 1 + number * size // cuts % size)
            if not reader.done:
                times.append(await resume(three.any_node(), reader))
        readers.append(reader)

    async with (
        fault_proxy(three.nodes[0]) as first,
        fault_proxy(three.nodes[1]) as second,
        fault_proxy(three.nodes[2]) as third,
        trio.open_nursery() as nursery,
    ):
        size = await size_of_an_answer(first)
        for number in range(cuts):
            nursery.start_soon(one, three.random.choice((first, second, third)), number, size)
    lost, repeated = sum(reader.lost for reader in readers), sum(reader.repeated for reader in readers)
    percentiles = quantiles(times, n=100)
    store = pytestconfig.getoption("store")
    with capsys.disabled():
        print(
            f"\ncuts on {store}: {len(times)} of {cuts} cut before the answer's end and resumed on a random node, "
            f"{lost} entries lost, {repeated} repeated; a resume took {percentiles[49] * 1e3:.1f} ms (p50), "
            f"{percentiles[98] * 1e3:.1f} ms (p99)"
        )
    assert (lost, repeated) == (0, 0)
    assert all(tokens(reader.entries) == [f"t{n} " for n in range(TOKENS)] for reader in readers)
    assert len(times) > cuts * 0.9
    opened = three.opened()
    assert {opened[reader.message_id] for reader in readers} == {1}


async def test_a_thousand_repeats_over_drops_anywhere_are_one_generation(
    three: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    storm = Storm(three.any_node)
    await storm.rage()
    await storm.verify()
    opened = three.opened()[storm.message_id]
    with capsys.disabled():
        print(f"\nrepeats on three nodes: {storm}, {opened} generation")
    assert opened == 1
