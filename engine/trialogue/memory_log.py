"""The log in this process: what runs is kept as it came, what has ended is kept compact, and the oldest is trimmed.

Successive tokens of a turn are one run: no object per token but its text. Once the turn is settled, or the run is full,
its texts become one string with the tokens' ends beside it: 200 tokens of 5 characters take 2 KB then, and 13 before.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import trio

from trialogue.core.dialects import dump
from trialogue.core.events import Ended, Event, Snapshot, Sources, Status, Tokens, UserMessage
from trialogue.log import Entry, Follower, Gap, Poke, Position

EVENT_BYTES = 256
"""What an event counts for in a log's size beside what it carries: an estimate of the object itself."""

TOKEN_BYTES = 64
"""What a token counts for beside its text, while its turn is not settled: a string and its place in a list."""

COUNT_BYTES = 16 * 1024
"""A running turn is counted in steps of so many bytes: no token calls anybody for that."""

PACKED_BYTES = 4
"""What it counts for afterwards: its end in the turn's text."""


RUN_TOKENS = 256
"""Tokens of one run. The one that is full is packed while its turn still runs: a long answer, and most of all one that
somebody does not read, takes a sixth of the memory for 0.1 µs per token."""


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
        if self.count >= RUN_TOKENS:
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


class _PackedRun:
    """Successive tokens of a settled turn."""

    __slots__ = ("_ends", "_index", "_message_id", "_text", "count", "offset")

    def __init__(self, offset: int, tokens: Tokens) -> None:
        self.offset = offset
        self.count = len(tokens.texts)
        self._message_id = tokens.message_id
        self._index = tokens.index
        self._text = "".join(tokens.texts)
        self._ends = array("I", accumulate(map(len, tokens.texts), initial=0))

    def joins(self, tokens: Tokens) -> bool:
        return False

    def part(self, start: int, end: int) -> Entry:
        skip = max(0, start - self.offset)
        ends = self._ends[skip : min(end - self.offset, self.count) + 1]
        texts = [self._text[first:last] for first, last in pairwise(ends)]
        return self.offset + skip, Tokens(self._message_id, self._index + skip, texts)


def _size(event: Event) -> int:
    """About how many bytes an event takes: what clients and pipelines put into it counts, too."""
    match event:
        case Tokens(texts=texts):
            return TOKEN_BYTES * len(texts) + sum(map(len, texts))
        case UserMessage(content=content, options=options):
            return EVENT_BYTES + len(content) + (len(dump(options)) if options else 0)
        case Sources(sources=carried) | Status(extra=carried) | Ended(meta=carried):
            return EVENT_BYTES + (len(dump(carried)) if carried else 0)
        case _:
            return EVENT_BYTES


class MemoryLog:
    """A log in this process: commits at once, and keeps about `keep_bytes` of settled turns, the rest whole.

    `count` is told by how many bytes it has grown (or shrunk, if negative). `first` is its first entry's offset.
    """

    __slots__ = (
        "_count",
        "_counted",
        "_dropped",
        "_end",
        "_fastest",
        "_floor",
        "_followers",
        "_furthest",
        "_keep_bytes",
        "_notice",
        "_packed",
        "_runs",
        "_sizes",
        "_start",
        "_unsent",
        "_waiting",
        "epoch",
        "size",
    )

    def __init__(
        self, epoch: int, keep_bytes: int, count: Callable[[int], None] = lambda more: None, first: int = 0
    ) -> None:
        self.epoch = epoch
        self.size = 0
        self._keep_bytes = keep_bytes
        self._count = count
        self._counted = 0  # of `size`: what somebody was told
        self._notice = min(keep_bytes, COUNT_BYTES)  # past this size, look whether to trim, and tell
        self._runs: list[_Run | _PackedRun] = []
        self._sizes: list[int] = []
        self._dropped = 0  # runs trimmed so far: a run's number minus this is its index
        self._packed = 0  # the number of the first run that may have to be packed yet
        self._floor: int | None = None
        self._start = first
        self._end = first
        self._followers: tuple[Follower, ...] = ()
        self._fastest = first  # the position of the follower that is furthest now
        self._furthest = first  # the furthest that any follower ever was
        self._unsent: list[tuple[int, int]] = []  # before that: what unsettled turns hold and nobody was sent
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

    def position(self, offset: int) -> Position:
        return Position(self.epoch, offset)

    def covers(self, position: Position) -> bool:
        return position.epoch == self.epoch and self._start <= position.offset <= self._end

    def after(self, call: Callable[[], None], lost: Callable[[], None] = lambda: None) -> None:
        call()

    def remember(self, snapshot: Callable[[], Snapshot]) -> None:
        """It is all in this process: nobody reads it who does not know."""

    # Writing.

    def extend(self, events: Sequence[Event]) -> int:
        first = self._end
        entries: list[Entry] = []
        for event in events:
            entries.append((self._end, event))
            self._keep(_Run(self._end, event), _size(event))
        self._keep_to_bounds()
        self._tell(first, entries)
        return first

    def append_tokens(self, tokens: Tokens, size: int) -> None:
        """Hot: called per batch of tokens."""
        first = self._end
        size += TOKEN_BYTES * len(tokens.texts)
        if self._runs and self._runs[-1].joins(tokens):
            self._sizes[-1] += size
            self.size += size
            self._end = first + len(tokens.texts)
        else:
            if self._runs:
                self._pack(len(self._runs) - 1)
            self._keep(_Run(first, tokens), size)
        if self.size > self._notice:
            self._keep_to_bounds()
        self._tell(first, ((first, tokens),))

    def settle(self, floor: int | None) -> None:
        self._floor = floor
        settled, index = self._end if floor is None else floor, max(0, self._packed - self._dropped)
        while index < len(self._runs) and self._runs[index].offset + self._runs[index].count <= settled:
            self._pack(index)
            index += 1
        self._packed = self._dropped + index
        if self._unsent:
            self._unsent = [(low, high) for low, high in self._unsent if high > settled]
        self._keep_to_bounds()

    def shed(self) -> None:
        self._trim(self.size)
        self._tell_size()

    def close(self) -> None:
        self._count(-self._counted)
        self._counted = 0

    def _pack(self, index: int) -> None:
        run = self._runs[index]
        if isinstance(run, _Run) and isinstance(run.event, Tokens):
            whole = Tokens(run.event.message_id, run.event.index, run.texts)
            self._runs[index] = _PackedRun(run.offset, whole)
            self._sizes[index] -= (TOKEN_BYTES - PACKED_BYTES) * run.count
            self.size -= (TOKEN_BYTES - PACKED_BYTES) * run.count

    def _keep(self, run: _Run, size: int) -> None:
        self._runs.append(run)
        self._sizes.append(size)
        self.size += size
        self._end += run.count

    def _tell(self, first: int, entries: Sequence[Entry]) -> None:
        """Poke the followers: those that have kept up take the entries as they are."""
        end = self._end
        for follower in self._followers:
            if follower.position != first:
                follower.poke(())
            elif follower.poke(entries):
                follower.position = end
                self._furthest = self._fastest = end

    def _keep_to_bounds(self) -> None:
        if self.size > self._keep_bytes:
            self._trim(self.size - self._keep_bytes * 3 // 4)  # more than needed: not on each append, then
        self._tell_size()

    def _tell_size(self) -> None:
        more, self._counted = self.size - self._counted, self.size
        limit = self._keep_bytes if self.size <= self._keep_bytes else self.size + COUNT_BYTES
        self._notice = min(self.size + COUNT_BYTES, limit)
        if more:
            self._count(more)

    def _trim(self, surplus: int) -> None:
        """Drop whole runs of settled turns from the front, that many bytes of them or more, if there are."""
        floor = self._end if self._floor is None else self._floor
        drop = 0
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
        if follower.position > self._furthest:  # it begins behind something that it is not sent, and nobody was
            self._unsent.append((self._furthest, follower.position))
            self._furthest = follower.position
        self._followers = (*self._followers, follower)
        self._fastest = max(self._fastest, follower.position)
        self._waiting.unpark_all()
        return follower

    def unfollow(self, follower: Follower) -> None:
        if follower in self._followers:
            self._followers = tuple(other for other in self._followers if other is not follower)
            self._fastest = max((other.position for other in self._followers), default=0)
            self._waiting.unpark_all()

    def sent_up_to(self, offset: int) -> int:
        return min((start for start, end in self._unsent if end > offset), default=self._furthest)

    def advanced(self, start: int, end: int) -> None:
        if self._unsent:
            rests = [rest for low, high in self._unsent for rest in ((low, min(high, start)), (max(low, end), high))]
            self._unsent = [(low, high) for low, high in rests if low < high]
        if end > self._furthest:
            self._furthest = end
        if end > self._fastest:
            self._fastest = end
        if self._waiting:
            self._waiting.unpark_all()

    def read(self, start: int, end: int) -> list[Entry]:
        return self.read_from(start, end, 0)[0]

    def read_from(self, start: int, end: int, hint: int) -> tuple[list[Entry], int]:
        """The hint is the number of the run that the last read ended in."""
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
