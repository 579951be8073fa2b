"""Each planted bug is found by the random schedules; how many that takes is printed."""

from __future__ import annotations

import pytest

from proof.planted import PLANTED, Plant
from proof.rehearsal import play
from proof.schedules import schedule, shortest

WITHIN = 1_000


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch)
    for seed in range(WITHIN):
        found = play(schedule(seed))
        if found:
            break
    else:
        pytest.fail(f"{WITHIN} schedules have not found it")
    with capsys.disabled():
        print(f"\nplanted: {plant.__name__}: found by schedule {seed + 1}: {found[0]}")


def test_a_failing_schedule_plays_the_same_again_and_is_made_short(monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[0](monkeypatch)
    failing = next(found for seed in range(WITHIN) if play(found := schedule(seed)))
    assert play(failing) == play(failing)
    short = shortest(failing, play)
    assert play(short)
    assert len(short.actions) < 8
