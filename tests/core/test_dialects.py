"""`core/dialects.py`: the bytes of the wire, held to the pydantic models and to the contract's key order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialogue.core.choice import dialect_for
from trialogue.core.dialects import Dialect, SeedDialect, V1Dialect, dump, plain
from trialogue.core.errors import Fault
from trialogue.core.events import (
    CancelResult,
    Custom,
    Duplicate,
    Ended,
    Event,
    Failed,
    Goaway,
    Pong,
    Presence,
    Ready,
    Receipt,
    Reply,
    Sources,
    Started,
    Status,
    Tokens,
    Typing,
    UserMessage,
)
from trialogue.core.machine import Policy
from trialogue.core.protocol import (
    StreamEndEvent,
    StreamErrorEvent,
    StreamSourcesEvent,
    StreamStartEvent,
    StreamTokenEvent,
)

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NASTY = ['"', "\\", "\n\r\t\b\f", "\x00\x1f\x7f", "안녕하세요", "😀👩‍👩‍👧", "\u2028\u2029", "</script>", "\ufeff", "é"]

STARTED = Started("m", "s", "2026-01-16T10:00:00Z")
ENDED = Ended("m", "stop", 3, 250, {"usage": {"total": 9}})
RECEIPT = Receipt("m", 3, 2, None, 11, "closed")
READY = Ready("s", "7:0", "new", None, [], 1, {"queue": 8}, 20.0)


@given(ANY_TEXT, st.integers(0, 2**40), ANY_TEXT)
def test_token_frames_are_the_models_bytes(message_id: str, index: int, token: str) -> None:
    model = StreamTokenEvent(message_id=message_id, token=token, index=index)
    assert SeedDialect().feed(0, Tokens(message_id, index, [token])) == [model.model_dump_json().encode()]


@pytest.mark.parametrize("token", NASTY)
def test_nasty_tokens_are_the_models_bytes(token: str) -> None:
    model = StreamTokenEvent(message_id=token, token=token, index=5)
    assert SeedDialect().feed(0, Tokens(token, 5, [token])) == [model.model_dump_json().encode()]


@given(st.lists(ANY_TEXT, min_size=1, max_size=5), st.integers(0, 1000), st.integers(0, 1000))
def test_v1_adds_the_offset_of_each_token(texts: list[str], index: int, offset: int) -> None:
    frames = [json.loads(frame) for frame in V1Dialect().feed(offset, Tokens("m", index, texts))]
    assert [frame["token"] for frame in frames] == texts
    assert [frame["index"] for frame in frames] == list(range(index, index + len(texts)))
    assert [frame["offset"] for frame in frames] == list(range(offset + 1, offset + 1 + len(texts)))
    assert [list(frame)[-1] for frame in frames] == ["offset"] * len(texts)


def test_a_lone_surrogate_is_replaced_everywhere() -> None:
    assert json.loads(SeedDialect().feed(0, Tokens("m", 0, ["a\ud800b"]))[0])["token"] == "a?b"
    assert json.loads(dump({"k\ud800": ["\udfff", {"n": "\ud801"}]})) == {"k?": ["?", {"n": "?"}]}


SEED: list[tuple[Event, Any]] = [
    (STARTED, StreamStartEvent(message_id="m", session_id="s", timestamp="2026-01-16T10:00:00Z")),
    (
        Sources("m", [{"title": "t", "score": 0.5}]),
        StreamSourcesEvent(message_id="m", sources=[{"title": "t", "score": 0.5}]),
    ),
    (ENDED, StreamEndEvent(message_id="m", total_tokens=3, processing_time_ms=250, finish_reason="stop")),
]


@pytest.mark.parametrize(("event", "model"), SEED, ids=[type(event).__name__ for event, _ in SEED])
def test_the_seed_frames_are_the_models_bytes(event: Event, model: Any) -> None:
    assert list(SeedDialect().feed(0, event)) == [model.model_dump_json().encode()]


def test_an_error_is_told_in_the_connections_language() -> None:
    event = Failed("m", Fault("RAG-001"))
    korean = StreamErrorEvent.model_validate_json(SeedDialect("ko").feed(0, event)[0])
    english = StreamErrorEvent.model_validate_json(SeedDialect("en").feed(0, event)[0])
    assert korean.error_code == english.error_code == "RAG-001"
    assert korean.message != english.message
    assert korean.solutions
    assert english.solutions
    assert "retry_after_ms" not in json.loads(SeedDialect("en").feed(0, event)[0])


def test_a_refusal_says_when_to_come_back() -> None:
    told = json.loads(SeedDialect("en").reply(Failed("m", Fault("WS-005"), 1234))[0])
    assert told["retry_after_ms"] == 1234
    assert list(told) == ["type", "message_id", "error_code", "message", "solutions", "retry_after_ms"]


SILENT_ON_SEED: list[Event] = [UserMessage("m", "hi", Policy.INTERRUPT), Status("m", "queued", {"place": 1}), RECEIPT]


@pytest.mark.parametrize("event", SILENT_ON_SEED, ids=lambda event: type(event).__name__)
def test_the_seed_tells_nothing_unasked(event: Event) -> None:
    assert list(SeedDialect().feed(0, event)) == []


ONLY_V1: list[Reply] = [
    READY,
    CancelResult("m", "unknown"),
    Duplicate("m"),
    Presence(2),
    Typing(active=True),
    Goaway("drain", 1000),
]


@pytest.mark.parametrize("reply", ONLY_V1, ids=lambda reply: type(reply).__name__)
def test_replies_that_only_v1_knows(reply: Reply) -> None:
    assert list(SeedDialect().reply(reply)) == []
    (frame,) = V1Dialect().reply(reply)
    assert "offset" not in json.loads(frame)


V1_BODIES: list[tuple[Event, dict[str, Any]]] = [
    (
        UserMessage("m", "안녕", Policy.ENQUEUE, {"secret": 1}),
        {"type": "user_message", "message_id": "m", "content": "안녕", "on_busy": "enqueue", "offset": 5},
    ),
    (
        Status("m", "queued", {"place": 2}),
        {"type": "stream_status", "message_id": "m", "phase": "queued", "place": 2, "offset": 5},
    ),
    (
        RECEIPT,
        {
            "type": "stream_receipt",
            "message_id": "m",
            "generated": 3,
            "sent": 2,
            "acked": None,
            "chars": 11,
            "upstream": "closed",
            "offset": 5,
        },
    ),
    (
        ENDED,
        {
            "type": "stream_end",
            "message_id": "m",
            "total_tokens": 3,
            "processing_time_ms": 250,
            "finish_reason": "stop",
            "meta": {"usage": {"total": 9}},
            "offset": 5,
        },
    ),
]


@pytest.mark.parametrize(("event", "body"), V1_BODIES, ids=[type(event).__name__ for event, _ in V1_BODIES])
def test_v1_tells_the_rest(event: Event, body: dict[str, Any]) -> None:
    (frame,) = V1Dialect().feed(4, event)
    assert json.loads(frame) == body
    assert list(json.loads(frame)) == list(body)
    assert b": " not in frame


def test_a_replayed_event_has_no_offset() -> None:
    assert "offset" not in json.loads(V1Dialect().reply(ENDED)[0])
    assert "offset" not in json.loads(V1Dialect().reply(Tokens("m", 0, ["x"]))[0])


@pytest.mark.parametrize("dialect", [SeedDialect(), V1Dialect()], ids=repr)
def test_pong_and_custom_frames_are_everybodys(dialect: Dialect) -> None:
    assert json.loads(dialect.reply(Pong("p"))[0]) == {"type": "pong", "id": "p"}
    assert json.loads(dialect.reply(Custom({"type": "news", "n": 1}))[0]) == {"type": "news", "n": 1}


def test_the_dialect_goes_by_its_name() -> None:
    assert repr(dialect_for("seed", "en")) == "<SeedDialect seed en>"
    assert repr(dialect_for("trialogue.v1", "ko")) == "<V1Dialect trialogue.v1 ko>"


def test_plain_takes_what_pipelines_put_into_their_sources() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "odd"

    assert plain({"score": float("nan"), "inf": float("inf"), "o": Odd(), 1: (2,)}) == {
        "score": None,
        "inf": None,
        "o": "odd",
        "1": [2],
    }


def test_plain_refuses_what_refers_to_itself() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(ValueError, match="refers to itself"):
        plain(loop)
