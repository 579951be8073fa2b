"""`core/sse.py`: one turn as server-sent events, byte for byte, and any text through any reader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.event_stream import parse_events
from trialogue.core.errors import Fault
from trialogue.core.events import (
    CancelResult,
    Custom,
    Duplicate,
    Ended,
    Failed,
    Goaway,
    Presence,
    Ready,
    Receipt,
    Replay,
    Sources,
    Started,
    Status,
    Tokens,
    Typing,
    UserMessage,
)
from trialogue.core.machine import Policy
from trialogue.core.sse import SseDialect

READY = Ready("s", "7:40", "new", None, [], 1, {}, 20.0)
SOURCE = {"title": "t", "score": None, "content_preview": ""}
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NASTY = [
    '"',
    "\\",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "\x00\x1f",
    "\x0b\x0c\x1c\x1d\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    "\ufeff",
    "😀",
]


def opened(message_id: str = "m") -> SseDialect:
    dialect = SseDialect(message_id, "en")
    dialect.reply(READY)
    return dialect


def test_the_greeting_is_metadata_at_the_position_from_which_it_follows() -> None:
    fields = '"session_id":"s","message_id":"m","resumed":"new"'
    assert SseDialect("m").reply(READY) == (
        f'id: 7:40\nevent: metadata\ndata: {{"event":"metadata",{fields},"data":{{{fields}}}}}\n\n'.encode(),
    )


def test_a_batch_of_tokens_is_an_event_each_with_the_position_after_it() -> None:
    frames = opened().feed(43, Tokens("m", 0, ["안녕", "a\nb"]))
    assert [frame.decode() for frame in frames] == [
        'id: 7:44\nevent: chunk\ndata: {"event":"chunk","data":"안녕","chunk_index":0,"token":"안녕","index":0}\n\n',
        'id: 7:45\nevent: chunk\ndata: {"event":"chunk","data":"a\\nb","chunk_index":1,"token":"a\\nb","index":1}\n\n',
    ]


def test_sources_and_a_pipelines_own_are_further_metadata() -> None:
    dialect = opened()
    (sources,) = parse_events(b"".join(dialect.feed(41, Sources("m", [SOURCE]))))
    assert (sources.name, sources.id) == ("metadata", "7:42")
    assert sources.body["sources"] == sources.body["data"]["sources"] == [SOURCE]
    told = {"search_results": 5, "event": "theirs", "session_id": "theirs"}
    (own,) = parse_events(b"".join(dialect.feed(42, Status("m", "pipeline", {"data": told}))))
    assert (own.name, own.body["event"], own.body["session_id"]) == ("metadata", "metadata", "s")
    assert (own.body["search_results"], own.body["data"]["event"]) == (5, "theirs")


def test_an_end_is_done_with_its_reason_and_what_the_pipeline_told() -> None:
    dialect = opened()
    (done,) = parse_events(b"".join(dialect.feed(50, Ended("m", "interrupted", 3, 250, {"usage": {"n": 1}}))))
    data = done.body.pop("data")
    assert done.name == "done"
    assert {**data, "event": "done", "data": data} == done.body
    assert data == {
        "usage": {"n": 1},
        "session_id": "s",
        "message_id": "m",
        "finish_reason": "interrupted",
        "total_tokens": 3,
        "total_chunks": 3,
        "processing_time_ms": 250,
        "processing_time": 0.25,
    }
    assert dialect.over


@pytest.mark.parametrize("reply", [True, False])
def test_a_failure_is_an_error_and_a_refusal_has_no_position(reply: bool) -> None:
    dialect, failed = opened(), Failed("m", Fault("WS-005"), 100)
    (error,) = parse_events(b"".join(dialect.reply(failed) if reply else dialect.feed(50, failed)))
    assert (error.name, error.id) == ("error", "" if reply else "7:51")
    assert error.body["error_code"] == error.body["data"]["error_code"] == "WS-005"
    assert error.body["message"]
    assert error.body["solutions"]
    assert error.body["retry_after_ms"] == 100
    assert "type" not in error.body
    assert dialect.over


def test_after_the_end_and_of_other_turns_it_tells_nothing() -> None:
    dialect = opened()
    for event in (Tokens("other", 0, ["x"]), Ended("other", "stop", 1, 1), Failed("other", Fault("RAG-001"))):
        assert not dialect.feed(41, event)
    assert not dialect.over
    dialect.feed(42, Ended("m", "stop", 0, 1))
    for event in (Tokens("m", 0, ["x"]), Ended("m", "stop", 1, 1), Receipt("m", 1, 1, None, 1, "closed")):
        assert not dialect.feed(43, event)
    assert not dialect.reply(Failed("m", Fault("WS-005")))


QUIET = [
    CancelResult("m", "cancelled"),
    Duplicate("m"),
    Presence(2),
    Typing(active=True),
    Goaway("drain", 1000),
    UserMessage("m", "q", Policy.INTERRUPT),
    Started("m", "s", "2026-01-16T10:00:00Z"),
    Status("m", "queued", {"place": 1}),
]


@pytest.mark.parametrize("reply", QUIET, ids=lambda reply: type(reply).__name__)
def test_what_has_no_event_is_not_told(reply: object) -> None:
    dialect = opened()
    assert not dialect.reply(reply)  # type: ignore[arg-type]
    assert not dialect.over


def test_a_past_turns_ending_alone() -> None:
    dialect = opened()
    (done,) = parse_events(b"".join(dialect.reply(Replay((Ended("m", "stop", 9, 1),)))))
    assert (done.name, done.id, done.body["total_tokens"]) == ("done", "", 9)
    assert dialect.over


def test_an_applications_own_frame_is_an_event_without_a_name() -> None:
    (own,) = parse_events(b"".join(opened().reply(Custom({"type": "notice", "text": "a\u2028b"}))))
    assert (own.name, own.body) == ("message", {"type": "notice", "text": "a\u2028b"})


@given(st.lists(st.one_of(ANY_TEXT, st.sampled_from(NASTY)), min_size=1))
def test_any_text_survives_any_reader(texts: list[str]) -> None:
    stream = b"".join(opened().feed(41, Tokens("m", 0, texts)))
    events = parse_events(stream)
    assert [event.body["data"] for event in events] == texts
    assert [event.body["token"] for event in events] == texts
    assert [event.offset for event in events] == list(range(42, 42 + len(texts)))
    careless = [json.loads(line[6:]) for line in stream.decode().splitlines() if line.startswith("data: ")]
    assert [body["data"] for body in careless] == texts, "also for one who takes every Unicode line break for one"


@given(st.lists(ANY_TEXT), ANY_TEXT)
def test_any_metadata_survives_any_reader(texts: list[str], key: str) -> None:
    sources = [{"title": text, f"k{key}": text} for text in texts]
    for event, name, value in (
        (Sources("m", sources), "sources", sources),
        (Ended("m", "stop", 1, 1, {f"k{key}": texts}), f"k{key}", texts),
    ):
        frame = b"".join(opened().feed(41, event))
        (told,) = parse_events(frame)
        assert told.body[name] == told.body["data"][name] == value
        assert len(frame.decode().splitlines()) == 4


def test_a_lone_surrogate_is_replaced() -> None:
    (event,) = parse_events(b"".join(opened().feed(41, Tokens("m", 0, ["a\ud800b"]))))
    assert event.body["data"] == "a?b"
