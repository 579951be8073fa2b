"""A session's log: its entries in order, and the followers that read it. The log is the outbox.

The session only appends; each connection follows from its own position at its own pace, so live delivery, resume, a
second device and a slow reader are one mechanism. Appending pokes the followers synchronously: no task is woken and no
queue is filled per token. Where the entries are kept is a log's own business (`memory_log.py`: here).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from trialogue.core.events import Event, Snapshot, Tokens

Entry = tuple[int, Event]
"""An event with its offset (of a `Tokens`: its first token's)."""

Poke = Callable[[Sequence[Entry]], bool]
"""Called for every append: with the new entries when the follower has kept up (True: it took them, and is past them),
else with none (`take` tells what it lacks). Must neither block nor raise."""


class Position(NamedTuple):
    """A place in a log, *between* entries: everything before `offset` is behind it.

    An offset alone would lie: a restarted server counts from 0 again. The epoch grows with every log of a session, so
    positions are ordered across restarts and a stranger's is recognised.
    """

    epoch: int
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read `epoch:offset`, two plain decimal numbers. Raises ValueError naming what is wrong."""
        epoch, colon, offset = text.partition(":")
        numbers = (epoch, offset)
        if not colon or not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in numbers):
            raise ValueError("must be <epoch>:<offset>, two decimal numbers")
        return cls(int(epoch), int(offset))


class Gap(Exception):
    """The entries after a follower's position are trimmed."""


class Log(Protocol):
    """What the engine asks of a log. Offsets `start` to `end` are kept; followers may read up to `committed`.

    A log in memory commits at once; a shared one when its store has acknowledged, so that write-ahead needs no second
    design.
    """

    @property
    def epoch(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def committed(self) -> int: ...

    def position(self, offset: int) -> Position:
        """The position there."""

    def covers(self, position: Position) -> bool:
        """Is it a position of this log, and is everything after it kept?"""

    def after(self, call: Callable[[], None], lost: Callable[[], None] = lambda: None) -> None:
        """Call `call` once all that is in the log now is committed: at once, if it is.

        `lost` is called instead if it turns out that it can't be. Neither may raise.
        """

    def remember(self, snapshot: Callable[[], Snapshot]) -> None:
        """Entries may go for good now: what is to be remembered of those that are trimmed is in that snapshot."""

    def sent_up_to(self, offset: int) -> int:
        """Where that begins, from `offset` on, which no follower has taken; asked of turns that are not settled."""

    def extend(self, events: Sequence[Event]) -> int:
        """Append, and poke the followers. Returns the first event's offset."""

    def append_tokens(self, tokens: Tokens, size: int) -> None:
        """As `extend` with these alone; `size`: bytes of their text."""

    def settle(self, floor: int | None) -> None:
        """Every turn before offset `floor` (None: every turn) is settled: it is kept compact, and may be trimmed."""

    def shed(self) -> None:
        """Let go of all settled turns."""

    def close(self) -> None:
        """It will not be used again: it counts for nothing any more."""

    def follow(self, offset: int, poke: Poke) -> Follower:
        """Read from `offset` (clamped to what is kept)."""

    def unfollow(self, follower: Follower) -> None:
        """Poke it no more. Idempotent."""

    def read(self, start: int, end: int) -> list[Entry]:
        """The entries from `start` up to, not including, `end`. Raises Gap if they are not all kept."""

    def read_from(self, start: int, end: int, hint: int) -> tuple[list[Entry], int]:
        """As `read`, for a follower: `hint` is what its last read returned beside the entries (0 before the first)."""

    def advanced(self, start: int, end: int) -> None:
        """A follower has taken what lies between."""

    def has_room(self, window: int) -> bool:
        """Is the end less than `window` entries ahead of the fastest follower, or is there none?"""

    async def room(self, window: int) -> None:
        """Wait for `has_room`. Cancelled: nothing has changed. Always a checkpoint if it has to wait."""


class Follower:
    """A reader of a log: a position that only grows, and the poke that tells of more."""

    __slots__ = ("_hint", "_log", "poke", "position")

    def __init__(self, log: Log, offset: int, poke: Poke) -> None:
        self._log = log
        self._hint = 0
        self.position = offset
        self.poke = poke

    def __repr__(self) -> str:
        return f"<Follower at {self.position}, {self.behind} behind>"

    @property
    def behind(self) -> int:
        """Committed entries that this follower has not taken."""
        return self._log.committed - self.position

    def take(self, limit: int) -> list[Entry]:
        """Take the next entries, at most about `limit` of them, and advance. Raises Gap if they are trimmed."""
        end = min(self._log.committed, self.position + limit)
        if end == self.position:
            return []
        entries, self._hint = self._log.read_from(self.position, end, self._hint)
        start, self.position = self.position, end
        self._log.advanced(start, end)
        return entries

    def close(self) -> None:
        """Stop following. Idempotent."""
        self._log.unfollow(self)
