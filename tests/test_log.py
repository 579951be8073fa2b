"""`log.py`: positions."""

from __future__ import annotations

import pytest

from trialogue.log import Position


@pytest.mark.parametrize("text", ["7:0", "1795355149605:123", "0:0"])
def test_positions_are_read_back(text: str) -> None:
    assert str(Position.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", ":", "7", "7:", ":7", "-1:0", "7:+1", "٣:1", "1:2:3", "x:y", " 1:2", "1" * 30 + ":1"]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal numbers"):
        Position.parse(text)


def test_positions_are_ordered_across_restarts() -> None:
    assert Position(2, 0) > Position(1, 999)
