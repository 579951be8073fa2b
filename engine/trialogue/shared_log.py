"""A log in a store that many nodes share: the mirror holds what the store has acknowledged, the lane what it has not.

Followers read the mirror, a log in memory; so an entry is in the store before any client sees it (unless `behind`,
where the mirror comes first). On a node that does not own the session only the mirror is used, fed by the store.
Offsets go on across epochs: a position is one integer, and the epochs' beginnings say which of them belong together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import Literal

import trio

from trialogue.core.events import Event, Fenced, Snapshot, Tokens, width
from trialogue.log import Entry, Follower, Gap, Poke, Position
from trialogue.memory_log import MemoryLog
from trialogue.store import Key, Store, Stored, Verdict

Durability = Literal["ahead", "behind"]

BEHIND_TOKENS, BEHIND_EVENTS = 0.2, 0.005
"""Seconds that tokens, and anything else, may wait for company where clients need not wait for the store. At 26.7
tokens/s 5.3 of a session become one entry, which is what pays for the store's work; an ending is not held up by that,
nor are tokens that somebody follows at another node."""

Lost = Callable[[Verdict, Sequence[Event]], None]
"""Called when an append was refused or is not known to have arrived, with all events that were pending. From then on
this node does not own the log, and what is appended is dropped."""


def _from(offset: int, event: Event, first: int) -> Entry:
    """The part of an entry that begins at `first` or after it."""
    if offset >= first or type(event) is not Tokens:
        return offset, event
    skip = first - offset
    return first, Tokens(event.message_id, event.index + skip, event.texts[skip:])


class _Lane:
    """What one time of owning appends: what waits, from offset `start` up to `end`, and what is under way before it.

    Tokens that wait together are joined as they come. Once the log is owned no longer, what waits is still written (the
    store refuses it, if somebody else owns it by now), and the verdict on it is nobody's.
    """

    __slots__ = ("_epoch", "_judged", "asked", "end", "joining", "key", "start", "under_way", "waiting")

    def __init__(self, key: Key, fence: Position, judged: Callable[[_Lane, Verdict], None]) -> None:
        self.key = key
        self._epoch = fence.epoch
        self.start = self.end = fence.offset
        self._judged = judged
        self.waiting: list[Event] = []
        self.under_way: Sequence[Event] = ()
        self.joining: Tokens | None = None  # the last that waits, if it is tokens: a list of our own
        self.asked = inf  # within how many seconds the store has been asked to write

    def take(self) -> tuple[int, int, Sequence[Event]] | None:
        if not self.waiting:
            return None
        start, self.start = self.start, self.end
        self.under_way, self.waiting, self.joining, self.asked = self.waiting, [], None, inf
        return self._epoch, start, self.under_way

    def judge(self, verdict: Verdict) -> None:
        self._judged(self, verdict)

    @property
    def pending(self) -> list[Event]:
        return [*self.under_way, *self.waiting]


class SharedLog:
    """One session's log on this node. Made empty, at the first entry that is kept; then `fit` and `absorb` fill it."""

    __slots__ = (
        "_behind",
        "_calls",
        "_elsewhere",
        "_epochs",
        "_held",
        "_key",
        "_lane",
        "_lost",
        "_mirror",
        "_store",
        "_token_wait",
        "_trimmed",
        "_waiting",
    )

    def __init__(
        self,
        key: Key,
        store: Store,
        first: Position,
        keep_bytes: int,
        count: Callable[[int], None],
        durability: Durability = "ahead",
    ) -> None:
        self._key = key
        self._store = store
        self._behind = durability == "behind"
        self._token_wait = BEHIND_TOKENS if self._behind else 0.0
        self._elsewhere = 0
        self._mirror = MemoryLog(first.epoch, keep_bytes, count, first.offset)
        self._mirror.settle(first.offset)  # until somebody has read what runs, nothing may be trimmed
        self._epochs = [first]
        self._lane: _Lane | None = None  # while this node owns it
        self._lost: Lost = lambda verdict, events: None
        self._calls: deque[tuple[int, Callable[[], None], Callable[[], None]]] = deque()
        self._trimmed = first.offset  # before that, the store has been told to let go
        self._waiting = trio.lowlevel.ParkingLot()
        self._held = 0  # how many wait there, asked once per entry

    def __repr__(self) -> str:
        state = f"owned, {self.end - self._mirror.end} pending" if self.owned else "mirrored"
        return f"<SharedLog {self.epoch}:{self.start}-{self.end}, {state}>"

    @property
    def epoch(self) -> int:
        return self._epochs[-1].epoch

    @property
    def start(self) -> int:
        return self._mirror.start

    @property
    def end(self) -> int:
        return self._lane.end if self._lane else self._mirror.end

    @property
    def committed(self) -> int:
        return self._mirror.end

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return self._mirror.size

    @property
    def owned(self) -> bool:
        return self._lane is not None

    # Positions.

    def position(self, offset: int) -> Position:
        index = bisect_right(self._epochs, offset, key=lambda beginning: beginning.offset) - 1
        return Position(self._epochs[max(0, index)].epoch, offset)

    def covers(self, position: Position) -> bool:
        epoch, offset = position
        if not self.start <= offset <= self.committed:
            return False
        ends = [*(beginning.offset for beginning in self._epochs[1:]), self.committed]
        return any(
            beginning.epoch == epoch and beginning.offset <= offset <= end
            for beginning, end in zip(self._epochs, ends, strict=True)
        )

    # Filled by the store.

    def fit(self, stored: Iterable[Stored]) -> list[Entry] | None:
        """Those entries that go on where the mirror ends, to be absorbed next; known ones are left out.

        None if they do not fit: something between is missing, or the stream is another one.
        """
        entries: list[Entry] = []
        end, epoch = self.committed, self.epoch
        for one in stored:
            if one.epoch <= epoch and one.offset + width(one.event) <= end:
                continue
            offset, event = _from(one.offset, one.event, end if one.epoch == epoch else one.offset)
            if offset != end or one.epoch < epoch:
                return None
            if one.epoch > epoch:
                epoch = one.epoch
                if type(event) is Fenced and event.fresh:
                    self._epochs.clear()  # the store has lost what was before: no older position is one of this log
                self._epochs.append(Position(epoch, offset))
            entries.append((offset, event))
            end += width(event)
        return entries

    def absorb(self, entries: Sequence[Entry]) -> None:
        """Into the mirror, and so to its followers. Of one append the tokens come as one batch, in one write."""
        events: list[Event] = []
        for _, event in entries:
            last = events[-1] if events else None
            if type(last) is Tokens and type(event) is Tokens and last.message_id == event.message_id:
                events[-1] = Tokens(last.message_id, last.index, [*last.texts, *event.texts])
            else:
                events.append(event)
        self._commit(events)

    def _commit(self, events: Sequence[Event]) -> None:
        if len(events) == 1 and type(events[0]) is Tokens:
            self._mirror.append_tokens(events[0], sum(map(len, events[0].texts)))
        elif events:
            self._mirror.extend(events)

    # Owning.

    def own(self, lost: Lost) -> None:
        """This node's fence has been absorbed: from now on it appends here."""
        self._lost = lost
        self._lane = _Lane(self._key, Position(self.epoch, self._mirror.end), self._judge)

    def disown(self) -> Sequence[Event]:
        """Append no more. Returns what was pending; whoever waited for that is told that it is lost. Idempotent."""
        lane, self._lane = self._lane, None
        calls, self._calls = self._calls, deque()
        for _, _, lost in calls:
            lost()
        self._waiting.unpark_all()
        return lane.pending if lane else ()

    def extend(self, events: Sequence[Event]) -> int:
        lane, first = self._lane, self.end
        if lane is not None:  # else it is somebody else's by now: what comes late must not be in it
            lane.waiting += events
            lane.joining = None
            lane.end += sum(map(width, events))
            within = BEHIND_EVENTS if self._behind else 0.0
            if within < lane.asked:
                self._ask(lane, within)
            if self._behind:
                self._commit(events)
        return first

    def append_tokens(self, tokens: Tokens, size: int) -> None:
        """Hot: called per batch of tokens."""
        lane = self._lane
        if lane is None:
            return
        joining, texts = lane.joining, tokens.texts
        if joining is not None and joining.message_id == tokens.message_id:
            joining.texts += texts  # type: ignore[operator]
        else:  # the service may use its list again
            lane.joining = Tokens(tokens.message_id, tokens.index, list(texts))
            lane.waiting.append(lane.joining)
        lane.end += len(texts)
        if self._token_wait < lane.asked:
            self._ask(lane, self._token_wait)
        if self._behind:
            self._mirror.append_tokens(tokens, size)

    def followed_elsewhere(self, change: int) -> None:
        """So many more clients, or fewer, follow the stream at other nodes: what they see comes by way of the store."""
        self._elsewhere += change
        if self._behind:
            self._token_wait = BEHIND_EVENTS if self._elsewhere else BEHIND_TOKENS

    def _ask(self, lane: _Lane, within: float) -> None:
        """Have it written sooner than has been asked for so far."""
        lane.asked = within
        self._store.append(lane, within)

    def _judge(self, lane: _Lane, verdict: Verdict) -> None:
        """The verdict on what was taken from that lane last."""
        if lane is not self._lane:
            return
        if verdict is not Verdict.WRITTEN:
            pending = self.disown()
            lane.waiting.clear()
            self._lost(verdict, pending)
            return
        events, lane.under_way = lane.under_way, ()
        if not self._behind:
            self._commit(events)
        while self._calls and self._calls[0][0] <= self.committed:
            self._calls.popleft()[1]()
        if self._held:
            self._waiting.unpark_all()

    def after(self, call: Callable[[], None], lost: Callable[[], None] = lambda: None) -> None:
        if self.end == self.committed and not self._calls:
            call()
        else:
            self._calls.append((self.end, call, lost))

    def remember(self, snapshot: Callable[[], Snapshot]) -> None:
        """What the mirror has trimmed goes from the store too, once the snapshot is there."""
        if self.owned and self.start > self._trimmed:
            self._trimmed = self.start
            self.extend([snapshot()])
            self.after(partial(self._store.trim, self._key, self.position(self.start)))

    # The rest is the mirror's.

    def sent_up_to(self, offset: int) -> int:
        return self._mirror.sent_up_to(offset)

    def settle(self, floor: int | None) -> None:
        """With entries pending, nothing behind the mirror's end is settled: a turn may have its end there."""
        self._mirror.settle(floor)

    def shed(self) -> None:
        self._mirror.shed()

    def close(self) -> None:
        self._mirror.close()

    def follow(self, offset: int, poke: Poke) -> Follower:
        return self._mirror.follow(offset, poke)

    def unfollow(self, follower: Follower) -> None:
        self._mirror.unfollow(follower)

    def read(self, start: int, end: int) -> list[Entry]:
        return self.read_from(start, end, 0)[0]

    def read_from(self, start: int, end: int, hint: int) -> tuple[list[Entry], int]:
        committed = self.committed
        entries: list[Entry] = []
        if start < committed:
            entries, hint = self._mirror.read_from(start, min(end, committed), hint)
        elif start < self.start:
            raise Gap(f"offset {start} is trimmed; the log starts at {self.start}")
        if end > committed and self._lane is not None:
            entries += [entry for entry in self._pending_entries() if start <= entry[0] < end]
        return entries, hint

    def _pending_entries(self) -> list[Entry]:
        entries: list[Entry] = []
        offset = self.committed
        assert self._lane
        for event in self._lane.pending:
            entries.append((offset, event))
            offset += width(event)
        return entries

    def advanced(self, start: int, end: int) -> None:
        self._mirror.advanced(start, end)

    # Backpressure: also by the store, so that what waits for it is bounded.

    def has_room(self, window: int) -> bool:
        lane, mirror = self._lane, self._mirror
        pending = lane.end - mirror.end if lane else 0
        return pending < window and mirror.has_room(window - pending)

    async def room(self, window: int) -> None:
        while not self.has_room(window):
            pending = self.end - self.committed
            if pending >= window:
                self._held += 1
                try:
                    await self._waiting.park()
                finally:
                    self._held -= 1
            else:
                await self._mirror.room(window - pending)
