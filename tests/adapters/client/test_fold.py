"""A turn as its frames tell it: repeats change nothing, and nothing that is missing goes unsaid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialogue_adapters.client.fold import Receipt, TurnState

EPOCH = 7
FRAMES: list[dict[str, Any]] = [
    {"type": "user_message", "content": "why"},
    {"type": "stream_status", "phase": "queued", "place": 2},
    {"type": "stream_start"},
    {"type": "stream_status", "phase": "retrieving"},
    {"type": "stream_sources", "sources": [{"title": "x"}, "odd"]},
    {"type": "stream_token", "token": "a", "index": 0},
    {"type": "stream_token", "token": "b", "index": 1},
    {"type": "stream_end", "finish_reason": "stop", "total_tokens": 2, "processing_time_ms": 5, "meta": {"n": 1}},
    {"type": "stream_receipt", "generated": 2, "sent": 2, "acked": None, "chars": 2, "upstream": "closed"},
]


def fold(*frames: dict[str, Any], turn: TurnState | None = None, epoch: int = EPOCH) -> TurnState:
    turn = turn or TurnState("m")
    for frame in frames:
        turn.apply(frame, epoch)
    return turn


def test_a_whole_turn() -> None:
    turn = fold(*FRAMES)
    assert (turn.question, turn.text, turn.tokens, turn.ending, turn.whole) == ("why", "ab", ["a", "b"], "stop", True)
    assert (turn.sources, turn.meta, turn.place) == (({"title": "x"},), {"n": 1}, None)
    assert turn.receipt == Receipt(2, 2, None, 2, "closed")


@given(cuts=st.lists(st.integers(0, len(FRAMES)), max_size=5))
def test_told_again_from_anywhere_before_it_is_the_same_turn(cuts: list[int]) -> None:
    """Each drop is followed by a replay from some earlier entry, or from the turn's start."""
    turn = TurnState("m")
    for cut in cuts:
        fold(*FRAMES[:cut], turn=turn)
    assert fold(*FRAMES, turn=turn) == fold(*FRAMES)


def test_another_server_s_answer_is_another_edition() -> None:
    turn = fold(*FRAMES[:6])
    fold({"type": "stream_start"}, {"type": "stream_token", "token": "A", "index": 0}, turn=turn, epoch=EPOCH + 1)
    assert (turn.text, turn.edition, turn.ending) == ("A", 1, None)
    unseen = fold({"type": "stream_start"}, turn=fold(*FRAMES[:5]), epoch=EPOCH + 1)
    assert unseen.edition == 0, "nothing had been said"


def test_what_is_missing_is_known() -> None:
    token = {"type": "stream_token", "token": "c", "index": 2}
    assert not fold(*FRAMES[:6], token).whole, "a hole"
    assert not fold(*FRAMES[:6], FRAMES[7]).whole, "fewer tokens than were counted"
    lost = fold(*FRAMES[:7])
    lost.ending = "lost"
    assert not lost.whole


def test_an_older_phase_that_comes_late_does_not_turn_it_back() -> None:
    turn = fold(
        *FRAMES[:6], {"type": "stream_status", "phase": "waiting"}, {"type": "stream_status", "phase": "pipeline"}
    )
    assert turn.phase == "generating"


def test_an_error_is_a_failure_or_a_refusal() -> None:
    error = {"type": "stream_error", "error_code": "X", "message": "m", "solutions": ["s"], "retry_after_ms": 1500}
    refused, failed = fold(error), fold(*FRAMES[:3], error)
    assert (refused.ending, failed.ending) == ("rejected", "failed")
    assert refused.failure
    assert (refused.failure.code, refused.failure.solutions, refused.failure.retry_after) == ("X", ("s",), 1.5)


@pytest.mark.parametrize("name", ["type", "token", "index", "sources", "finish_reason", "error_code", "generated"])
@pytest.mark.parametrize("value", [None, [], {}, "x", True, -1.5])
def test_odd_frames_are_survived(name: str, value: Any) -> None:
    frames = [frame | ({name: value} if name in frame else {}) for frame in FRAMES]
    json.dumps(fold(*frames).text)
