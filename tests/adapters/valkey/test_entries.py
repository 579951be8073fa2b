"""Entries of a stream taken apart: events get their positions, letters their numbers, and what is no entry is said."""

from __future__ import annotations

import pytest

from trialogue.core.codec import Unreadable, encode_events, encode_letter
from trialogue.core.events import Ended, Event, Fenced, Started, Tokens
from trialogue.core.letters import AskCancel
from trialogue.store import Stored
from trialogue_adapters.valkey.entries import Entry, letter_of, position, unpacked

STARTED = Started("m", "s", "t")
ENDED = Ended("m", "stop", 2, 1)
LETTER = AskCancel(("ann", "s"), "node", 1, "m")


def entry(at: bytes, *events: Event) -> Entry:
    return at, [b"n", b"9", b"e", encode_events(list(events))]


def test_each_event_stands_where_the_ones_before_it_end() -> None:
    assert unpacked(entry(b"7-40", STARTED, Tokens("m", 0, ["a", "b", "c"]), ENDED)) == [
        Stored(7, 40, STARTED),
        Stored(7, 41, Tokens("m", 0, ["a", "b", "c"])),
        Stored(7, 44, ENDED),
    ]


def test_a_fence_has_the_epoch_of_its_place_whatever_was_written() -> None:
    assert unpacked(entry(b"8-3", Fenced(0, "node", fresh=True))) == [Stored(8, 3, Fenced(8, "node", fresh=True))]


@pytest.mark.parametrize("at", [b"", b"7", b"-", b"7-", b"-7", b"7-x", b"-1-5", b"7-1-2", b"$"])
def test_what_is_no_position_is_said_to_be_none(at: bytes) -> None:
    with pytest.raises(Unreadable, match="no position"):
        position(at)
    with pytest.raises(Unreadable, match="no position"):
        unpacked(entry(at, STARTED))


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"n", b"1"],
        [b"n", b"1", b"x", encode_events([STARTED])],
        [b"n", b"1", b"e", encode_events([STARTED]), b"more", b""],
    ],
)
def test_fields_of_somebody_elses_are_said_to_be_none_of_ours(fields: list[bytes]) -> None:
    with pytest.raises(Unreadable, match="none of ours"):
        unpacked((b"7-0", fields))


def test_a_letter_comes_with_its_sender_and_its_number_there() -> None:
    fields = [b"s", b"node", b"n", b"12", b"l", encode_letter(LETTER)]
    assert letter_of((b"1-1", fields)) == (b"node", 12, LETTER)


@pytest.mark.parametrize("value", [b"", b"12.5"])
def test_a_beat_and_a_wake_up_are_no_letters(value: bytes) -> None:
    assert letter_of((b"1-1", [b"w", value])) is None


@pytest.mark.parametrize(
    "fields",
    [
        [b"s", b"node", b"n", b"12"],
        [b"x", b"node", b"n", b"12", b"l", encode_letter(LETTER)],
        [b"s", b"node", b"n", b"-12", b"l", encode_letter(LETTER)],
        [b"s", b"node", b"n", b"12", b"l", b"?"],
    ],
)
def test_what_is_no_letter_is_said_to_be_none(fields: list[bytes]) -> None:
    with pytest.raises(Unreadable):
        letter_of((b"1-1", fields))
