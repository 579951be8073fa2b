"""The wire as pydantic models: what clients may send (`parse`), and the schema of what they are sent.

Incoming frames are validated here and become commands. Outgoing token frames are *not* built from these models (that
costs 3 µs each): `dialects.py` writes the same bytes from a template, and a property test holds it to the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
)

from trialogue.core.errors import Lang
from trialogue.core.machine import Policy

MAX_CONTENT_CHARS = 10_000
MAX_ID_CHARS = 128
SESSION_ID_PATTERN = r"^[A-Za-z0-9._~:\-]{1,128}$"


def _printable(value: str) -> str:
    if not value.isprintable():
        raise pydantic_core.PydanticCustomError("not_printable", "must be printable characters")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise pydantic_core.PydanticCustomError("blank", "must not be blank")
    return value


MessageId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS), AfterValidator(_printable)]
Content = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CONTENT_CHARS), AfterValidator(_not_blank)]
AnySessionId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS)]


class _Frame(BaseModel):
    """A client's frame: strict types, unknown keys ignored so that a newer client is understood by an older server."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class ClientMessage(_Frame):
    """Submit a turn. `type` may be absent."""

    type: Literal["message"] = "message"
    message_id: MessageId
    content: Content
    session_id: AnySessionId
    on_busy: Annotated[Policy | None, Field(strict=False)] = None
    options: dict[str, Any] | None = None


class ClientCancel(_Frame):
    """Stop that turn, running or queued; without an id, all of this session's."""

    type: Literal["cancel"]
    message_id: MessageId | None = None
    session_id: AnySessionId | None = None


class ClientAck(_Frame):
    """The client has shown tokens up to `index`."""

    type: Literal["ack"]
    message_id: MessageId
    index: Annotated[int, Field(ge=0, le=2**53)]
    session_id: AnySessionId | None = None


class ClientTyping(_Frame):
    """The user is typing, or has stopped; relayed to the session's other connections."""

    type: Literal["typing"]
    active: bool
    session_id: AnySessionId | None = None


class ClientAuth(_Frame):
    """Renew this connection's credential before it expires."""

    type: Literal["auth"]
    token: Annotated[str, StringConstraints(min_length=1, max_length=8192)]
    session_id: AnySessionId | None = None


class ClientPing(_Frame):
    """Answered by `pong` with the same id."""

    type: Literal["ping"]
    id: Annotated[str, StringConstraints(max_length=MAX_ID_CHARS)] | int | None = None
    session_id: AnySessionId | None = None


Command = ClientMessage | ClientCancel | ClientAck | ClientTyping | ClientAuth | ClientPing


# ── What clients are sent: the seed's five events ────────────────────────────────────────────────────────────────


class StreamStartEvent(BaseModel):
    """A turn has begun."""

    type: Literal["stream_start"] = "stream_start"
    message_id: str
    session_id: str
    timestamp: str


class StreamTokenEvent(BaseModel):
    """One token; `index` counts 0, 1, 2… without a hole."""

    type: Literal["stream_token"] = "stream_token"
    message_id: str
    token: str
    index: int


class StreamSourcesEvent(BaseModel):
    """What the answer rests on; every key of a source is passed through."""

    type: Literal["stream_sources"] = "stream_sources"
    message_id: str
    sources: list[dict[str, Any]]


class StreamEndEvent(BaseModel):
    """A turn's end; `total_tokens` counts its token events."""

    type: Literal["stream_end"] = "stream_end"
    message_id: str
    total_tokens: int
    processing_time_ms: int
    finish_reason: Literal["stop", "length", "cancelled", "interrupted", "retracted"]


class StreamErrorEvent(BaseModel):
    """A turn's failed end, or a refusal. `solutions` is never empty."""

    type: Literal["stream_error"] = "stream_error"
    message_id: str
    error_code: str
    message: str
    solutions: Annotated[list[str], Field(min_length=1)]
    retry_after_ms: int | None = None


# ── Parsing ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Invalid:
    """A frame that is not a command: whose (`unknown` when its id cannot be read), which field, and why."""

    message_id: str
    field: str
    kind: str
    context: Mapping[str, Any]
    reason: str

    def describe(self, lang: Lang) -> str:
        """For people: the field and what is wrong with it."""
        if lang == "en":
            return f"{self.field}: {self.reason}."
        template = _KOREAN.get(self.kind, "올바르지 않은 값입니다")
        return f"{self.field}: {template.format_map(_Missing(self.context))}."


class _Missing(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


_KOREAN = {
    "missing": "반드시 필요합니다",
    "blank": "비어 있으면 안 됩니다",
    "not_printable": "출력 가능한 문자여야 합니다",
    "string_too_short": "최소 {min_length}자여야 합니다",
    "string_too_long": "최대 {max_length}자까지 가능합니다",
    "string_type": "문자열이어야 합니다",
    "dict_type": "객체여야 합니다",
    "bool_type": "true 또는 false여야 합니다",
    "int_type": "정수여야 합니다",
    "enum": "다음 중 하나여야 합니다: {expected}",
    "unknown_type": "알 수 없는 종류입니다",
    "unfit": "이 연결에 쓸 수 없습니다",
    "json_invalid": "JSON이 아닙니다",
    "not_object": "JSON 객체여야 합니다",
}


def _type_of(frame: Any) -> str | None:
    """The tag of a frame; a frame without `type` is a message, and anything else that is no known text has none."""
    if not isinstance(frame, dict):
        return None
    kind = frame.get("type", "message")
    return kind if isinstance(kind, str) else None


_COMMAND: TypeAdapter[Command] = TypeAdapter(
    Annotated[
        Annotated[ClientMessage, Tag("message")]
        | Annotated[ClientCancel, Tag("cancel")]
        | Annotated[ClientAck, Tag("ack")]
        | Annotated[ClientTyping, Tag("typing")]
        | Annotated[ClientAuth, Tag("auth")]
        | Annotated[ClientPing, Tag("ping")],
        Discriminator(_type_of),
    ]
)


def parse(frame: str | bytes) -> Command | Invalid:
    """Read one client frame. Never raises, whatever the bytes: what is no command is described by `Invalid`."""
    try:
        return _COMMAND.validate_json(frame)
    except ValidationError as error:
        return _invalid(frame, error)


def _invalid(frame: str | bytes, error: ValidationError) -> Invalid:
    first = error.errors(include_url=False, include_input=False)[0]
    kind, context, reason = first["type"], first.get("ctx", {}), first["msg"]
    body = _read(frame)
    field = str(first["loc"][1]) if len(first["loc"]) > 1 else "type"
    if kind == "json_invalid":
        field, reason = "frame", "is not JSON"
    elif not isinstance(body, dict):
        field, kind, reason = "frame", "not_object", "must be a JSON object"
    elif kind.startswith("union_tag"):
        kind, reason = "unknown_type", "is not a known frame type"
    return Invalid(_message_id_of(body), field, kind, context, reason[:1].lower() + reason[1:])


def _read(frame: str | bytes) -> Any:
    try:
        return pydantic_core.from_json(frame)
    except ValueError:
        return None


def _message_id_of(body: Any) -> str:
    message_id = body.get("message_id") if isinstance(body, dict) else None
    readable = isinstance(message_id, str) and 0 < len(message_id) <= MAX_ID_CHARS and message_id.isprintable()
    return message_id if readable and isinstance(message_id, str) else "unknown"
