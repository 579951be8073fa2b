"""Throughput: how many tokens a server delivers per second of its CPU, tokens being ready all the time.

Each of 1, 32 and 256 sessions asks for 200-token answers, one after the other. `ready`: the service never suspends.
`steps`: it suspends before each token. Against: the FastAPI design on uvicorn (the baseline), and every peer in
--servers. tokens_cpu_s is what to compare (it does not move when a neighbour takes the core for a while); tokens_s is
by the clock; `server` and `load` are the shares of their cores: with `load` above 0.9 the load was the bottleneck, and
tokens_s is a lower bound.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from common.catalog import PEERS, Peer, choose
from common.client import Client, connected
from common.process import Server, prepare_load
from common.report import comparison, parser, save
from common.rounds import Figures, interleaved
from common.stopwatch import Stopwatch

ANSWER = 200


class Asker(Client):
    """Asks again as soon as an answer has ended; an answer with a token too few or too many is an error."""

    mode = "ready"
    done = 0

    def ask_again(self) -> None:
        self.done = self.tokens
        self.ask(f"{self.mode} {ANSWER}")

    def on_event(self, event: dict[str, Any]) -> None:
        if event["type"] == "stream_error":
            raise RuntimeError(f"refused: {event}")
        if event["type"] == "stream_end":
            assert self.tokens - self.done == ANSWER, f"{self.tokens - self.done} tokens instead of {ANSWER}"
            self.ask_again()


async def measure(peer: Peer, server: Server, *, mode: str, sessions: int, seconds: float) -> Figures:
    """One server, one mode, one number of sessions."""
    async with connected(peer, server, sessions, Asker) as clients:
        for client in clients:
            client.mode = mode
            client.ask_again()
        await asyncio.sleep(0.5)
        before, watch = sum(client.tokens for client in clients), Stopwatch(server)
        await asyncio.sleep(seconds)
        wall, cpu, load = watch.read()
        tokens = sum(client.tokens for client in clients) - before
    return {
        "tokens_cpu_s": tokens / max(cpu, 0.01),
        "tokens_s": tokens / wall,
        "server": cpu / wall,
        "load": load / wall,
    }


def main() -> None:
    flags = parser(__doc__, rounds=3, servers=PEERS)
    flags.add_argument("--sessions", nargs="+", type=int, default=[1, 32, 256])
    flags.add_argument("--modes", nargs="+", choices=["ready", "steps"], default=["ready", "steps"])
    flags.add_argument("--seconds", type=float, default=2.0, help="of each measurement (%(default)s)")
    options = flags.parse_args()
    prepare_load(max(options.sessions))
    results = {}
    for mode in options.modes:
        for sessions in options.sessions:
            what = f"throughput {mode} {sessions}"
            job = partial(measure, mode=mode, sessions=sessions, seconds=options.seconds)
            results[what] = interleaved(choose(options.servers), options.rounds, job, what)
            print(
                f"\n### Tokens {mode}, {sessions} sessions\n\n{comparison(results[what], ['tokens_cpu_s'])}", flush=True
            )
    save(options.json, results)


if __name__ == "__main__":
    main()
