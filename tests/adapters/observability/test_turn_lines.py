"""`turn_lines.py`: one line per turn, when it is settled, whatever the order in which a crash tells things."""

from __future__ import annotations

import pytest

from trialogue import NullTracer, TurnNames
from trialogue.core.events import Receipt
from trialogue_adapters.observability.turn_lines import TurnLines

NAMES = TurnNames("alice", "s", "m")


def test_a_line_has_the_names_the_ending_and_the_receipt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    trace = TurnLines(NullTracer()).accepted(NAMES, "")
    trace.enter("retrieving")
    trace.ended("failed", "RAG-001")
    assert not caplog.records, "what became of it is not known yet"
    trace.settled(Receipt("m", 5, 3, None, 12, "abandoned"))
    trace.settled(None)
    (line,) = caplog.records
    assert line.getMessage() == "a turn ended"
    told = {
        name: line.__dict__[name] for name in ("session_id", "message_id", "principal", "ending", "code", "upstream")
    }
    assert told == {**NAMES.fields(), "ending": "failed", "code": "RAG-001", "upstream": "abandoned"}
    assert (line.__dict__["generated"], line.__dict__["sent"]) == (5, 3)


def test_the_first_ending_counts_and_a_turn_of_the_queue_has_no_receipt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    trace = TurnLines(NullTracer()).accepted(NAMES, "")
    trace.ended("cancelled", "")
    trace.ended("failed", "WS-007")
    trace.settled(None)
    (line,) = caplog.records
    assert line.__dict__["ending"] == "cancelled"
    assert not {"code", "generated"} & line.__dict__.keys()
