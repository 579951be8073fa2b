"""`core/protocol.py`: what clients may send, and what is said of everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialogue.core.machine import Policy
from trialogue.core.protocol import (
    ClientAck,
    ClientAuth,
    ClientCancel,
    ClientMessage,
    ClientPing,
    ClientTyping,
    Invalid,
    parse,
)

MESSAGE = {"message_id": "m1", "content": "안녕", "session_id": "s1"}


def read(**changes: Any) -> Any:
    return parse(json.dumps({**MESSAGE, **changes}))


def test_a_frame_without_a_type_is_a_message() -> None:
    assert read() == ClientMessage(message_id="m1", content="안녕", session_id="s1")


def test_a_message_may_say_how_and_what_for() -> None:
    message = read(on_busy="enqueue", options={"top_k": 3}, unknown_key=1)
    assert message.on_busy is Policy.ENQUEUE
    assert message.options == {"top_k": 3}


COMMANDS: list[tuple[dict[str, Any], Any]] = [
    ({"type": "cancel"}, ClientCancel(type="cancel")),
    ({"type": "cancel", "message_id": "m"}, ClientCancel(type="cancel", message_id="m")),
    ({"type": "ack", "message_id": "m", "index": 3}, ClientAck(type="ack", message_id="m", index=3)),
    ({"type": "typing", "active": True}, ClientTyping(type="typing", active=True)),
    ({"type": "auth", "token": "t"}, ClientAuth(type="auth", token="t")),
    ({"type": "ping"}, ClientPing(type="ping")),
    ({"type": "ping", "id": "p"}, ClientPing(type="ping", id="p")),
    ({"type": "ping", "id": 7}, ClientPing(type="ping", id=7)),
]


@pytest.mark.parametrize(("frame", "command"), COMMANDS, ids=[json.dumps(frame) for frame, _ in COMMANDS])
def test_every_command(frame: dict[str, Any], command: Any) -> None:
    assert parse(json.dumps(frame)) == command


ACCEPTED = [
    {"message_id": "x" * 128},
    {"message_id": "msg_1700000000000_a1b2c3"},
    {"message_id": "메시지 1"},
    {"content": "x" * 10_000},
    {"content": "😀" * 10_000},
    {"options": {}},
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=lambda changes: str(changes)[:30])
def test_limits_are_inclusive(changes: dict[str, Any]) -> None:
    assert isinstance(read(**changes), ClientMessage)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"message_id": ""}, "unknown", "message_id"),
    ({"message_id": "x" * 129}, "unknown", "message_id"),
    ({"message_id": "a\nb"}, "unknown", "message_id"),
    ({"message_id": 5}, "unknown", "message_id"),
    ({"message_id": None}, "unknown", "message_id"),
    ({"content": ""}, "m1", "content"),
    ({"content": " \t\n\u3000"}, "m1", "content"),
    ({"content": "x" * 10_001}, "m1", "content"),
    ({"content": ["x"]}, "m1", "content"),
    ({"session_id": 1}, "m1", "session_id"),
    ({"on_busy": "later"}, "m1", "on_busy"),
    ({"options": [1]}, "m1", "options"),
    ({"type": "shout"}, "m1", "type"),
    ({"type": None}, "m1", "type"),
    ({"type": "ack", "index": -1}, "m1", "index"),
    ({"type": "ack", "index": "1"}, "m1", "index"),
    ({"type": "ack", "index": True}, "m1", "index"),
    ({"type": "typing", "active": 1}, "m1", "active"),
    ({"type": "auth", "token": ""}, "m1", "token"),
    ({"type": "ping", "id": {}}, "m1", "id"),
]


@pytest.mark.parametrize(("changes", "message_id", "field"), REFUSED, ids=[str(row[0])[:40] for row in REFUSED])
def test_what_is_wrong_is_named(changes: dict[str, Any], message_id: str, field: str) -> None:
    invalid = read(**changes)
    assert isinstance(invalid, Invalid)
    assert (invalid.message_id, invalid.field) == (message_id, field)
    assert invalid.describe("en").startswith(f"{field}: ")
    assert invalid.describe("ko").startswith(f"{field}: ")


@pytest.mark.parametrize("missing", ["message_id", "content", "session_id"])
def test_a_missing_field_is_named(missing: str) -> None:
    invalid = parse(json.dumps({key: value for key, value in MESSAGE.items() if key != missing}))
    assert isinstance(invalid, Invalid)
    assert invalid.field == missing
    assert invalid.describe("ko") == f"{missing}: 반드시 필요합니다."


NO_OBJECTS = ["", "{", "null", "[]", "1", '"x"', "true", "NaN", "[" * 5_000, '{"a":' * 5_000, "9" * 5_000, "\x00"]


@pytest.mark.parametrize("frame", NO_OBJECTS, ids=lambda frame: repr(frame[:10]))
def test_what_is_no_object_is_taken_calmly(frame: str) -> None:
    invalid = parse(frame)
    assert isinstance(invalid, Invalid)
    assert (invalid.message_id, invalid.field) == ("unknown", "frame")


def test_a_huge_integer_is_taken_calmly() -> None:
    assert isinstance(parse('{"type":"ack","message_id":"m","index":' + "9" * 5_000 + "}"), Invalid)


@given(st.binary(max_size=200))
def test_no_bytes_raise(frame: bytes) -> None:
    assert parse(frame) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["type", "message_id", "content", "session_id", "on_busy", "options", "index", "id", "token"])


@given(st.dictionaries(KEYS, JSON | st.sampled_from(["message", "cancel", "ack", "typing", "auth", "ping"])))
def test_no_object_raises_and_what_is_invalid_is_described(frame: dict[str, Any]) -> None:
    result = parse(json.dumps(frame))
    if isinstance(result, Invalid):
        assert result.describe("en")
        assert result.describe("ko")
