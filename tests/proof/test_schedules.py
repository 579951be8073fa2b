"""Random schedules on the real shell, against the model: `--schedules N` plays N of them, `--seed S` plays that one.

What fails is printed with its seed, whole and made short.
"""

from __future__ import annotations

import pytest

from proof.rehearsal import play
from proof.schedules import schedule, shortest

PARTS = 4
"""So that two workers (`-n 2 --dist load`) can share the work."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_random_schedules_keep_every_promise(part: int, pytestconfig: pytest.Config) -> None:
    seeds = range(part, pytestconfig.getoption("schedules"), PARTS)
    if (only := pytestconfig.getoption("seed")) is not None:
        seeds = range(only, only + (part == 0))
    for seed in seeds:
        whole = schedule(seed)
        if wrong := play(whole):
            short = shortest(whole, play)
            pytest.fail(f"{wrong}\n{whole}\n\nmade short: {play(short)}\n{short}", pytrace=False)


def test_the_same_seed_is_the_same_schedule() -> None:
    assert schedule(7) == schedule(7)
    assert str(schedule(7)) != str(schedule(8))
