"""What is said again after a drop, and what is not: each rule of `Conversation`, without any IO."""

from __future__ import annotations

from typing import Any

import pytest

from trialogue_adapters.client import conversation as module
from trialogue_adapters.client.conversation import MAX_TURNS, MAX_UNFINISHED, Conversation, read_position
from trialogue_adapters.client.errors import TooMuch


def ready(resumed: str = "new", position: str = "7:0", **more: Any) -> dict[str, Any]:
    more = {"running": None, "queued": [], "connections": 1, **more}
    return {"type": "session_ready", "session_id": "s", "position": position, "resumed": resumed, **more}


def said(talk: Conversation) -> list[tuple[str, ...]]:
    """What has been sent since the last time: type, id, and policy if there is one."""
    frames = [
        tuple(str(frame[key]) for key in ("type", "message_id", "on_busy") if key in frame) for frame in talk.outgoing
    ]
    talk.outgoing.clear()
    return frames


@pytest.fixture
def talk() -> Conversation:
    """A session that is connected."""
    talk = Conversation("s")
    talk.receive(ready())
    return talk


def accept(talk: Conversation, message_id: str, offset: int = 1) -> None:
    talk.receive({"type": "user_message", "message_id": message_id, "content": "x", "offset": offset})


def test_positions() -> None:
    talk = Conversation("s")
    assert talk.position is None
    talk.receive(ready(position="7:3"))
    talk.receive({"type": "presence", "connections": 2})
    assert (talk.position, talk.connections) == ("7:3", 2)
    accept(talk, "a", 4)
    talk.receive({"type": "stream_start", "message_id": "a", "offset": 1, "epoch": 9})
    assert talk.position == "9:1"
    assert Conversation("s", after="5:6").position == "5:6"
    assert [read_position(odd) for odd in ("", "1", "1:", ":1", "a:b", "1:٣", None, 5)] == [None] * 8
    assert repr(talk) == "<Conversation 's' at 9:1, 0 unfinished>"


def test_what_may_not_have_arrived_is_said_again_and_what_was_accepted_is_not(talk: Conversation) -> None:
    talk.submit("a", "x")
    talk.submit("b", "x")
    assert said(talk) == [("message", "a"), ("message", "b")]
    accept(talk, "a")
    talk.drop()
    talk.receive(ready("replayed"))
    assert said(talk) == [("message", "b")]
    talk.receive({"type": "stream_end", "message_id": "b", "finish_reason": "stop", "total_tokens": 0})
    assert talk.unfinished == ["a"]


def test_after_a_hole_endings_are_asked_for_and_disturb_nobody(talk: Conversation) -> None:
    for message_id in ("running", "queued", "over"):
        talk.submit(message_id, "x")
        accept(talk, message_id)
    accept(talk, "somebody's")
    said(talk)
    talk.drop()
    changes = talk.receive(ready("gap", "9:0", running="running", queued=["queued"]))
    assert said(talk) == [("message", "over", "enqueue")]
    assert [(turn.message_id, turn.ending) for turn in changes.turns] == [("somebody's", "lost")]


def test_said_while_away_it_queues_behind_what_is_held() -> None:
    talk = Conversation("s")
    talk.submit("a", "x")
    talk.submit("b", "x")
    talk.submit("c", "x", "rollback")
    talk.receive(ready())
    assert said(talk) == [("message", "a"), ("message", "b", "enqueue"), ("message", "c", "rollback")]


def test_a_leaving_server_is_told_nothing_new(talk: Conversation) -> None:
    talk.receive({"type": "goaway", "reason": "drain", "retry_after_ms": 5})
    talk.submit("a", "x")
    assert said(talk) == []


def test_a_message_that_never_left_is_withdrawn(talk: Conversation) -> None:
    talk.submit("left", "x")
    talk.drop()
    kept = talk.submit("kept", "x")
    assert talk.cancel("kept") == [kept]
    assert (kept.ending, kept.outcome) == ("cancelled", "cancelled")
    assert talk.cancel("left") == []
    talk.receive(ready("replayed"))
    assert said(talk) == [("message", "left"), ("cancel", "left")]


def test_a_cancel_is_asked_again_until_its_result_has_come(talk: Conversation) -> None:
    talk.submit("a", "x")
    accept(talk, "a")
    talk.cancel("a")
    assert said(talk) == [("message", "a"), ("cancel", "a")]
    talk.drop()
    talk.receive(ready("replayed"))
    assert said(talk) == [("cancel", "a")]
    talk.receive({"type": "cancel_result", "message_id": "a", "outcome": "cancelled"})
    assert talk.turns["a"].outcome == "cancelled"
    talk.drop()
    talk.receive(ready("replayed"))
    assert said(talk) == []


def test_a_cancel_of_everything_goes_before_what_is_said_again(talk: Conversation) -> None:
    talk.submit("a", "x")
    talk.cancel()
    talk.drop()
    talk.submit("b", "x")
    talk.receive(ready("replayed"))
    assert said(talk)[0] == ("cancel",)


def test_acks_are_joined_go_before_a_message_and_are_forgotten_by_a_drop(talk: Conversation) -> None:
    for index in range(3):
        talk.shown("a", index)
    talk.submit("b", "x")
    assert [frame.get("index") for frame in talk.outgoing] == [2, None]
    talk.shown("a", 4)
    talk.drop()
    talk.flush_acks()
    assert said(talk) == []


def test_bounds(talk: Conversation) -> None:
    with pytest.raises(TooMuch, match="65536"):
        talk.submit("large", "é" * 33_000)
    for number in range(MAX_UNFINISHED):
        talk.submit(str(number), "x")
    with pytest.raises(TooMuch, match="32 messages"):
        talk.submit("one more", "x")
    frames = [{"type": "user_message", "message_id": f"other {n}", "content": "x"} for n in range(MAX_TURNS)]
    given_up = [turn for frame in frames for turn in talk.receive(frame).turns if turn.ending]
    assert len(talk.turns) == MAX_TURNS
    assert set(talk.unfinished) <= set(talk.turns), "own ones that have no ending are kept"
    assert [(turn.message_id, turn.ending) for turn in given_up] == [
        (f"other {n}", "lost") for n in range(MAX_UNFINISHED)
    ]


def test_an_answer_without_an_end_is_cancelled_and_fails(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_CHARS", 10)
    turn = talk.submit("a", "x")
    for index in range(3):
        talk.receive({"type": "stream_token", "message_id": "a", "token": "12345", "index": index})
    assert said(talk) == [("message", "a"), ("cancel", "a")]
    assert (turn.ending, talk.unfinished) == ("failed", [])
    assert turn.failure
    assert turn.failure.code == "too_long"


@pytest.mark.parametrize(
    "frame", [{}, {"type": 1}, {"type": "stream_end", "message_id": []}, {"type": "x", "offset": "y"}]
)
def test_odd_frames_are_survived(talk: Conversation, frame: dict[str, Any]) -> None:
    assert talk.receive(frame).aside == frame
    assert talk.position == "7:0"
