"""How an entry looks on the wire: one small translator per connection, `feed(offset, event) -> frames`.

A frame is the UTF-8 bytes of one JSON text: compact, keys in the contract's order, `type` first. Token frames are
written from a per-turn prefix, the escaped token and the index; everything else, a few frames per turn, goes through
pydantic's serialiser. Nothing in here may depend on which connection asks, but for its language.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, ClassVar, Literal, assert_never

from pydantic_core import from_json, to_json

from trialogue.core.errors import Lang
from trialogue.core.events import (
    Announced,
    CancelResult,
    Confirmed,
    Custom,
    Duplicate,
    Ended,
    Event,
    Failed,
    Fenced,
    Goaway,
    Pong,
    Presence,
    Ready,
    Receipt,
    Replay,
    Reply,
    Snapshot,
    Sources,
    Started,
    Status,
    Tokens,
    Typing,
    UserMessage,
)

DialectName = Literal["seed", "trialogue.v1", "onerag"]
SUBPROTOCOL = "trialogue.v1"
NO_FRAMES: Sequence[bytes] = ()


def _surrogates_replaced(value: Any) -> Any:
    """The same value with every lone surrogate (which UTF-8 cannot hold) replaced by `?`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_surrogates_replaced(str(key)): _surrogates_replaced(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_surrogates_replaced(item) for item in value]
    return value


def dump(body: Any) -> bytes:
    """Compact JSON of any value: foreign types become their text, NaN and infinities null, lone surrogates `?`.

    Raises:
        ValueError: the value refers to itself, or is nested too deep.
    """
    try:
        return to_json(body, fallback=str, inf_nan_mode="null")
    except ValueError:  # PydanticSerializationError is one
        try:
            return to_json(_surrogates_replaced(body), fallback=str, inf_nan_mode="null")
        except RecursionError:
            raise ValueError("the value refers to itself, or is nested too deep") from None


def plain(value: Any) -> Any:
    """The value as JSON would bring it back: what may be kept in an event. Raises ValueError as `dump` does."""
    return from_json(dump(value))


def token_prefix(message_id: str) -> str:
    """What all token frames of a turn begin with."""
    return f'{{"type":"stream_token","message_id":{encode_basestring(message_id)},"token":'


class Dialect(ABC):
    """A connection's translator. `name` tells which; `lang` is the language of its error texts.

    `over`: it has told all that it ever will. `heartbeat`: frames that tell nothing but that the connection is alive,
    for a wire that has no pings of its own.
    """

    __slots__ = ("_prefix", "_turn", "lang")

    name: ClassVar[str]
    over: bool = False
    heartbeat: Sequence[bytes] = NO_FRAMES
    resumes: ClassVar[bool] = True
    """May its clients say from which position they go on? Else one that comes back is told what runs from the start."""

    def __init__(self, lang: Lang = "ko") -> None:
        self.lang: Lang = lang
        self._turn = ""
        self._prefix = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.lang}>"

    @abstractmethod
    def feed(self, offset: int, event: Event) -> Sequence[bytes]:
        """The frames of an entry of the log; none if this dialect does not tell it.

        Args:
            offset: the event's offset; of a `Tokens`, its first token's.
        """

    @abstractmethod
    def reply(self, reply: Reply) -> Sequence[bytes]:
        """The frames of something for this connection alone."""

    def rejoin(self, message_id: str, times: int) -> None:  # noqa: B027 - most dialects need not know
        """The client has come back, for the nth time, in the midst of this turn; it is to be told from its start."""

    def skip(self, offset: int, event: Event) -> None:  # noqa: B027 - most dialects need not know
        """This entry is kept from the client: it has been told otherwise how that turn ends."""

    def original(self, message_id: str) -> str:
        """The id in the log of the turn that the client calls so."""
        return message_id

    def _named(self, message_id: str) -> str:
        """What the client is to call this turn."""
        return message_id

    def _token_frames(self, tokens: Tokens, offset: int | None = None) -> Sequence[bytes]:
        """The frames of a batch. Hot: 0.3 µs per token of a large batch, 0.7 µs for one alone; pydantic's dump takes 3.

        Args:
            offset: the first token's place in the log, if this dialect tells offsets.
        """
        if tokens.message_id != self._turn:
            self._turn, self._prefix = tokens.message_id, token_prefix(self._named(tokens.message_id))
        prefix, n, frames = self._prefix, tokens.index, []
        try:
            if offset is None:
                for text in tokens.texts:
                    frames.append(f'{prefix}{encode_basestring(text)},"index":{n}}}'.encode())
                    n += 1
            else:
                lead = offset + 1 - n
                for text in tokens.texts:
                    frames.append(f'{prefix}{encode_basestring(text)},"index":{n},"offset":{lead + n}}}'.encode())
                    n += 1
        except UnicodeEncodeError:  # a lone surrogate, which a pipeline should not make
            return self._token_frames(
                Tokens(tokens.message_id, tokens.index, _surrogates_replaced(tokens.texts)), offset
            )
        return frames

    def _failed(self, event: Failed) -> dict[str, Any]:
        message, solutions = event.fault.render(self.lang)
        body: dict[str, Any] = {
            "type": "stream_error",
            "message_id": event.message_id,
            "error_code": event.fault.code,
            "message": message,
            "solutions": solutions,
        }
        retry_after_ms = event.retry_after_ms or event.fault.spec.retry_after_ms
        if retry_after_ms:
            body["retry_after_ms"] = retry_after_ms
        return body


class Muted(Dialect):
    """Another dialect, but for the entries of some turns: the client has been told by replies how these end."""

    __slots__ = ("_inner", "_turns")

    name: ClassVar[str] = "muted"

    def __init__(self, inner: Dialect, turns: set[str]) -> None:
        super().__init__(inner.lang)
        self._inner = inner
        self._turns = turns  # each up to its end

    @property
    def over(self) -> bool:  # type: ignore[override]
        return self._inner.over

    @property
    def heartbeat(self) -> Sequence[bytes]:  # type: ignore[override]
        return self._inner.heartbeat

    def feed(self, offset: int, event: Event) -> Sequence[bytes]:
        if event.message_id not in self._turns:
            return self._inner.feed(offset, event)
        self._inner.skip(offset, event)
        if isinstance(event, Ended | Failed):
            self._turns.discard(event.message_id)
        return NO_FRAMES

    def reply(self, reply: Reply) -> Sequence[bytes]:
        return self._inner.reply(reply)

    def rejoin(self, message_id: str, times: int) -> None:
        self._inner.rejoin(message_id, times)

    def original(self, message_id: str) -> str:
        return self._inner.original(message_id)


class SeedDialect(Dialect):
    """The default: the five events and nothing unasked."""

    __slots__ = ()

    name: ClassVar[str] = "seed"

    def feed(self, offset: int, event: Event) -> Sequence[bytes]:
        if type(event) is Tokens:
            return self._token_frames(event)
        body = self._body(event)
        return (dump(body),) if body else NO_FRAMES

    def reply(self, reply: Reply) -> Sequence[bytes]:
        match reply:
            case Replay(events):
                return [frame for event in events for frame in self.reply(event)]
            case Pong(id=ping_id):
                return (dump({"type": "pong", "id": ping_id}),)
            case Custom(body):
                return (dump(body),)
            case Ready() | Confirmed() | CancelResult() | Duplicate() | Presence() | Typing() | Goaway():
                return NO_FRAMES
            case _:
                return self.feed(0, reply)

    def _body(self, event: Event) -> dict[str, Any] | None:
        match event:
            case Started(message_id, session_id, timestamp):
                return {
                    "type": "stream_start",
                    "message_id": message_id,
                    "session_id": session_id,
                    "timestamp": timestamp,
                }
            case Sources(message_id, sources):
                return {"type": "stream_sources", "message_id": message_id, "sources": sources}
            case Ended():
                return {
                    "type": "stream_end",
                    "message_id": event.message_id,
                    "total_tokens": event.total_tokens,
                    "processing_time_ms": event.processing_time_ms,
                    "finish_reason": event.finish_reason,
                }
            case Failed():
                return self._failed(event)
            case UserMessage() | Status() | Receipt() | Tokens() | Fenced() | Snapshot() | Announced():
                return None
            case _:
                assert_never(event)


class V1Dialect(SeedDialect):
    """`trialogue.v1`: the seed's events with positions, and the rest of the session's life.

    The `offset` that a client is told with an entry is the position *after* it: store it, resume with it, get what
    follows. So an entry's offset on the wire is its place in the log plus one.
    """

    __slots__ = ("_epoch", "_untold")

    name: ClassVar[str] = "trialogue.v1"

    def __init__(self, lang: Lang = "ko") -> None:
        super().__init__(lang)
        self._epoch = 0  # of the positions that the client has been told
        self._untold = False  # it has changed since

    def feed(self, offset: int, event: Event) -> Sequence[bytes]:
        if type(event) is Tokens:
            frames = self._token_frames(event, offset)
            return self._with_epoch(frames) if self._untold else frames
        if type(event) is Fenced:
            self._untold = self._untold or event.epoch != self._epoch
            self._epoch = event.epoch
        body = self._body(event)
        if not body:
            return NO_FRAMES
        frame = dump({**body, "offset": offset + 1})
        return self._with_epoch((frame,)) if self._untold else (frame,)

    def _with_epoch(self, frames: Sequence[bytes]) -> Sequence[bytes]:
        """The first frame of an epoch says so."""
        self._untold = False
        first, *rest = frames
        return [first[:-1] + b',"epoch":%d}' % self._epoch, *rest]

    def reply(self, reply: Reply) -> Sequence[bytes]:
        match reply:
            case Ready():
                self._epoch = int(reply.position.partition(":")[0])
                body = {name: getattr(reply, name) for name in Ready.__dataclass_fields__}
                return (dump({"type": "session_ready", **body}),)
            case CancelResult(message_id, outcome):
                return (dump({"type": "cancel_result", "message_id": message_id, "outcome": outcome}),)
            case Duplicate(message_id):
                return (dump({"type": "stream_status", "message_id": message_id, "phase": "duplicate"}),)
            case Presence(connections):
                return (dump({"type": "presence", "connections": connections}),)
            case Typing(active):
                return (dump({"type": "typing", "active": active}),)
            case Goaway(reason, retry_after_ms):
                return (dump({"type": "goaway", "reason": reason, "retry_after_ms": retry_after_ms}),)
            case Pong() | Custom() | Replay() | Confirmed():
                return super().reply(reply)
            case Tokens():
                return self._token_frames(reply)
            case _:
                body = self._body(reply) or {}
                return (dump(body),) if body else NO_FRAMES

    def _body(self, event: Event) -> dict[str, Any] | None:
        match event:
            case UserMessage(message_id, content, on_busy):
                return {"type": "user_message", "message_id": message_id, "content": content, "on_busy": on_busy}
            case Status(message_id, phase, extra):
                return {"type": "stream_status", "message_id": message_id, "phase": phase, **extra}
            case Receipt():
                body = {name: getattr(event, name) for name in Receipt.__dataclass_fields__}
                return {"type": "stream_receipt", **body}
            case Ended():
                body = super()._body(event) or {}
                return {**body, "meta": event.meta} if event.meta else body
            case _:
                return super()._body(event)
