"""A crowd for a few seconds, on both listeners: what /metrics says afterwards adds up. (A minute: see `crowd.py`.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.crowd import play

USERS, SECONDS = 100, 4.0


@pytest.mark.slow
async def test_after_a_crowd_the_metrics_add_up(listener: str, tmp_path: Path) -> None:
    crowd, figures = await play(USERS, SECONDS, 1, tmp_path, listener)
    assert figures["turns accepted"] > USERS
    for done in ("wait", "cancel", "interrupt", "queue", "dropped", "closed", "came back"):
        assert crowd.done[done], f"nobody has done it: {done}"
    for ending in ("completed", "cancelled", "interrupted", "retracted", "failed"):
        assert figures[f"… {ending}"], f"no turn has ended so: {ending}"
    assert figures["tokens unsent"], "nobody has left in mid-answer"
