"""The port to a store that many nodes share: sessions' streams, who owns them, and letters from node to node.

It knows keys, positions and events; nothing of sessions, connections or of how a store keeps them. Nothing here
blocks the engine: what is synchronous only queues, what is async is never called while a session handles an input.

Two rules make it safe. Ids of a stream only grow, and each owner writes in a greater epoch than the last: once a new
owner has written its fence, an old one's append is refused by the store itself. And only `claim` makes a stream, so
an append never brings one back that was wiped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import NamedTuple, Protocol

from trialogue.core.events import Event
from trialogue.core.letters import Letter
from trialogue.log import Position

Key = tuple[str, str]
"""(principal, session id)."""


class Stored(NamedTuple):
    """An event as a stream holds it: of a `Tokens`, `offset` is its first token's. A `Fenced` carries its own epoch."""

    epoch: int
    offset: int
    event: Event


class Verdict(Enum):
    """What became of an append."""

    WRITTEN = "written"
    STALE = "stale"
    """Refused: somebody else has claimed the session since."""
    WIPED = "wiped"
    """The stream is gone: flushed, evicted or expired."""
    UNREACHABLE = "unreachable"
    """Not known to be written: the store did not answer in time, or this node may not write any more."""


class Lane(Protocol):
    """What one owner of a session has to append. The store takes it when it is about to write, not before: all that
    has come by then goes in one entry, and nobody queues a token."""

    @property
    def key(self) -> Key: ...

    def take(self) -> tuple[int, int, Sequence[Event]] | None:
        """An epoch, the first event's offset in it, and all events that wait; None if none does.

        Not called again until the verdict on them is told.
        """

    def judge(self, verdict: Verdict) -> None:
        """What became of what was taken last; if it is not WRITTEN, of all that waits, too. Must not raise."""


class Claim(NamedTuple):
    """Who owns a session now. If this node does, `fence` is where its `Fenced` stands; else it is None.

    `made`: there was no stream, or an empty one.
    """

    owner: str
    fence: Position | None = None
    made: bool = False


class StoreGone(Exception):
    """The store did not answer within its deadline, or refused. Nothing is known of what it did."""


class Heed(Protocol):
    """What a store tells the engine, from the Trio thread. No method may block or raise."""

    def received(self, letter: Letter) -> None:
        """A letter for this node."""

    def node_gone(self, node: str) -> None:
        """A node that was watched has no lease any more. Told once; it is watched no longer."""

    def store_gone(self) -> None:
        """Nothing was acknowledged for two seconds. Every append under way has had its verdict (UNREACHABLE)."""

    def store_back(self) -> None:
        """It answers again, and this node has a lease. `node` may be another than before."""

    def lease_lost(self) -> None:
        """This node was too late to renew its lease (it was stopped, for one), or found it gone: others may own its
        sessions by now.

        Appends under way have had their verdict (UNREACHABLE). `store_back` follows, with another `node`.
        """


class Store(Protocol):
    """What the engine asks of a shared store."""

    @property
    def node(self) -> str:
        """This node's name in the store: one incarnation's, another after each lost lease."""

    @property
    def reachable(self) -> bool:
        """Does it answer, and may this node write?"""

    def open(self, heed: Heed) -> AbstractAsyncContextManager[None]:
        """Connect, take a lease, and serve for the length of the block. On leaving, what is queued is written (for a
        second at most) and the lease is given back. Raises StoreGone if it can't be reached at the start."""

    # Streams. Synchronous: queued, and sent with what else is ready in one round trip.

    def append(self, lane: Lane, within: float) -> None:
        """Write what the lane holds, and what it is given until then, `within` so many seconds; sooner, if the lane is
        named again with less. What is taken is judged once; so is a lane that was never taken from, if this node may
        not write any more. Neither happens before this returns."""

    def trim(self, key: Key, before: Position) -> None:
        """Let go of what stands before that. A hint: nothing is told of it."""

    def touch(self, key: Key, ttl: float) -> None:
        """This session is to live for so many seconds, unless it is touched again: its stream and its owner."""

    def release(self, key: Key) -> None:
        """Nobody owns the session any more, if this node does."""

    def delete(self, key: Key) -> None:
        """The session's stream goes, and its owner if that is this node. The floor of its epochs stays."""

    # Streams. All raise StoreGone; cancelled: it may have been done.

    async def owner(self, key: Key) -> str | None:
        """Who owns the session: maybe a node that is gone. None: nobody."""

    async def alive(self, node: str) -> bool:
        """Has that node a lease?"""

    async def claim(self, key: Key, expected: str | None, known: Position) -> Claim:
        """Own the session, if nobody does, or `expected` (a node that is gone), or this node already.

        If so, its fence is written, and nothing of another owner can be after that: in an epoch that is greater than
        every former one and than `known.epoch`, at the offset after the stream's last; of a stream that is made by
        this, at `known.offset`.
        """

    async def read(self, key: Key, after: Position | None = None) -> list[Stored]:
        """What the stream holds, from `after` on (an entry that begins there is part of it; one that holds it, too)."""

    def follow(self, key: Key, after: Position, deliver: Callable[[Sequence[Stored]], None]) -> None:
        """Hand over what comes at `after` or behind it, in order, until `unfollow`. `deliver` must not block or raise.

        One blocking reader serves all streams that this node follows. A stream that is wiped is silent.
        """

    def unfollow(self, key: Key) -> None:
        """Idempotent. Nothing is delivered after this."""

    # Nodes.

    def watch(self, node: str) -> None:
        """Tell when that node has no lease any more (within half a second of its end). Idempotent."""

    def send(self, node: str, letter: Letter) -> None:
        """Put a letter into a node's inbox, in the same order as others to it. It may be lost with the store, or with
        the node."""
