"""The fold of frames into turns: what is shown after a duplicate, a hole, a restart or a refusal."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.browser

Frame = dict[str, Any]


class Turns:
    def __init__(self, page: Any) -> None:
        self.page = page
        page.evaluate("async () => { window.turns = new (await import('/static/turns.js')).Turns() }")

    def fold(self, *frames: Frame) -> list[Frame]:
        return list(
            self.page.evaluate("(frames) => { frames.forEach((f) => turns.apply(f)); return turns.all }", frames)
        )


@pytest.fixture
def turns(module_page: Any) -> Turns:
    return Turns(module_page)


def about(kind: str, mid: str = "m1", **more: Any) -> Frame:
    return {"type": kind, "message_id": mid, **more}


def token(index: int, text: str, mid: str = "m1") -> Frame:
    return about("stream_token", mid, token=text, index=index)


START = about("stream_start")
END = about("stream_end", total_tokens=2, processing_time_ms=5, finish_reason="stop")


def test_a_whole_turn(turns: Turns) -> None:
    (turn,) = turns.fold(about("user_message", content="q"), START, token(0, "a"), token(1, "b"), END)
    assert (turn["question"], turn["text"], turn["ending"]) == ("q", "ab", "stop")
    assert turn["totals"] == {"tokens": 2, "ms": 5}


def test_a_token_counts_once(turns: Turns) -> None:
    (turn,) = turns.fold(START, token(0, "a"), token(1, "b"), token(0, "a"), token(1, "b"), token(2, "c"))
    assert turn["text"] == "abc"


def test_sent_again_from_its_start_it_is_the_same(turns: Turns) -> None:
    once = turns.fold(START, token(0, "a"), token(1, "b"), END)
    assert turns.fold(START, token(0, "a"), token(1, "b"), END) == once


def test_answered_anew_after_a_restart_nothing_old_is_mixed_in(turns: Turns) -> None:
    (turn,) = turns.fold(START, token(0, "old "), token(1, "old "), START, token(0, "new"))
    assert (turn["text"], turn["ending"]) == ("new", None)


def test_a_hole_is_shown(turns: Turns) -> None:
    (turn,) = turns.fold(token(7, "tail"))
    assert (turn["text"], turn["question"]) == (" … tail", None)


def test_a_refusal_and_a_failure_differ(turns: Turns) -> None:
    error = {"error_code": "WS-003", "message": "busy", "solutions": ["wait"]}
    turns.page.evaluate("turns.ask('m1', 'q')")
    refused, failed = turns.fold(
        about("stream_error", **error), about("stream_start", "m2"), about("stream_error", "m2", **error)
    )
    assert (refused["ending"], failed["ending"]) == ("rejected", "failed")
    assert failed["failure"] == {"code": "WS-003", "message": "busy", "solutions": ["wait"]}


def test_what_says_too_little_makes_no_bubble(turns: Turns) -> None:
    error = about("stream_error", "unknown", error_code="WS-001", message="?", solutions=["?"])
    assert turns.fold(END, error, about("stream_status", phase="queued"), about("stream_sources", sources=[])) == []
    assert turns.fold({"type": "presence", "connections": 2}, {"type": "weather"}, {}) == []


def test_phases(turns: Turns) -> None:
    def phase(*frames: Frame) -> tuple[str, int | None]:
        (turn,) = turns.fold(*frames)
        return turn["phase"], turn["place"]

    asked = about("user_message", content="q")
    assert phase(asked, about("stream_status", phase="queued", place=2)) == ("queued", 2)
    assert phase(about("stream_status", phase="waiting")) == ("waiting", None)
    assert phase(about("stream_status", phase="pipeline", data={})) == ("waiting", None)
    assert phase(START, token(0, "a"), about("stream_status", phase="retrieving")) == ("generating", None)


def test_after_a_hole_in_the_log_the_dead_are_told_from_the_living(turns: Turns) -> None:
    turns.fold(START, about("stream_start", "m2"))
    turns.page.evaluate("turns.lose(new Set(['m2']))")
    first, second = turns.fold()
    assert (first["ending"], second["ending"]) == ("lost", None)
