"""The frames that servers send, as pydantic models: the schema of both dialect families, with an example of each.

The seed's five events are `protocol.py`'s; here is what `trialogue.v1` makes of them and adds. Nothing is sent through
these models (`dialects.py` writes the bytes, and a test holds every frame of it to them): they are what the AsyncAPI
document and the TypeScript declarations are made from, so a key that is missing here is missing there.

A field with the default None may be absent and is never null on the wire.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trialogue.core.machine import Policy, Upstream
from trialogue.core.protocol import (
    StreamEndEvent,
    StreamErrorEvent,
    StreamSourcesEvent,
    StreamStartEvent,
    StreamTokenEvent,
)

Examples = list[dict[str, Any]]


def _like(*examples: dict[str, Any]) -> ConfigDict:
    shown: Examples = list(examples)
    return ConfigDict(json_schema_extra={"examples": shown})  # type: ignore[dict-item]


class Source(BaseModel):
    """One thing that an answer rests on; whatever else the pipeline told of it is there too."""

    model_config = ConfigDict(extra="allow")

    title: str
    score: Any = Field(description="A number, or whatever the pipeline ranks by; null where it does not rank.")
    content_preview: str


class _Entry(BaseModel):
    """What is in the session's log, and so has a place there."""

    offset: int | None = Field(
        None, ge=0, description="The position after it: what to resume from. Absent from what is said to one asker."
    )
    epoch: int | None = Field(None, ge=0, description="The log's number, told when it changes.")


# ── The five events ──────────────────────────────────────────────────────────────────────────────────────────────


class StreamStart(_Entry, StreamStartEvent):
    """A turn has begun. Told again with the same `timestamp`, it is the same answer from its start."""

    model_config = _like(
        {
            "type": "stream_start",
            "message_id": "m1",
            "session_id": "s1",
            "timestamp": "2026-01-16T10:00:00Z",
            "offset": 2,
        }
    )


class StreamToken(_Entry, StreamTokenEvent):
    """One token; `index` counts 0, 1, 2… without a hole."""

    model_config = _like({"type": "stream_token", "message_id": "m1", "token": "안녕", "index": 0, "offset": 6})


class StreamSources(_Entry, StreamSourcesEvent):
    """What the answer rests on."""

    model_config = _like(
        {
            "type": "stream_sources",
            "message_id": "m1",
            "sources": [{"title": "handbook.md", "score": 0.95, "content_preview": "How it works", "page": 3}],
            "offset": 4,
        }
    )

    sources: list[Source]  # type: ignore[assignment]


class StreamEnd(_Entry, StreamEndEvent):
    """A turn's end; `total_tokens` counts its token events."""

    model_config = _like(
        {
            "type": "stream_end",
            "message_id": "m1",
            "total_tokens": 150,
            "processing_time_ms": 2500,
            "finish_reason": "stop",
            "meta": {"usage": {"completion_tokens": 150}},
            "offset": 156,
        }
    )

    meta: dict[str, Any] | None = Field(None, description="What the pipeline's `done` told.")


class StreamError(_Entry, StreamErrorEvent):
    """A turn's failed end, or (without `offset`) a refusal. `solutions` is never empty."""

    model_config = _like(
        {
            "type": "stream_error",
            "message_id": "m1",
            "error_code": "WS-003",
            "message": "Another answer is being worked on.",
            "solutions": ["Send it again when the answer has ended.", "Or cancel the running answer."],
            "retry_after_ms": 1000,
        }
    )


# ── What trialogue.v1 adds: entries ──────────────────────────────────────────────────────────────────────────────


class UserMessage(_Entry):
    """The accepted message itself: a second device sees the question."""

    model_config = _like(
        {"type": "user_message", "message_id": "m1", "content": "What is Trio?", "on_busy": "interrupt", "offset": 1}
    )

    type: Literal["user_message"]
    message_id: str
    content: str
    on_busy: Policy


class StreamStatus(_Entry):
    """Where a turn stands. `duplicate` is a reply: the id was known, nothing is generated."""

    model_config = _like(
        {"type": "stream_status", "message_id": "m2", "phase": "queued", "place": 1, "offset": 9},
        {"type": "stream_status", "message_id": "m1", "phase": "pipeline", "data": {"event": "rerank"}, "offset": 5},
        {"type": "stream_status", "message_id": "m1", "phase": "duplicate"},
    )

    type: Literal["stream_status"]
    message_id: str
    phase: Literal["queued", "waiting", "retrieving", "generating", "pipeline", "duplicate"]
    place: int | None = Field(None, ge=1, description="With `queued`: 1 is the next.")
    data: Any = Field(None, description="With `pipeline`: the pipeline's own event.")
    session_id: str | None = Field(None, description="The id that the service has confirmed for this session.")
    waits_for: Literal["capacity"] | None = Field(
        None, alias="for", description="With `waiting`: for a place among all generations, not for the turn before."
    )


class StreamReceipt(_Entry):
    """What became of a turn, in counts of tokens, once it is true; it may come after the next turn has begun."""

    model_config = _like(
        {
            "type": "stream_receipt",
            "message_id": "m1",
            "generated": 150,
            "sent": 150,
            "acked": 142,
            "chars": 612,
            "upstream": "closed",
            "offset": 157,
        }
    )

    type: Literal["stream_receipt"]
    message_id: str
    generated: int = Field(ge=0)
    sent: int = Field(ge=0, description="The furthest of all connections.")
    acked: int | None = Field(ge=0, description="The furthest index + 1 that was acknowledged; null if nobody acks.")
    chars: int = Field(ge=0, description="Characters of the tokens that were sent.")
    upstream: Upstream = Field(description="`abandoned`: it did not close within the server's `stop_grace`.")


# ── What trialogue.v1 adds: replies, for one connection ──────────────────────────────────────────────────────────


class ServerLimits(BaseModel):
    """What the server takes."""

    model_config = ConfigDict(extra="allow")

    content_chars: int
    frame_bytes: int
    queue: int


class SessionReady(BaseModel):
    """The first frame. `position` stands just before the first entry that will be sent."""

    model_config = _like(
        {
            "type": "session_ready",
            "session_id": "s1",
            "position": "1760000000000:0",
            "resumed": "new",
            "running": None,
            "queued": [],
            "connections": 1,
            "limits": {"content_chars": 10000, "frame_bytes": 65536, "queue": 8},
            "heartbeat_s": 20.0,
        }
    )

    type: Literal["session_ready"]
    session_id: str
    position: str = Field(pattern=r"^[0-9]+:[0-9]+$")
    resumed: Literal["new", "attached", "replayed", "gap"]
    running: str | None = Field(description="The message id of the turn that runs.")
    queued: list[str]
    connections: int
    limits: ServerLimits
    heartbeat_s: float


class CancelResult(BaseModel):
    """What became of a cancel, after the turn's end; never an error."""

    model_config = _like({"type": "cancel_result", "message_id": "m1", "outcome": "cancelled"})

    type: Literal["cancel_result"]
    message_id: str | None
    outcome: Literal["cancelled", "already_ended", "unknown"]


class Presence(BaseModel):
    """How many connections the session has now."""

    model_config = _like({"type": "presence", "connections": 2})

    type: Literal["presence"]
    connections: int


class Typing(BaseModel):
    """Another connection's user is typing, or has stopped."""

    model_config = _like({"type": "typing", "active": True})

    type: Literal["typing"]
    active: bool


class Pong(BaseModel):
    """The answer to a ping, with its id. In every dialect: whoever asks is answered."""

    model_config = _like({"type": "pong", "id": "p1"})

    type: Literal["pong"]
    id: str | int | None


class Goaway(BaseModel):
    """A planned close follows."""

    model_config = _like({"type": "goaway", "reason": "drain", "retry_after_ms": 1500})

    type: Literal["goaway"]
    reason: str = Field(description="`drain`: the server is about to restart. `expired`: the credential has.")
    retry_after_ms: int


SEED_FRAMES: tuple[type[BaseModel], ...] = (
    StreamStartEvent,
    StreamTokenEvent,
    StreamSourcesEvent,
    StreamEndEvent,
    StreamErrorEvent,
    Pong,
)
"""What a connection without the subprotocol is sent."""

V1_FRAMES: tuple[type[BaseModel], ...] = (
    SessionReady,
    UserMessage,
    StreamStart,
    StreamStatus,
    StreamSources,
    StreamToken,
    StreamEnd,
    StreamError,
    StreamReceipt,
    CancelResult,
    Presence,
    Typing,
    Pong,
    Goaway,
)
"""What a `trialogue.v1` connection is sent."""
