"""The dialect of server-sent events: one turn of a session as `metadata`, `chunk`, `done` and `error`.

A frame is one whole event of a `text/event-stream` (HTML standard, 9.2.6), blank line included. Its `id` is the
position after it: whoever resumes with it gets exactly the rest. The JSON stands in one line, without any line break
that a client might see: many split at U+2028 and its kind, too. The names are those of the deployed OneRAG server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, ClassVar

from trialogue.core.dialects import NO_FRAMES, Dialect, dump, plain
from trialogue.core.errors import Lang
from trialogue.core.events import Custom, Ended, Event, Failed, Fenced, Ready, Replay, Reply, Sources, Status, Tokens

HEARTBEAT: Sequence[bytes] = (b": ping\n\n",)
"""A comment: clients pass it over, and proxies see that the response is alive."""

LINE_BREAKS = tuple((char.encode(), b"\\u%04x" % ord(char)) for char in "\x85\u2028\u2029")
"""Those that JSON leaves as they are, and their escapes. Programs that read by lines often break there."""


def _in_one_line(frame: bytes) -> bytes:
    for char, escape in LINE_BREAKS:
        frame = frame.replace(char, escape)
    return frame


def _frame(name: str, fields: Mapping[str, Any], position: str) -> bytes:
    """An event whose fields stand flat and, again, under `data`. Without a position it has no `id`."""
    kind = {"event": name}  # first, and never a pipeline's own
    body = dump({**kind, **fields, **kind, "data": fields})
    lead = f"id: {position}\nevent: {name}\ndata: " if position else f"event: {name}\ndata: "
    return lead.encode() + _in_one_line(body) + b"\n\n"


class SseDialect(Dialect):
    """A connection that is for one turn. It tells nothing of other turns, and nothing after that turn's end.

    Its first frame, `metadata`, is made of the connection's greeting: from that it knows the log's epoch.
    """

    __slots__ = ("_epoch", "_message_id", "_session_id", "over")

    name: ClassVar[str] = "sse"
    heartbeat = HEARTBEAT

    def __init__(self, message_id: str, lang: Lang = "ko") -> None:
        super().__init__(lang)
        self._message_id = message_id
        self._session_id = ""
        self._epoch = ""
        self.over = False

    def feed(self, offset: int, event: Event) -> Sequence[bytes]:
        if self.over or event.message_id != self._message_id:
            if type(event) is Fenced:
                self._epoch = str(event.epoch)
            return NO_FRAMES
        if type(event) is Tokens:
            return self._chunks(event, offset)
        return self._tell(event, f"{self._epoch}:{offset + 1}")

    def reply(self, reply: Reply) -> Sequence[bytes]:
        match reply:
            case Ready(session_id, position, resumed):
                self._session_id, self._epoch = session_id, position.partition(":")[0]
                return (_frame("metadata", {**self._whose(), "resumed": resumed}, position),)
            case Replay(events):
                return [frame for event in events for frame in self.reply(event)]
            case Custom(body):
                return (b"data: " + _in_one_line(dump(body)) + b"\n\n",)
            case Failed() | Ended() | Sources() | Status() if not self.over:
                return self._tell(reply, "")
            case _:
                return NO_FRAMES

    def _whose(self) -> dict[str, Any]:
        return {"session_id": self._session_id, "message_id": self._message_id}

    def _chunks(self, tokens: Tokens, offset: int) -> Sequence[bytes]:
        """One event per token. `data` is the text, as in a pipeline's chunk; beside it the names of the WebSocket."""
        epoch, lead, frames = self._epoch, offset + 1 - tokens.index, []
        try:
            for n, text in enumerate(tokens.texts, tokens.index):
                quoted = encode_basestring(text)
                frame = (
                    f'id: {epoch}:{lead + n}\nevent: chunk\ndata: {{"event":"chunk","data":{quoted},"chunk_index":{n},'
                    f'"token":{quoted},"index":{n}}}\n\n'
                ).encode()
                frames.append(frame if text.isascii() else _in_one_line(frame))
        except UnicodeEncodeError:  # a lone surrogate, which a pipeline should not make
            return self._chunks(Tokens(tokens.message_id, tokens.index, plain(tokens.texts)), offset)
        return frames

    def _tell(self, event: Event, position: str) -> Sequence[bytes]:
        match event:
            case Sources(sources=sources):
                return (_frame("metadata", {**self._whose(), "sources": sources}, position),)
            case Status(phase="pipeline", extra=extra):
                told = extra.get("data")
                fields = told if isinstance(told, Mapping) else {}
                return (_frame("metadata", {**fields, **self._whose()}, position),)
            case Ended():
                self.over = True
                counts = {
                    "finish_reason": event.finish_reason,
                    "total_tokens": event.total_tokens,
                    "total_chunks": event.total_tokens,
                    "processing_time_ms": event.processing_time_ms,
                    "processing_time": event.processing_time_ms / 1000,
                }
                return (_frame("done", {**event.meta, **self._whose(), **counts}, position),)
            case Failed():
                self.over = True
                told = self._failed(event)
                del told["type"], told["message_id"]
                return (_frame("error", {**self._whose(), **told}, position),)
            case _:
                return NO_FRAMES
