"""`core/events.py`: how much of a log an event takes."""

from __future__ import annotations

from trialogue.core.events import Started, Tokens, width


def test_an_events_width_is_the_offsets_it_takes() -> None:
    assert width(Tokens("m", 0, ["a", "b"])) == 2
    assert width(Started("m", "s", "t")) == 1
