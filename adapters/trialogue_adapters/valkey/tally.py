"""What a store counts of itself, as plain numbers: an adapter turns them into somebody's metrics."""

from __future__ import annotations

from bisect import bisect_left

from trialogue.store import Key, Verdict

LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


class Tally:
    """Counts since the start. `latency`: round trips that took up to `LATENCY_SECONDS[i]`; the last one's, longer."""

    def __init__(self) -> None:
        self.owned: set[Key] = set()
        self.takeovers = 0
        self.written = 0  # entries
        self.refused = dict.fromkeys(set(Verdict) - {Verdict.WRITTEN}, 0)
        self.letters = 0
        self.leases_lost = 0
        self.outages = 0
        self.latency = [0] * (len(LATENCY_SECONDS) + 1)
        self.latency_sum = 0.0
        self.lag = 0.0
        """Seconds from handing an entry to the pipe until our own reader had it, when that was last measured."""

    def refuse(self, key: Key, verdict: Verdict) -> None:
        """An entry was not written: its session is this node's no longer."""
        self.refused[verdict] += 1
        self.owned.discard(key)

    def round_trip(self, seconds: float) -> None:
        self.latency[bisect_left(LATENCY_SECONDS, seconds)] += 1
        self.latency_sum += seconds
