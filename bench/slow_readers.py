"""Slow readers: 200 clients that send a message and never read the answer, among others that do.

Each round measures how late the others' tokens come (paced, on an absolute schedule; p50 and p99 in milliseconds)
`before` the 200 have come and `during`: from their first message on, for as many seconds. Memory is what a reader that
never reads adds to the server by the end (kb_reader). `stuck` says what these are owed: `ready`, an answer that comes
as fast as it is read, or `paced`, one at the others' pace.
"""

from __future__ import annotations

import asyncio
from array import array
from random import Random
from statistics import median
from time import monotonic

from common.catalog import PEERS, Peer
from common.client import connected
from common.latency import percentiles
from common.process import Server, prepare_load
from common.raw import connect
from common.report import markdown, number, parser, save
from common.rounds import Figures
from paced import RATE, Reader

SECONDS = 6.0
"""Of each window: less than the ten after which a reader that takes nothing is closed."""
OWED = 100_000
ARRIVAL = 1.0
"""Seconds in which the readers that never read send their messages."""


class Late(Reader):
    """… and when the token came, so that windows can be told apart."""

    seen: array[float]

    def on_token(self, payload: memoryview) -> None:
        super().on_token(payload)
        self.seen.append(monotonic())


async def measure(peer: Peer, server: Server, *, readers: int, others: int, stuck: str) -> Figures:
    """One round: the others alone, then with the readers that never read."""
    late, seen, random = array("d"), array("d"), Random(1)
    async with connected(peer, server, others, Late) as clients:
        stalled = [await connect(peer, server, deflate=False) for _ in range(readers)]
        for client in stalled:
            client.transport.pause_reading()  # type: ignore[attr-defined]
        start = monotonic() + 0.5
        for client in clients:
            client.late, client.seen = late, seen
            client.start = start + random.random() / RATE
            client.ask(f"paced {int(RATE * (2 * SECONDS + 6))} - {RATE} {client.start:.6f}")
        await asyncio.sleep(start + 1.5 - monotonic())
        first, resident = monotonic(), server.rss()
        await asyncio.sleep(SECONDS)
        second = monotonic()
        for client in stalled:
            client.ask(f"ready {OWED}" if stuck == "ready" else f"paced {OWED} - {RATE} {monotonic():.6f}")
            await asyncio.sleep(ARRIVAL / readers)
        await asyncio.sleep(second + SECONDS - monotonic())
        third, grown = monotonic(), server.rss() - resident
        for client in stalled:
            client.transport.abort()
    before = [value for value, when in zip(late, seen, strict=True) if first <= when < second]
    during = [value for value, when in zip(late, seen, strict=True) if second <= when < third]
    return {**percentiles(before, "before"), **percentiles(during, "during"), "kb_reader": grown / readers / 1024}


def main() -> None:
    flags = parser(__doc__, rounds=5, servers=[name for name, peer in PEERS.items() if peer.ours])
    flags.add_argument("--readers", type=int, default=200, help="that never read (%(default)s)")
    flags.add_argument("--others", type=int, default=100, help="that do (%(default)s)")
    flags.add_argument("--stuck", nargs="+", default=["ready", "paced"], help="what the former are owed (%(default)s)")
    options = flags.parse_args()
    prepare_load(options.readers + options.others)
    results: dict[str, list[Figures]] = {}
    for _ in range(options.rounds):
        for name in options.servers:
            for stuck in options.stuck:
                with PEERS[name].launch() as server:
                    figures = asyncio.run(
                        measure(PEERS[name], server, readers=options.readers, others=options.others, stuck=stuck)
                    )
                results.setdefault(f"{name}, {stuck}", []).append(figures)
    keys = ("before_p50", "before_p99", "during_p50", "during_p99", "during_max", "kb_reader")
    rows = []
    for what, rounds in results.items():
        middle = {key: median(figures[key] for figures in rounds) for key in keys}
        ratio = middle["during_p99"] / middle["before_p99"]
        rows.append([what, *(number(middle[key]) for key in keys), f"{ratio:.2f}"])
    print(markdown(["server", *keys, "p99 ratio"], rows), flush=True)
    save(options.json, {"slow readers": results})


if __name__ == "__main__":
    main()
