"""When a client comes back: the page's rules, in seconds."""

from __future__ import annotations

import pytest

from trialogue_adapters.client.returning import BACKOFF, BACKOFF_MAX, FINAL_CODES, STABLE, Closed, Returning


def waits(returning: Returning, code: int, dice: float = 1.0, now: float = 0.0) -> float | None:
    return returning.wait(Closed(code), now, dice, renewable=False)


def test_each_failure_doubles_the_wait_up_to_a_bound() -> None:
    returning = Returning()
    seen = [waits(returning, 1006) for _ in range(40)]
    assert seen[:4] == [BACKOFF, 2 * BACKOFF, 4 * BACKOFF, 8 * BACKOFF]
    assert seen[-1] == BACKOFF_MAX
    assert repr(returning) == "<Returning, attempt 40>"


def test_clients_are_spread_over_half_of_it() -> None:
    assert waits(Returning(), 1006, dice=0.0) == BACKOFF / 2


def test_only_a_connection_that_lived_forgives() -> None:
    returning = Returning()
    waits(returning, 1006)
    returning.ready(10.0)
    assert waits(returning, 1006, now=10.0 + STABLE) == 2 * BACKOFF
    returning.ready(20.0)
    assert waits(returning, 1006, now=20.1 + STABLE) == BACKOFF


def test_told_when_to_return_it_is_never_earlier() -> None:
    returning = Returning()
    returning.ready(0.0)
    returning.goaway(4.0, "drain")
    assert returning.leaving
    assert [waits(returning, 1012, dice=0.0), waits(returning, 1006)] == [4.0, 2 * BACKOFF]
    assert returning.wait(Closed(1006), 0.0, 1.0, renewable=False, told=8.0) == 10.0


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_after_some_codes_it_stays_away(code: int) -> None:
    assert waits(Returning(), code) is None


def test_an_expired_credential_is_the_end_only_if_there_is_no_other() -> None:
    returning = Returning()
    returning.goaway(0.0, "expired")
    assert returning.wait(Closed(1008), 0.0, 0.0, renewable=False) is None
    assert returning.wait(Closed(1008), 0.0, 0.0, renewable=True) == 0.0
    returning.ready(0.0)
    assert returning.wait(Closed(1008), 0.0, 0.0, renewable=True) is None
