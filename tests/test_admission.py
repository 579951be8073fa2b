"""`admission.py`: budgets per client, shared by its connections and forgotten in time."""

from __future__ import annotations

from trialogue.admission import FORGET_SECONDS, SWEEP, Admission
from trialogue.core.limits import Limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_connections_of_a_client_are_counted() -> None:
    admission = Admission(Limits(max_connections_per_client=2), Clock())
    budgets = [admission.enter("a"), admission.enter("a")]
    assert budgets[0] is budgets[1]
    assert not admission.has_room("a")
    assert admission.has_room("b")
    admission.leave(budgets[0])
    assert admission.has_room("a")


def test_handshakes_of_an_address_are_counted_by_the_second() -> None:
    clock = Clock()
    admission = Admission(Limits(handshakes_per_second=3), clock)
    assert [admission.knock("a") for _ in range(4)] == [True, True, True, False]
    assert admission.knock("b")
    clock.now += 0.34
    assert [admission.knock("a") for _ in range(2)] == [True, False]


def test_limits_of_zero_are_none() -> None:
    admission = Admission(Limits(max_connections_per_client=0, handshakes_per_second=0), Clock())
    assert all(admission.knock("a") for _ in range(10_000))
    for _ in range(10_000):
        admission.enter("a")
    assert admission.has_room("a")


def test_who_is_gone_is_forgotten_and_who_is_here_is_not() -> None:
    clock = Clock()
    admission = Admission(Limits(), clock)
    here = admission.enter("here")
    for n in range(10 * SWEEP):
        admission.knock(f"passer-by {n}")
        clock.now += 2 * FORGET_SECONDS / SWEEP
    assert len(admission) <= 2 * SWEEP
    assert admission.enter("here") is here


def test_frames_without_a_connection_use_the_same_budget() -> None:
    admission = Admission(Limits(messages_per_minute=2), Clock())
    assert admission.enter("a").frames.take(0.0)
    assert admission.take_frame("a") is None
    wait_ms = admission.take_frame("a")
    assert wait_ms is not None
    assert 0 < wait_ms <= 30_001
    assert admission.take_frame("b") is None
