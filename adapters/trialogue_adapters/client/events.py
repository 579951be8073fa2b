"""What a chat tells beside its own turns' tokens: its connection, other people's turns, presence. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trialogue_adapters.client.turn import Turn

Resumed = Literal["new", "attached", "replayed", "gap"]


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection is there again. `resumed` as in `session_ready`; after a `gap` something may be missing."""

    resumed: Resumed


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection has ended; the next one is tried in `retry_in` seconds (see `Chat.retry_now`)."""

    code: int
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody else has asked something in this session, or had when we came. The turn is iterated like an own one."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Presence:
    """How many connections the session has now."""

    connections: int


@dataclass(frozen=True, slots=True)
class Typing:
    """Somebody else's user is typing, or has stopped."""

    active: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A frame that belongs to no turn that we know: an application's own, or a refusal of a frame without an id."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Missed:
    """Whoever iterates was too slow: so many events before the next one were thrown away."""

    count: int


Event = Connected | Disconnected | Asked | Presence | Typing | Notice | Missed
