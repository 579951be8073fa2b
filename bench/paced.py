"""Paced: 300, 1,000 and 3,000 sessions, each with an answer at 26.7 tokens a second, phases spread at random.

What a busy server looks like: CPU per token (cpu_us), the share of the tokens that were due in the window and came in
it (delivered), how late tokens came (late_*, milliseconds after they were due, the undelivered ones included), and
the memory that streaming took (kb_session). Against: the FastAPI design on uvicorn, and every peer in --servers.
`server` and `load` are the shares of their cores.
"""

from __future__ import annotations

import asyncio
from array import array
from functools import partial
from random import Random
from time import monotonic

from common.catalog import PEERS, Peer, choose
from common.client import Client, connected
from common.latency import percentiles
from common.process import Server, prepare_load
from common.report import comparison, parser, save
from common.rounds import Figures, interleaved
from common.stopwatch import Stopwatch

RATE = 26.7


class Reader(Client):
    """Notes how late each token is; `late` is shared by all."""

    late: array[float]
    start = 0.0
    period = 1 / RATE

    def on_token(self, payload: memoryview) -> None:
        self.late.append(monotonic() - self.start - (self.tokens - 1) * self.period)


async def measure(peer: Peer, server: Server, *, sessions: int, seconds: float, rate: float = RATE) -> Figures:
    """One server, one number of sessions."""
    before, late, random = server.rss(), array("d"), Random(1)
    async with connected(peer, server, sessions, Reader) as clients:
        lead, warm = 0.5 + sessions / 1500, 1.5 + sessions / 1000
        start, count = monotonic() + lead, int(rate * (warm + seconds + 2))
        for number, client in enumerate(clients):
            client.late, client.period = late, 1 / rate
            client.start = start + random.random() / rate
            client.ask(f"paced {count} - {rate} {client.start:.6f}")
            if number % 25 == 24:
                await asyncio.sleep(lead * 0.7 * 25 / sessions)
        await asyncio.sleep(max(0, start + warm - monotonic()))
        del late[:]
        tokens, watch = sum(client.tokens for client in clients), Stopwatch(server)
        await asyncio.sleep(seconds)
        wall, cpu, load = watch.read()
        now, streaming = monotonic(), server.rss()
        tokens = sum(client.tokens for client in clients) - tokens
        overdue = [
            now - client.start - index * client.period
            for client in clients
            for index in range(client.tokens, min(count, int((now - client.start) * rate) + 1))
        ]
    return {
        "cpu_us": cpu / max(tokens, 1) * 1e6,
        "delivered": min(1.0, tokens / (sessions * rate * wall)),  # more: it caught up with the warm-up
        **percentiles([*late, *overdue], "late"),
        "kb_session": (streaming - before) / sessions / 1024,
        "server": cpu / wall,
        "load": load / wall,
    }


def main() -> None:
    flags = parser(__doc__, rounds=3, servers=PEERS)
    flags.add_argument("--sessions", nargs="+", type=int, default=[300, 1000, 3000])
    flags.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    options = flags.parse_args()
    prepare_load(max(options.sessions))
    results = {}
    for sessions in options.sessions:
        what = f"paced {sessions}"
        job = partial(measure, sessions=sessions, seconds=options.seconds)
        results[what] = interleaved(choose(options.servers), options.rounds, job, what)
        print(f"\n### {sessions} sessions × {RATE} tokens/s\n\n{comparison(results[what], ['cpu_us'])}", flush=True)
    save(options.json, results)


if __name__ == "__main__":
    main()
