"""Latencies as HdrHistograms, in milliseconds, without coordinated omission.

Nothing here waits for an answer before the next event is due: tokens are due on an absolute schedule, and probes are
sent at fixed times, whatever became of the one before. What had not come by the end is recorded with the time that it
was overdue then, which is less than the truth and far from leaving it out.
"""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

MAX_US = 120_000_000


def percentiles(seconds: Iterable[float], name: str) -> dict[str, float]:
    """`name`_p50, _p99 and _max in milliseconds; nothing if there were no values."""
    histogram = HdrHistogram(1, MAX_US, 3)
    for value in seconds:
        histogram.record_value(min(MAX_US, max(1, round(value * 1e6))))
    if not histogram.get_total_count():
        return {}
    return {
        f"{name}_p50": histogram.get_value_at_percentile(50) / 1000,
        f"{name}_p99": histogram.get_value_at_percentile(99) / 1000,
        f"{name}_max": histogram.get_max_value() / 1000,
    }
