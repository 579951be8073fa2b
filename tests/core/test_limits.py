"""`core/limits.py`: the token bucket, on a clock of the test's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trialogue.core.limits import TokenBucket


def test_a_minutes_worth_may_come_at_once_and_not_one_more() -> None:
    bucket = TokenBucket(60, 60.0, now=0.0)
    assert all(bucket.take(0.0) for _ in range(60))
    assert not bucket.take(0.0)
    assert bucket.wait_ms() == 1001
    assert not bucket.take(0.5)
    assert bucket.take(1.0)
    assert not bucket.take(1.0)


def test_no_rate_always_says_yes() -> None:
    bucket = TokenBucket(0, 60.0, now=0.0)
    assert all(bucket.take(0.0) for _ in range(10_000))
    assert bucket.wait_ms() == 0


def test_a_fresh_bucket_waits_for_nothing() -> None:
    assert TokenBucket(60, 60.0, now=0.0).wait_ms() == 0
    assert repr(TokenBucket(60, 60.0, now=0.0)) == "<TokenBucket 1/s, 60.0 of 60 left>"


@given(st.integers(1, 600), st.lists(st.floats(0, 30), max_size=200))
def test_never_more_than_the_rate_and_one_minutes_savings(per_minute: int, pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(per_minute, 60.0, now=0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
    assert taken <= per_minute + now * per_minute / 60 + 1e-6
