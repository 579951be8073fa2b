"""What a store counts of itself: round trips fall into the bucket whose bound they do not pass."""

from __future__ import annotations

import pytest

from trialogue_adapters.valkey.tally import LATENCY_SECONDS, Tally


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.0005, 0), (0.0006, 1), (0.05, LATENCY_SECONDS.index(0.05)), (2.0, -2), (2.1, -1), (60.0, -1)],
)
def test_a_round_trip_is_counted_up_to_its_bound(seconds: float, bucket: int) -> None:
    tally = Tally()
    tally.round_trip(seconds)
    assert tally.latency[bucket] == 1
    assert (sum(tally.latency), tally.latency_sum) == (1, seconds)


def test_round_trips_add_up() -> None:
    tally = Tally()
    for seconds in (0.001, 0.001, 0.5):
        tally.round_trip(seconds)
    assert sum(tally.latency) == 3
    assert tally.latency_sum == pytest.approx(0.502)


def test_bounds_grow() -> None:
    assert list(LATENCY_SECONDS) == sorted(set(LATENCY_SECONDS))
