"""Server-sent events from the reader's side, as the HTML standard reads them (9.2.6): bytes in, events out. No IO.

Lines end with LF, CR or CRLF and with nothing else (U+2028 is text), and may be cut anywhere by the network. Comments,
which servers send to keep proxies awake, are passed over. An event that its blank line has not closed does not count.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

MAX_EVENT_CHARS = 1 << 20
"""Of one event. A token's is a few hundred; sources, or an answer in one piece, may be long."""


class TooLong(ValueError):
    """An event that never ends, or one that nobody can mean."""


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """One event: its name (`message` when it has none) and its data, lines joined by LF."""

    name: str
    data: str


class EventReader:
    """Feed it what comes; a character or a line break may be cut in two."""

    __slots__ = ("_data", "_decoder", "_lead", "_limit", "_name", "_size", "_skip_lf")

    def __init__(self, limit: int = MAX_EVENT_CHARS) -> None:
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._lead = ""
        self._skip_lf = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def __repr__(self) -> str:
        return f"<EventReader, {len(self._lead)} characters of a line, {len(self._data)} lines of an event>"

    def feed(self, data: bytes) -> list[StreamedEvent]:
        """The events that `data` completes. Raises TooLong."""
        text = self._decoder.decode(data)
        if self._skip_lf:
            text = text.removeprefix("\n")
        self._skip_lf = text.endswith("\r")  # ends its line now; an LF that follows belongs to it
        *lines, self._lead = (self._lead + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        events = [event for line in lines if (event := self._take(line)) is not None]
        if self._size + len(self._lead) > self._limit:
            raise TooLong(f"an event is longer than {self._limit} characters")
        return events

    def _take(self, line: str) -> StreamedEvent | None:
        """Read one line; the event, if it was the blank one that closes it."""
        if not line:
            event = StreamedEvent(self._name or "message", "\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._size += len(value) + 1
        elif field == "event":
            self._name = value
        return None
