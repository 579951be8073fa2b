"""A session's log: its entries in order, and the followers that read it. The log is the outbox.

The session only appends; each connection follows from its own position at its own pace, so live delivery, resume, a
second device and a slow reader are one mechanism. Appending pokes the followers synchronously: no task is woken and no
queue is filled per token. What no unfinished turn needs is trimmed, oldest first, past a bound in bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import trio

from trialogue.core.dialects import dump
from trialogue.core.events import Ended, Event, Sources, Status, Tokens, UserMessage

Entry = tuple[int, Event]
"""An event with its offset (of a `Tokens`: its first token's)."""

Poke = Callable[[Sequence[Entry]], bool]
"""Called for every append: with the new entries when the follower has kept up (True: it took them, and is past them),
else with none (`take` tells what it lacks). Must neither block nor raise."""

EVENT_BYTES = 256
"""What an event counts for in a log's size beside what it carries: an estimate of the object itself."""

TOKEN_BYTES = 64
"""What a token counts for beside its text."""


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

    epoch: int
    floor: int | None
    """The first offset that must not be trimmed (the oldest unsettled turn's), None if all may be."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def committed(self) -> int: ...
    @property
    def furthest(self) -> int:
        """The furthest offset that any follower ever reached: what lies before it was sent to somebody."""

    def extend(self, events: Sequence[Event]) -> int:
        """Append, and poke the followers. Returns the first event's offset."""

    def append_tokens(self, tokens: Tokens, size: int) -> None:
        """As `extend` with these alone; `size`: bytes of their text."""

    def follow(self, offset: int, poke: Poke) -> Follower:
        """Read from `offset` (clamped to what is kept)."""

    def read(self, start: int, end: int) -> list[Entry]:
        """The entries from `start` up to, not including, `end`. Raises Gap if they are not all kept."""

    def has_room(self, window: int) -> bool:
        """Is the end less than `window` entries ahead of the fastest follower, or is there none?"""

    async def room(self, window: int) -> None:
        """Wait for `has_room`. Cancelled: nothing has changed. Always a checkpoint if it has to wait."""


class Follower:
    """A reader of a log: a position that only grows, and the poke that tells of more."""

    __slots__ = ("_log", "_run", "poke", "position")

    def __init__(self, log: MemoryLog, offset: int, poke: Poke) -> None:
        self._log = log
        self._run = 0
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
        entries, self._run = self._log.read_from(self.position, end, self._run)
        self.position = end
        self._log.advanced(end)
        return entries

    def close(self) -> None:
        """Stop following. Idempotent."""
        self._log.unfollow(self)


class _Run:
    """A piece of a log: one event, or successive tokens of a turn in one list (not an object per token)."""

    __slots__ = ("count", "event", "offset", "texts")

    def __init__(self, offset: int, event: Event) -> None:
        self.offset = offset
        self.event = event
        self.texts: list[str] = list(event.texts) if isinstance(event, Tokens) else []
        self.count = len(self.texts) or 1

    def joins(self, tokens: Tokens) -> bool:
        """Take the tokens in, if they go on where this run ends."""
        mine = self.event
        if type(mine) is not Tokens or mine.message_id != tokens.message_id or mine.index + self.count != tokens.index:
            return False
        self.texts += tokens.texts
        self.count = len(self.texts)
        return True

    def part(self, start: int, end: int) -> Entry:
        """The entry from offset `start` up to `end`, both clamped to this run."""
        event = self.event
        if type(event) is not Tokens:
            return self.offset, event
        skip = max(0, start - self.offset)
        texts = self.texts[skip : end - self.offset]
        return self.offset + skip, Tokens(event.message_id, event.index + skip, texts)


def _size(event: Event) -> int:
    """About how many bytes an event other than tokens takes: what clients and pipelines put into it counts too."""
    match event:
        case UserMessage(content=content, options=options):
            return EVENT_BYTES + len(content) + (len(dump(options)) if options else 0)
        case Sources(sources=carried) | Status(extra=carried) | Ended(meta=carried):
            return EVENT_BYTES + (len(dump(carried)) if carried else 0)
        case _:
            return EVENT_BYTES


class MemoryLog:
    """A log in this process: commits at once, keeps about `keep_bytes` of what is not pinned by `floor`."""

    __slots__ = (
        "_dropped",
        "_end",
        "_fastest",
        "_followers",
        "_keep_bytes",
        "_runs",
        "_sizes",
        "_start",
        "_waiting",
        "epoch",
        "floor",
        "furthest",
        "size",
    )

    def __init__(self, epoch: int, keep_bytes: int) -> None:
        self.epoch = epoch
        self.floor: int | None = None
        self.furthest = 0
        self.size = 0
        self._keep_bytes = keep_bytes
        self._runs: list[_Run] = []
        self._sizes: list[int] = []
        self._dropped = 0  # runs trimmed so far: a run's number minus this is its index
        self._start = 0
        self._end = 0
        self._followers: tuple[Follower, ...] = ()
        self._fastest = 0  # the position of the follower that is furthest now
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return (
            f"<MemoryLog {self.epoch}:{self._start}-{self._end}, {self.size} bytes, {len(self._followers)} followers>"
        )

    @property
    def start(self) -> int:
        return self._start

    @property
    def end(self) -> int:
        return self._end

    @property
    def committed(self) -> int:
        return self._end

    # Writing.

    def extend(self, events: Sequence[Event]) -> int:
        first = self._end
        entries: list[Entry] = []
        for event in events:
            entries.append((self._end, event))
            if isinstance(event, Tokens):
                self._keep_tokens(event, sum(map(len, event.texts)))
            else:
                self._keep(_Run(self._end, event), _size(event))
        self._tell(first, entries)
        return first

    def append_tokens(self, tokens: Tokens, size: int) -> None:
        """Hot: called per batch of tokens."""
        first = self._end
        self._keep_tokens(tokens, size)
        self._tell(first, ((first, tokens),))

    def _keep_tokens(self, tokens: Tokens, size: int) -> None:
        size += TOKEN_BYTES * len(tokens.texts)
        if self._runs and self._runs[-1].joins(tokens):
            self._sizes[-1] += size
            self.size += size
            self._end += len(tokens.texts)
        else:
            self._keep(_Run(self._end, tokens), size)

    def _keep(self, run: _Run, size: int) -> None:
        self._runs.append(run)
        self._sizes.append(size)
        self.size += size
        self._end += run.count

    def _tell(self, first: int, entries: Sequence[Entry]) -> None:
        """Poke the followers: those that have kept up take the entries as they are."""
        if self.size > self._keep_bytes:
            self._trim()
        end = self._end
        for follower in self._followers:
            if follower.position != first:
                follower.poke(())
            elif follower.poke(entries):
                follower.position = end
                self.furthest = self._fastest = end

    def _trim(self) -> None:
        """Drop whole runs from the front, down to three quarters of the bound: not on each append, then."""
        floor = self._end if self.floor is None else self.floor
        surplus, drop = self.size - self._keep_bytes * 3 // 4, 0
        while surplus > 0 and drop < len(self._runs) and self._runs[drop].offset + self._runs[drop].count <= floor:
            surplus -= self._sizes[drop]
            self.size -= self._sizes[drop]
            drop += 1
        if drop:
            del self._runs[:drop], self._sizes[:drop]
            self._dropped += drop
            self._start = self._runs[0].offset if self._runs else self._end

    # Reading.

    def follow(self, offset: int, poke: Poke) -> Follower:
        follower = Follower(self, max(self._start, min(offset, self._end)), poke)
        self._followers = (*self._followers, follower)
        self._fastest = max(self._fastest, follower.position)
        self._waiting.unpark_all()
        return follower

    def unfollow(self, follower: Follower) -> None:
        if follower in self._followers:
            self._followers = tuple(other for other in self._followers if other is not follower)
            self._fastest = max((other.position for other in self._followers), default=0)
            self._waiting.unpark_all()

    def advanced(self, offset: int) -> None:
        """A follower has taken what lies before `offset`."""
        if offset > self.furthest:
            self.furthest = offset
        if offset > self._fastest:
            self._fastest = offset
        if self._waiting:
            self._waiting.unpark_all()

    def read(self, start: int, end: int) -> list[Entry]:
        return self.read_from(start, end, 0)[0]

    def read_from(self, start: int, end: int, hint: int) -> tuple[list[Entry], int]:
        """As `read`; `hint` is the number of the run that the last read ended in, returned for the next one."""
        if start < self._start:
            raise Gap(f"offset {start} is trimmed; the log starts at {self._start}")
        index = self._locate(start, hint - self._dropped)
        entries: list[Entry] = []
        while start < end:
            run = self._runs[index]
            entries.append(run.part(start, end))
            start = run.offset + run.count
            index += 1
        return entries, self._dropped + index - 1

    def _locate(self, offset: int, hint: int) -> int:
        """The index of the run that holds `offset`: the hinted one or its successor, for a follower that keeps up."""
        for index in (hint, hint + 1):
            if 0 <= index < len(self._runs):
                run = self._runs[index]
                if run.offset <= offset < run.offset + run.count:
                    return index
        return bisect_right(self._runs, offset, key=lambda run: run.offset) - 1

    # Backpressure.

    def has_room(self, window: int) -> bool:
        return self._end - self._fastest < window or not self._followers

    async def room(self, window: int) -> None:
        while not self.has_room(window):
            await self._waiting.park()
