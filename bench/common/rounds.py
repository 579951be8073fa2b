"""Interleaved rounds: every server once, then every server again; what is reported is the median of its rounds.

So a neighbour's load on the machine, or a change of clock rate, hits all of them and not one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

import uvloop

from common.catalog import Peer
from common.process import Server

Figures = dict[str, float]
Measure = Callable[[Peer, Server], Awaitable[Figures]]


def interleaved(peers: Sequence[Peer], rounds: int, measure: Measure, what: str) -> dict[str, list[Figures]]:
    """Each server's figures, round by round, each on a fresh process. A server that fails is reported and left out."""
    results: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
    for number in range(1, rounds + 1):
        for peer in peers:
            try:
                with peer.launch() as server:
                    figures = uvloop.run(measure(peer, server))
            except Exception as error:
                print(f"{what}, round {number}, {peer.name}: {error!r}", file=sys.stderr)
                continue
            results[peer.name].append(figures)
            shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            print(f"{what}, round {number}/{rounds}, {peer.name}: {shown}", file=sys.stderr, flush=True)
    return results


def medians(results: dict[str, list[Figures]]) -> dict[str, Figures]:
    """For each server, each figure's median over the rounds that have it."""
    return {
        name: {
            key: median(figures[key] for figures in rounds if key in figures)
            for key in dict.fromkeys(key for figures in rounds for key in figures)
        }
        for name, rounds in results.items()
    }
