"""The codec: what is written is read back to the same values; whatever else there is, is refused."""

from __future__ import annotations

import typing
from contextlib import suppress
from dataclasses import fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from trialogue.core import codec, letters
from trialogue.core.codec import Unreadable, decode_events, decode_letter, encode_events, encode_letter
from trialogue.core.errors import CloseCode, Fault
from trialogue.core.events import (
    Announced,
    CancelResult,
    Custom,
    Ended,
    Event,
    Failed,
    Fenced,
    Goaway,
    Receipt,
    Remembered,
    Replay,
    Reply,
    Snapshot,
    Sources,
    Started,
    Status,
    Tokens,
    UserMessage,
)
from trialogue.core.machine import Policy, Turn

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**53)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(texts, json_values, max_size=3)
faults = st.builds(
    Fault,
    code=texts,
    detail=texts,
    message=st.none() | texts,
    solutions=st.lists(texts, max_size=2).map(tuple),
    unreadable=st.booleans(),
)
turns = st.builds(Turn, message_id=texts, content=texts, on_busy=st.sampled_from(Policy), options=bodies)
endings = st.one_of(
    st.builds(Ended, texts, texts, counts, counts, bodies), st.builds(Failed, texts, faults, st.none() | counts)
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Tokens, texts, counts, st.lists(texts.filter(bool), min_size=1, max_size=5)),
    st.builds(UserMessage, texts, texts, st.sampled_from(Policy), bodies, texts),
    st.builds(Started, texts, texts, texts),
    st.builds(Sources, texts, st.lists(bodies, max_size=3)),
    st.builds(Status, texts, st.sampled_from(["queued", "waiting", "retrieving", "generating", "pipeline"]), bodies),
    endings,
    st.builds(Fenced, counts, texts, st.booleans()),
    st.builds(Announced, bodies),
    st.builds(
        Snapshot,
        st.lists(st.builds(Remembered, st.binary(min_size=8, max_size=8), endings), max_size=2).map(tuple),
        st.none() | texts,
    ),
    st.builds(Receipt, texts, counts, counts, st.none() | counts, counts, st.sampled_from(["closed", "abandoned"])),
)
replies: st.SearchStrategy[Reply] = st.one_of(
    events,
    st.lists(events, max_size=3).map(lambda some: Replay(tuple(some))),
    st.builds(Custom, bodies),
    st.builds(Goaway, texts, counts),
    st.builds(CancelResult, st.none() | texts, st.sampled_from(["cancelled", "already_ended", "unknown"])),
)
sent = (st.tuples(texts, texts), texts)
to_owner = (*sent, st.integers())
to_client = (*sent, st.integers(), counts, counts)
all_letters: st.SearchStrategy[letters.Letter] = st.one_of(
    st.builds(letters.Attach, *to_owner, counts, counts),
    st.builds(letters.Detach, *to_owner, st.booleans()),
    st.builds(letters.AskSubmit, *to_owner, turns),
    st.builds(letters.AskCancel, *to_owner, st.none() | texts),
    st.builds(letters.Shown, *to_owner, texts, counts),
    st.builds(letters.Types, *to_owner, st.booleans()),
    st.builds(letters.Postpone, *to_owner, texts),
    st.builds(letters.Count, *to_owner),
    st.builds(letters.Hand, *to_owner, bodies),
    st.builds(letters.Delete, *to_owner),
    st.builds(letters.Tell, *to_client, replies),
    st.builds(
        letters.Dismiss, *to_client, st.sampled_from(CloseCode), texts, st.none() | st.builds(Goaway, texts, counts)
    ),
    st.builds(letters.Counted, *to_owner, counts),
    st.builds(letters.NotMine, *sent),
)


@given(st.lists(events, max_size=4))
def test_events_are_read_back_as_they_were_written(some: list[Event]) -> None:
    assert decode_events(encode_events(some)) == some


@given(all_letters)
@example(letters.AskSubmit(("", "s"), "n", 1, Turn("m", "c", Policy.ROLLBACK, {"top_k": 3})))
def test_a_letter_is_read_back_as_it_was_written(letter: letters.Letter) -> None:
    back = decode_letter(encode_letter(letter))

    assert back == letter
    if isinstance(letter, letters.AskSubmit):
        assert isinstance(back, letters.AskSubmit)
        assert back.turn.options == letter.turn.options  # which no comparison of turns looks at


def test_every_event_reply_and_letter_there_is_can_be_written() -> None:
    assert set(codec.EVENTS.values()) == set(typing.get_args(Event))
    assert set(codec.REPLIES.values()) == set(typing.get_args(Reply))
    assert set(codec.LETTERS.values()) == set(typing.get_args(letters.Letter))


@given(
    st.binary(max_size=60)
    | json_values.map(to_json)
    | st.lists(json_values, max_size=4).map(lambda v: to_json([1, *v]))
)
@example(b"[1" * 5000)
@example(b"[1," + b"[" * 5000 + b"]" * 5000 + b"]")
@example(b"[" + b"9" * 5000 + b"]")
@example(b"[true]")
@example(b"[1.0]")
@example(b'[1,["t","m",0,[]]]')
@example(b'[1,["t","m",0,[""]]]')
@example(b'[1,["t","m",-1,["a"]]]')
@example(b'[1,["t","m",true,["a"]]]')
@example(b'[1,["t","m",0,"ab"]]')
@example(b'[1,["t","m",0,["a",1]]]')
@example(b'[1,["s","m"]]')
@example(b'[1,["s","m","s","t","more"]]')
@example(b'[1,["p","m","no such phase",{}]]')
@example(b'[1,["f","m",{"code":1},null]]')
@example(b'[1,["C",null,"a reply, in a log"]]')
@example(b'[1,["t",["p","s"],"n",1,1,2,["L",7]]]')
@example(b'[1,["t",["p","s"],"n",1,1,2,7]]')
@example(b'[1,["t",["p"],"n",1,1,2,["T",true]]]')
@example(b'[1,["b",["p","s"],"n",1,1,2,1234,"r",null]]')
@example(b'[1,["S",[["zz",["e","m","stop",1,2,{}]]],null]]')
@example(b'[1,["S",[["00",["t","m",0,["a"]]]],null]]')
@example(b'[1,["S",[1],null]]')
@example(b'[1,["S"]]')
def test_whatever_the_bytes_it_raises_nothing_but_unreadable(payload: bytes) -> None:
    for decode in (decode_events, decode_letter):
        with suppress(Unreadable):
            decode(payload)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"{}", "begins with a version"),
        (b"[2]", "another version"),
        (b"[true]", "another version"),
        (b"[1,7]", "begins with a tag"),
        (b'[1,["?"]]', "not known"),
        (b'[1,["C",null,"s"]]', "not known"),
        (b'[1,["t","m",0,[""]]]', "tokens"),
        (b'[1,["t","m",-1,["a"]]]', "tokens"),
        (b'[1,["t","m",0,["a",1]]]', "tokens"),
        (b'[1,["s","m"]]', "missing"),
        (b'[1,["s","m","s","t","more"]]', "unexpected"),
        (b'[1,["p","m","secret",{}]]', "literal"),
    ],
)
def test_what_cannot_be_read_is_named_and_its_content_is_not_shown(payload: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words) as caught:
        decode_events(payload)
    assert "secret" not in str(caught.value)


def test_a_lone_surrogate_is_written_as_the_wire_writes_it() -> None:
    assert decode_events(encode_events([Tokens("m", 0, ["\ud83d", "b"])])) == [Tokens("m", 0, ["?", "b"])]


def test_a_value_is_a_tag_and_the_fields_in_their_order() -> None:
    """What the store holds is a contract between nodes: a field that moves needs a new version."""
    assert from_json(encode_events([Tokens("m", 3, ["a"]), Started("m", "s", "t")])) == [
        1,
        ["t", "m", 3, ["a"]],
        ["s", "m", "s", "t"],
    ]
    assert [field.name for field in fields(Receipt)] == [
        "message_id",
        "generated",
        "sent",
        "acked",
        "chars",
        "upstream",
    ]
