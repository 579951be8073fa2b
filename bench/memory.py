"""Memory per connection, idle and streaming, and connections accepted per second.

kb_idle: resident memory that a connection takes before its first message. kb_streaming: the most it took while a
200-token answer came at 26.7 tokens a second; the log that Trialogue keeps for resuming is in it. Each with (`deflate`)
and without a client that offers permessage-deflate, which every browser does. accepts_s: connections opened and closed
by the clock, 32 at a time; accepts_cpu_s: per second of the server's CPU. Before anything is measured, a few
connections warm the server up. Against: the FastAPI design on uvicorn, and every peer in --servers.
"""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic

from common.catalog import PEERS, Peer, choose
from common.process import Server, prepare_load
from common.raw import connect, raw_clients
from common.report import comparison, parser, save
from common.rounds import Figures, interleaved
from common.stopwatch import Stopwatch

RATE, ANSWER = 26.7, 200


async def measure(peer: Peer, server: Server, *, connections: int, deflate: bool) -> Figures:
    """Idle and streaming memory on one fresh server."""
    await _warm_up(peer, server, deflate=deflate)
    before = server.rss()
    async with raw_clients(peer, server, connections, deflate=deflate) as clients:
        await asyncio.sleep(1.0)
        idle = server.rss()
        start = monotonic() + 1.0
        for number, client in enumerate(clients):
            client.ask(f"paced {ANSWER} - {RATE} {start + number / connections / RATE:.6f}")
            if number % 25 == 24:
                await asyncio.sleep(0.02)
        most = idle
        while monotonic() < start + ANSWER / RATE + 0.3:
            await asyncio.sleep(0.25)
            most = max(most, server.rss())
    return {
        "kb_idle": (idle - before) / connections / 1024,
        "kb_streaming": (most - before) / connections / 1024,
        "mb_server": before / 2**20,
    }


async def _warm_up(peer: Peer, server: Server, *, deflate: bool) -> None:
    async with raw_clients(peer, server, 20, deflate=deflate) as clients:
        for client in clients:
            client.ask("steps 50")
        await asyncio.sleep(0.5)
    await asyncio.sleep(0.5)


async def accepts(peer: Peer, server: Server, *, total: int) -> Figures:
    """Open and close connections, 32 at a time."""
    await _warm_up(peer, server, deflate=False)
    left = iter(range(total))

    async def worker() -> None:
        for _ in left:
            client = await connect(peer, server, deflate=False)
            client.transport.abort()

    watch = Stopwatch(server)
    await asyncio.gather(*(worker() for _ in range(32)))
    wall, cpu, load = watch.read()
    return {
        "accepts_s": total / wall,
        "accepts_cpu_s": total / max(cpu, 0.01),
        "server": cpu / wall,
        "load": load / wall,
    }


def main() -> None:
    flags = parser(__doc__, rounds=3, servers=PEERS)
    flags.add_argument("--connections", type=int, default=500, help="for memory (%(default)s)")
    flags.add_argument("--accepts", type=int, default=2000, help="connections to open and close (%(default)s)")
    options = flags.parse_args()
    prepare_load(options.connections)
    jobs = {
        "memory": partial(measure, connections=options.connections, deflate=False),
        "memory deflate": partial(measure, connections=options.connections, deflate=True),
        "accepts": partial(accepts, total=options.accepts),
    }
    results = {}
    for what, job in jobs.items():
        results[what] = interleaved(choose(options.servers), options.rounds, job, what)
        ratios = ["kb_idle", "kb_streaming", "accepts_s", "accepts_cpu_s"]
        print(f"\n### {what}\n\n{comparison(results[what], ratios)}", flush=True)
    save(options.json, results)


if __name__ == "__main__":
    main()
