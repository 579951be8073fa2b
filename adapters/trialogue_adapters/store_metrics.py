"""What a store counts of itself, as Prometheus metrics: read from its tally when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from trialogue.store import Verdict
from trialogue_adapters.valkey import ValkeyStore
from trialogue_adapters.valkey.tally import LATENCY_SECONDS


class StoreMetrics(Collector):
    """To be registered where the other metrics are."""

    def __init__(self, store: ValkeyStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        tally = self._store.tally
        for name, text, now in (
            ("reachable", "Does the store answer, and may this node write?", float(self._store.reachable)),
            ("sessions_owned", "Sessions that this node owns.", len(tally.owned)),
            ("reader_lag_seconds", "From handing an entry to the store until it was read back, at last.", tally.lag),
        ):
            yield GaugeMetricFamily(f"trialogue_store_{name}", text, value=now)
        for name, text, count in (
            ("takeovers", "Sessions taken over from another node.", tally.takeovers),
            ("letters", "Letters sent to other nodes.", tally.letters),
            ("leases_lost", "Leases that this node lost.", tally.leases_lost),
            ("outages", "Times that the store acknowledged nothing for two seconds.", tally.outages),
        ):
            yield CounterMetricFamily(f"trialogue_store_{name}", text, value=count)
        appends = CounterMetricFamily("trialogue_store_appends", "Appends, by what became of them.", labels=["verdict"])
        for verdict, count in ((Verdict.WRITTEN, tally.written), *tally.refused.items()):
            appends.add_metric([verdict.value], count)
        yield appends
        bounds = (*map(str, LATENCY_SECONDS), "+Inf")
        buckets = list(zip(bounds, map(float, accumulate(tally.latency)), strict=True))
        trips = HistogramMetricFamily("trialogue_store_round_trip_seconds", "Round trips of writes.")
        trips.add_metric([], buckets, tally.latency_sum)
        yield trips
