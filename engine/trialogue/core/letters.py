"""What nodes write to each other about a session, as plain values: commands to its owner, replies to its clients.

A letter is small, may be lost with the node or the store that it is under way to, and is never about tokens: those are
in the stream. `key` is (principal, session id), `sender` the node that wrote it, `client` the number that a connection
(an errand, if negative) has at the node that it is connected to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trialogue.core.errors import CloseCode
from trialogue.core.events import Goaway, Reply
from trialogue.core.machine import Turn

# ── To the owner ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Attach:
    """A client has come to the sender. Written again whenever the owner changes; whoever knows it ignores it.

    Args:
        start: the offset from which it follows the log.
        told: the number of connections that its greeting told it.
    """

    key: tuple[str, str]
    sender: str
    client: int
    start: int
    told: int


@dataclass(frozen=True, slots=True)
class Detach:
    """A client has gone: on purpose (`stop`), or lost."""

    key: tuple[str, str]
    sender: str
    client: int
    stop: bool


@dataclass(frozen=True, slots=True)
class AskSubmit:
    """A client sent a message. Written again until it is answered: the message id makes it one."""

    key: tuple[str, str]
    sender: str
    client: int
    turn: Turn


@dataclass(frozen=True, slots=True)
class AskCancel:
    """A client (or an errand) wants a turn stopped; None: all of them."""

    key: tuple[str, str]
    sender: str
    client: int
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A client has shown tokens of a turn up to `index`."""

    key: tuple[str, str]
    sender: str
    client: int
    message_id: str
    index: int


@dataclass(frozen=True, slots=True)
class Types:
    """A client's user is typing, or has stopped."""

    key: tuple[str, str]
    sender: str
    client: int
    active: bool


@dataclass(frozen=True, slots=True)
class Postpone:
    """The replay of this turn came too late to a client: it is to come again, after the turn that runs."""

    key: tuple[str, str]
    sender: str
    client: int
    message_id: str


@dataclass(frozen=True, slots=True)
class Count:
    """An errand asks how many connections the session has, on all nodes."""

    key: tuple[str, str]
    sender: str
    client: int


@dataclass(frozen=True, slots=True)
class Hand:
    """An application's frame for all connections of the session."""

    key: tuple[str, str]
    sender: str
    client: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """Somebody wants the session forgotten."""

    key: tuple[str, str]
    sender: str
    client: int


# ── To the node of a client ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Tell:
    """A reply for a client, once it has been sent everything before `offset` in the log of epoch `epoch`."""

    key: tuple[str, str]
    sender: str
    client: int
    epoch: int
    offset: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class Dismiss:
    """A client is to be closed, once it has been sent everything before `offset` in the log of epoch `epoch`."""

    key: tuple[str, str]
    sender: str
    client: int
    epoch: int
    offset: int
    code: CloseCode
    reason: str
    goaway: Goaway | None


@dataclass(frozen=True, slots=True)
class Counted:
    """What an errand asked (`Count`, `Hand`, `Delete`) is done; so many connections the session had then."""

    key: tuple[str, str]
    sender: str
    client: int
    connections: int


@dataclass(frozen=True, slots=True)
class NotMine:
    """The sender does not own the session (any more): ask the store who does."""

    key: tuple[str, str]
    sender: str


Inquiry = Count | Hand | Delete
"""What is answered with `Counted`, or with `NotMine` if it was not done."""

ForOwner = Attach | Detach | AskSubmit | AskCancel | Shown | Types | Postpone | Inquiry

Letter = ForOwner | Tell | Dismiss | Counted | NotMine
