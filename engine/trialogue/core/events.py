"""What a log holds and what connections are told, as plain values; `dialects.py` knows how they look on the wire.

Each event of a log takes one offset, except `Tokens`, which takes one per token: a batch that became ready together
stays together, so that nothing is paid per token but its bytes. Events are immutable; dialects keep their encodings
beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from trialogue.core.errors import Fault
from trialogue.core.machine import Policy, Upstream

Source = dict[str, Any]
Phase = Literal["queued", "waiting", "retrieving", "generating", "pipeline"]


@dataclass(frozen=True, slots=True)
class UserMessage:
    """The accepted message itself. `options` are the service's and stay off the wire, as does `timestamp`.

    `timestamp`: when it was accepted, as `Started`'s.
    """

    message_id: str
    content: str
    on_busy: Policy
    options: Mapping[str, Any] = field(default_factory=dict)
    timestamp: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """A turn has begun. `timestamp`: UTC, ISO 8601 with `Z`."""

    message_id: str
    session_id: str
    timestamp: str


@dataclass(slots=True)
class Tokens:
    """Tokens `index`, `index + 1`, … of a turn. Never empty; no text is empty.

    Immutable like the others, but not frozen: made once per batch, and a frozen dataclass takes 0.7 µs longer to make.
    """

    message_id: str
    index: int
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Sources:
    """What the answer rests on; each has title, score and content_preview."""

    message_id: str
    sources: Sequence[Source]


@dataclass(frozen=True, slots=True)
class Status:
    """Where a turn stands. `extra` holds the wire's further keys: place, data, session_id."""

    message_id: str
    phase: Phase
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """A turn's end without a fault. `meta` is what the pipeline's `done` told."""

    message_id: str
    finish_reason: str
    total_tokens: int
    processing_time_ms: int
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """A turn's end with a fault (in a log), or a refusal (in a reply)."""

    message_id: str
    fault: Fault
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """How much of a turn was generated, sent, seen (token counts), and what became of its upstream.

    `sent` is the furthest of all connections, `acked` the furthest index + 1 that any of them acknowledged, None if
    nobody acks. `chars`: characters of the tokens that were sent.
    """

    message_id: str
    generated: int
    sent: int
    acked: int | None
    chars: int
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Fenced:
    """The first entry of an epoch: from here on `node` owns the session, and nothing of a former owner follows.

    Of no turn, and told to nobody; but positions are of its epoch from here on. `fresh`: it made its stream, so what
    somebody may have had of the session before is gone from the store.
    """

    message_id: ClassVar[str] = ""
    epoch: int
    node: str
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Remembered:
    """An ended turn that may be trimmed: its message's digest, and its end."""

    digest: bytes
    ending: Ended | Failed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What of the entries before it is to be remembered when they are trimmed. Of no turn, and told to nobody.

    `turns`: ended ones, the oldest first. `confirmed_id`: the session's id as the service has it, None: not told.
    """

    message_id: ClassVar[str] = ""
    turns: Sequence[Remembered]
    confirmed_id: str | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """An application's frame for everybody on all nodes. It stands in a stream of its own, in no session's."""

    message_id: ClassVar[str] = ""
    body: Mapping[str, Any]


Event = UserMessage | Started | Tokens | Sources | Status | Ended | Failed | Receipt | Fenced | Snapshot | Announced


def width(event: Event) -> int:
    """How many offsets of a log it takes."""
    return len(event.texts) if type(event) is Tokens else 1


# ── Replies: for one connection, never in a log ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ready:
    """The first frame of a `trialogue.v1` connection; the fields are the wire's."""

    session_id: str
    position: str
    resumed: Literal["new", "attached", "replayed", "gap"]
    running: str | None
    queued: Sequence[str]
    connections: int
    limits: Mapping[str, int]
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The session's id as the service has it, and the turn of which the pipeline has told its metadata (None: of none).

    No event: metadata may say nothing that is worth one, and who waits for it all the same has to hear that it came.
    """

    message_id: str | None
    session_id: str


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What became of a cancel."""

    message_id: str | None
    outcome: Literal["cancelled", "already_ended", "unknown"]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The message id was known: nothing is generated."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Presence:
    """How many connections the session has now."""

    connections: int


@dataclass(frozen=True, slots=True)
class Typing:
    """Another connection's user is typing, or has stopped."""

    active: bool


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping, with its id."""

    id: str | int | None


@dataclass(frozen=True, slots=True)
class Goaway:
    """A planned close follows."""

    reason: str
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Custom:
    """An application's own frame: any JSON object, in every dialect."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replay:
    """An ended turn's events, for one who was not there; one reply, however many frames it makes."""

    events: Sequence[Event]


Reply = (
    Replay | Failed | Ready | Confirmed | CancelResult | Duplicate | Presence | Typing | Pong | Goaway | Custom | Event
)
