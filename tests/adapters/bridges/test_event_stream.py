"""`bridges/event_stream.py`: every way to write the same events, cut at every byte."""

from __future__ import annotations

import pytest

from trialogue_adapters.bridges.event_stream import EventReader, StreamedEvent, TooLong

WRITTEN = (
    "\ufeff: a comment\n\nevent: chunk\ndata: 안녕\nid: 7\nretry: 100\n\n:keep-alive\n\n"
    "data:no space\ndata\ndata:  two spaces\u2028here\n\nevent: nothing\n\ndata: [DONE]\n\n"
)
MEANT = [
    StreamedEvent("chunk", "안녕"),
    StreamedEvent("message", "no space\n\n two spaces\u2028here"),
    StreamedEvent("message", "[DONE]"),
]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 10_000])
def test_all_ways_to_write_and_to_cut_are_read_alike(ending: str, step: int) -> None:
    data = WRITTEN.replace("\n", ending).encode()
    reader = EventReader()
    events = [event for n in range(0, len(data), step) for event in reader.feed(data[n : n + step])]
    assert events == MEANT
    assert "0 lines" in repr(reader)


def test_an_event_that_nothing_closes_does_not_count() -> None:
    assert EventReader().feed(b"data: half\n") == []


def test_an_event_is_whole_as_soon_as_its_last_line_ends() -> None:
    reader = EventReader()
    assert reader.feed(b"data: x\r\r") == [StreamedEvent("message", "x")]
    assert reader.feed(b"\ndata: y\r\n\r\n") == [StreamedEvent("message", "y")]


@pytest.mark.parametrize("piece", [b"x" * 40, b"data: x\n" * 20, b"data: " + b"x" * 40])
def test_an_event_without_end_is_noticed(piece: bytes) -> None:
    reader = EventReader(limit=100)
    reader.feed(piece[:10])
    with pytest.raises(TooLong):
        reader.feed(piece * 10)


def test_comments_and_events_do_not_add_up() -> None:
    reader = EventReader(limit=100)
    for _ in range(100):
        assert len(reader.feed(b": keep-alive\n\ndata: 0123456789\n\n")) == 1
