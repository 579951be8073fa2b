"""Interruption: how soon a server obeys while it is busy, and what still trickles through afterwards.

500 sessions stream at 26.7 tokens a second (or 1 does, or 32 are flooded with ready tokens: --flood). At fixed times a
message, or a cancel, is sent into a running answer. Milliseconds: frame_* to the first frame of the new answer,
token_* to its first token, cancel_* to the cancelled answer's end. stale: tokens of a stopped answer after the new
one's first frame, or after its own end. upstream_after_max: how many tokens the service generated beyond what the
stopped answer's end counts. Against: the FastAPI design on uvicorn, which cannot even read the message until its
answer has ended, and every peer in --servers. What had not come within --patience counts with that.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from random import Random
from time import monotonic
from typing import Any

from common.catalog import PEERS, Peer, choose
from common.client import Client, connected
from common.latency import percentiles
from common.process import Server, prepare_load
from common.report import comparison, parser, save
from common.rounds import Figures, interleaved

RATE, ANSWER, FLOOD_ANSWER = 26.7, 200, 20_000
ID = len('{"type":"stream_token","message_id":"')


class Talker(Client):
    """Streams, and asks again at the end; probed once, by a message or a cancel."""

    flood = False
    phase = 0.0
    probed_at = framed_at = tokened_at = ended_at = 0.0
    stopped, counted, had, stale, by_itself = "", -1, 0, 0, False
    _expected = b""

    def begin(self) -> None:
        start = monotonic() + self.phase
        key = f"{self.session_id}.{int(bool(self.probed_at))}"
        self.ask(f"ready {FLOOD_ANSWER} {key}" if self.flood else f"paced {ANSWER} {key} {RATE} {start:.6f}")
        self._expected = self.message_id.encode()
        self.phase = 0.0

    def probe(self, *, cancel: bool, due: float) -> None:
        self.stopped, self.had, self.probed_at = self.message_id, self.tokens, due
        if cancel:
            self.cancel(self.message_id)
        else:
            self.begin()

    def on_token(self, payload: memoryview) -> None:
        if not self.probed_at:
            return
        at = len(self._lead) + ID
        mine = bytes(payload[at : at + len(self._expected)]) == self._expected
        if mine and self.stopped != self.message_id:
            self.tokened_at = self.tokened_at or monotonic()
        elif self.framed_at or self.ended_at:
            self.stale += 1

    def on_event(self, event: dict[str, Any]) -> None:
        if event["type"] == "stream_start":
            if self.probed_at and event["message_id"] != self.stopped:
                self.framed_at = self.framed_at or monotonic()
        elif event["type"] in ("stream_end", "stream_error"):
            if event["message_id"] == self.stopped:
                self.ended_at, reason = monotonic(), event.get("finish_reason", "")
                self.by_itself = reason == "stop"
                self.counted = event.get("total_tokens", 0) if reason else -1
            elif not self.probed_at:
                self.tokens = 0
                self.begin()


class Reporter(Client):
    """Asks the service how much it generated."""

    counts: dict[str, int] | None = None

    def on_token(self, payload: memoryview) -> None:
        body = bytes(payload[len(self._lead) : -1 if self._lead else None])
        self.counts = json.loads(json.loads(body)["token"])


async def measure(
    peer: Peer, server: Server, *, sessions: int, flood: bool, probes: int, seconds: float, patience: float
) -> Figures:
    """One server: probe every other time by a message, by a cancel, at fixed times, on sessions drawn at random."""
    random = Random(1)
    async with connected(peer, server, sessions, Talker) as clients, connected(peer, server, 1, Reporter) as reporters:
        for number, client in enumerate(clients):
            client.flood, client.phase = flood, 0.5 + random.random() / RATE
            client.begin()
            if number % 50 == 49:
                await asyncio.sleep(0.03)
        await asyncio.sleep(1.5)
        chosen, start = random.sample(clients, min(probes, sessions)), monotonic()
        for number, client in enumerate(chosen):
            due = start + number * seconds / len(chosen)
            await asyncio.sleep(max(0.0, due - monotonic()))
            client.probe(cancel=number % 2 == 1, due=due)
        give_up = monotonic() + patience
        while monotonic() < give_up and not all(client.tokened_at or client.ended_at for client in chosen):
            await asyncio.sleep(0.1)
        end = monotonic()
        asked, cancelled = chosen[0::2], chosen[1::2]
        await asyncio.sleep(0.5)  # what is stale comes now
        reporters[0].ask("report")
        await asyncio.sleep(0.3)
        counts = reporters[0].counts or {}
        after = [
            max(0, counts[f"{client.session_id}.0"] - (client.counted if client.counted >= 0 else client.had))
            for client in chosen
            if f"{client.session_id}.0" in counts and not client.by_itself
        ]
        return {
            **percentiles(((client.framed_at or end) - client.probed_at for client in asked), "frame"),
            **percentiles(((client.tokened_at or end) - client.probed_at for client in asked), "token"),
            **percentiles(((client.ended_at or end) - client.probed_at for client in cancelled), "cancel"),
            "stale": sum(client.stale for client in chosen),
            **({"upstream_after_max": max(after)} if after else {}),
        }


def main() -> None:
    flags = parser(__doc__, rounds=3, servers=PEERS)
    flags.add_argument("--sessions", nargs="+", type=int, default=[1, 500])
    flags.add_argument("--flood", action="store_true", help="ready tokens without end; take --sessions 32")
    flags.add_argument("--probes", type=int, default=200, help="sessions that are probed, each once (%(default)s)")
    flags.add_argument("--seconds", type=float, default=3.0, help="during which probes are sent (%(default)s)")
    flags.add_argument("--patience", type=float, default=12.0, help="for the last answer (%(default)s)")
    options = flags.parse_args()
    prepare_load(max(options.sessions))
    shared = {"flood": options.flood, "probes": options.probes, "seconds": options.seconds}
    results = {}
    for sessions in options.sessions:
        what = f"interrupt {sessions}{' flood' if options.flood else ''}"
        job = partial(measure, sessions=sessions, patience=options.patience, **shared)
        results[what] = interleaved(choose(options.servers), options.rounds, job, what)
        print(f"\n### {what}\n\n{comparison(results[what])}", flush=True)
    save(options.json, results)


if __name__ == "__main__":
    main()
