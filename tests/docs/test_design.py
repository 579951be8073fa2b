"""The design page's drawing of a turn's life is the machine's, and its words are the code's."""

from __future__ import annotations

import pytest

from docs.drawing import PHASES, commit, committed, drawing, edges


def test_the_drawing_is_the_machines(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--write-drawing"):
        commit(drawing())
    assert committed() == drawing(), "draw it: pytest tests/docs/test_design.py -n 0 --write-drawing"


def test_a_turn_never_goes_back() -> None:
    assert all(PHASES.index(start) < PHASES.index(end) for start, end in edges())
