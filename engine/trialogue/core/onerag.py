"""The dialect of the deployed OneRAG server: its order, its error names, its habits; and one turn of state for them.

It differs from the seed in what a client may rely on:

- `stream_start` waits until the pipeline has told its metadata, because it tells the session id that was confirmed
  there. Without metadata it comes with the first token, or with the end.
- `stream_sources` comes after the tokens, just before `stream_end`.
- An error before metadata has no `stream_start`; an error has no `stream_sources`.
- Errors have the deployed server's names.
- Clients append whatever comes for a message id, and know no positions. So one that comes back in the midst of a turn
  gets the turn from its start under another id, derived from the turn's: an answer of its own, whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from trialogue.core.dialects import NO_FRAMES, SeedDialect, dump
from trialogue.core.errors import Fault, Lang
from trialogue.core.events import Confirmed, Ended, Event, Failed, Replay, Reply, Sources, Started, Status, Tokens

NAMES: Mapping[str, str] = {
    "WS-001": "WS-002-VALIDATION_ERROR",
    "WS-002": "WS-003-SERVICE_NOT_INITIALIZED",
    "WS-003": "WS-409-BUSY",
    "WS-004": "WS-002-VALIDATION_ERROR",
    "WS-005": "WS-429-RATE_LIMITED",
    "WS-006": "WS-503-DRAINING",
    "WS-007": "WS-999-INTERNAL_ERROR",
    "WS-008": "WS-999-INTERNAL_ERROR",
    "WS-009": "WS-503-STORE",
    "WS-010": "WS-503-BUSY",
    "RAG-001": "WS-999-INTERNAL_ERROR",
    "RAG-002": "PIPE-001",
    "RAG-003": "PIPE-001",
    "RAG-004": "PIPE-001",
    "STREAM-001": "GEN-999",
}
"""The deployed server's name of each of our codes; a pipeline's own code stays as it is."""

UNREADABLE = "WS-001-INVALID_JSON"


def error_name(fault: Fault) -> str:
    return UNREADABLE if fault.unreadable else NAMES.get(fault.code, fault.code)


class OneRagDialect(SeedDialect):
    """`onerag`. One turn at a time is open in a log, so what is kept is that turn's start and its sources."""

    __slots__ = ("_begun", "_informed", "_rejoined", "_session_id", "_sources", "_started")

    name: ClassVar[str] = "onerag"
    resumes: ClassVar[bool] = False

    def __init__(self, lang: Lang = "ko", session_id: str = "") -> None:
        super().__init__(lang)
        self._session_id = session_id  # as the service has it; "" while that is not known
        self._informed: str | None = None  # the turn of which metadata has come
        self._rejoined = ("", "")  # the turn that the client has come back to, and what it is to call it
        self._started: Started | None = None  # the turn that is open
        self._begun = False  # has its client been told that it has?
        self._sources: Sources | None = None  # what waits for its end

    def rejoin(self, message_id: str, times: int) -> None:
        self._rejoined = (message_id, f"{message_id}~r{times}")

    def original(self, message_id: str) -> str:
        return self._rejoined[0] if message_id == self._rejoined[1] else message_id

    def _named(self, message_id: str) -> str:
        return self._rejoined[1] if message_id == self._rejoined[0] else message_id

    def skip(self, offset: int, event: Event) -> None:
        self.feed(offset, event)

    def feed(self, offset: int, event: Event) -> Sequence[bytes]:
        if type(event) is Tokens:
            frames = self._token_frames(event)
            return frames if self._begun else (*self._begin(), *frames)
        match event:
            case Started(message_id):
                self._started = event
                return self._begin() if message_id == self._informed else NO_FRAMES
            case Sources() if self._is_open(event.message_id):
                self._sources = event
                return NO_FRAMES
            case Status(message_id, _, {"session_id": str(session_id)}):
                return self._confirm(message_id, session_id)
            case Ended() | Failed():
                return self._end(event)
            case _:
                return NO_FRAMES

    def reply(self, reply: Reply) -> Sequence[bytes]:
        match reply:
            case Confirmed(message_id, session_id):
                return self._confirm(message_id, session_id)
            case Failed():  # a refusal: nothing of the turn that is open, whatever its id
                return (dump(self._failed(reply)),)
            case Replay(events):
                past = OneRagDialect(self.lang, self._session_id)
                return [frame for event in events for frame in past.feed(0, event)]
            case _:
                return super().reply(reply)

    def _is_open(self, message_id: str | None) -> bool:
        return self._started is not None and self._started.message_id == message_id

    def _confirm(self, message_id: str | None, session_id: str) -> Sequence[bytes]:
        """Metadata has come: of the turn that is open, or (to one who has just attached) of the one that follows."""
        self._informed, self._session_id = message_id, session_id
        return self._begin() if self._is_open(message_id) else NO_FRAMES

    def _begin(self) -> Sequence[bytes]:
        """The open turn's start, unless it has been told."""
        if self._started is None or self._begun:
            return NO_FRAMES
        self._begun = True
        started = self._started
        return self._frame(Started(started.message_id, self._session_id or started.session_id, started.timestamp))

    def _end(self, end: Ended | Failed) -> Sequence[bytes]:
        """The end, after what still waits for it. A turn that never started has nothing but its end."""
        if not self._is_open(end.message_id):
            return self._frame(end)
        frames: list[bytes] = []
        if isinstance(end, Ended) or self._sources:  # sources, too, say that metadata has come
            frames += self._begin()
        if isinstance(end, Ended) and self._sources:
            frames += self._frame(self._sources)
        self._started, self._begun, self._sources = None, False, None
        return (*frames, *self._frame(end))

    def _frame(self, event: Started | Sources | Ended | Failed) -> Sequence[bytes]:
        return (dump({**(self._body(event) or {}), "message_id": self._named(event.message_id)}),)

    def _failed(self, event: Failed) -> dict[str, Any]:
        return {**super()._failed(event), "error_code": error_name(event.fault)}
