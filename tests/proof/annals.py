"""A store that many nodes share, and a chronicler who notes all that it was ever told of one session.

What the store takes is judged at once: ids grow, over the session's whole life; each message is accepted once and
ends once; tokens come without a hole and are one generation's. A store that is wiped begins another age: it knows
nothing of the former one, but none of the former one's ids may come again.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Container
from typing import Any

from support.memory_store import Server
from trialogue import Position
from trialogue.core.dialects import V1Dialect
from trialogue.core.events import (
    Ended,
    Event,
    Failed,
    Fenced,
    Receipt,
    Sources,
    Started,
    Status,
    Tokens,
    UserMessage,
    width,
)
from trialogue.store import Key, Stored

Frame = dict[str, Any]


class V1(V1Dialect):
    def __init__(self) -> None:
        super().__init__("en")


class Age:
    """All that one stream was told, from the fence that made it until it was lost."""

    def __init__(self, first: Position, complain: Callable[[str], None]) -> None:
        self.first = first
        self.frames: dict[int, tuple[int, Frame]] = {}  # by the offset that clients are told: the epoch, the frame
        self.ends: dict[int, int] = {}  # of each epoch, the last offset
        self.accepted: set[str] = set()
        self.ended: dict[str, Event] = {}
        self.spoken: set[str] = set()  # turns of which there is more than their acceptance and their start
        self._complain = complain
        self._running: str | None = None
        self._index: defaultdict[str, int] = defaultdict(int)
        self._runs: dict[str, str] = {}
        self._dialect = V1()

    @property
    def open(self) -> set[str]:
        return self.accepted - self.ended.keys()

    def take(self, one: Stored, inherited: Container[str]) -> None:
        """`inherited`: what former ages had accepted. Here it can only end: its owner may know that it is not over."""
        self.ends[one.epoch] = one.offset + width(one.event)
        for told in self._dialect.feed(one.offset, one.event):
            frame = json.loads(told)
            frame.pop("epoch", None)
            self.frames[frame["offset"]] = one.epoch, frame
        event, name = one.event, one.event.message_id
        if isinstance(event, Fenced) or not name:
            return
        if name in self.ended and not isinstance(event, Receipt):
            self._complain(f"{event} after its end")
        if isinstance(event, UserMessage):
            if name in self.accepted:
                self._complain(f"{name} was accepted twice")
            self.accepted.add(name)
        elif isinstance(event, Ended | Failed):
            self._end(event, inherited)
        elif name not in self.accepted and not (isinstance(event, Receipt) and name in inherited):
            self._complain(f"{event} of a turn that was never accepted")
        elif isinstance(event, Started):
            if self._running:
                self._complain(f"{name} starts while {self._running} runs")
            self._running = name
        elif isinstance(event, Tokens):
            self._tokens(event)
        elif isinstance(event, Sources) or (isinstance(event, Status) and event.phase in ("generating", "pipeline")):
            self.spoken.add(name)

    def _end(self, event: Ended | Failed, inherited: Container[str]) -> None:
        name = event.message_id
        if name not in self.accepted and name not in inherited:
            self._complain(f"{event} of a turn that was never accepted")
        self.ended[name] = event
        self._running = None if self._running == name else self._running

    def _tokens(self, event: Tokens) -> None:
        name = event.message_id
        self.spoken.add(name)
        if name != self._running or event.index != self._index[name]:
            self._complain(f"{event} after {self._index[name]} while {self._running} runs")
        for text in event.texts:
            of, number, index = text.split("/")
            first = self._runs.setdefault(name, number)
            if (of, number, int(index)) != (name, first, self._index[name]):
                self._complain(f"{text} of generation {first} of {name} at {self._index[name]}")
            self._index[name] += 1


class Anything:
    def __contains__(self, name: object) -> bool:
        return True


class Annals(Server):
    """The store of one session, `key`. `behind`: its owners tell clients first, and then the store."""

    def __init__(self, key: Key, latency: float, behind: bool, complain: Callable[[str], None]) -> None:
        super().__init__(latency)
        self.ages: list[Age] = []
        self._key = key
        self._behind = behind
        self._complain = complain
        self._last = (0, -1)

    @property
    def now(self) -> Age | None:
        """The age of the stream that is there."""
        return self.ages[-1] if self._key in self.streams else None

    def append(self, key: Key, *what: Any) -> Any:
        known = len(self.streams.get(key, ()))
        verdict = super().append(key, *what)
        if key == self._key:
            for one in self.streams.get(key, ())[known:]:
                self._note(one)
        return verdict

    def _note(self, one: Stored) -> None:
        if (one.epoch, one.offset) <= self._last:
            self._complain(f"the stream has {one.epoch}:{one.offset} after {self._last}")
        if isinstance(one.event, Fenced):
            if one.epoch <= self._last[0]:
                self._complain(f"epoch {one.epoch} after {self._last[0]}")
            if one.event.fresh:
                self.ages.append(Age(Position(one.epoch, one.offset), self._complain))
        elif one.epoch != self._last[0]:
            self._complain(f"{one} comes without a fence, after {self._last}")
        age = self.ages[-1]
        if one.offset < max(age.ends.values(), default=0):
            self._complain(f"{one} is an offset that was there before, after {self._last}")
        age.take(one, self._inherited)
        self._last = one.epoch, one.offset + width(one.event) - 1

    @property
    def _inherited(self) -> Container[str]:
        former = self.ages[:-1]
        if former and self._behind:
            return Anything()  # what an owner had accepted when the store was lost may have come into no age
        return {name for age in former for name in age.accepted}

    def age_of(self, epoch: int) -> int:
        """The number of the age that an epoch is of."""
        return bisect_right(self.ages, epoch, key=lambda age: age.first.epoch) - 1

    def find(self, told: Position) -> Frame | None:
        """The frame of the entry that ends at that position, if the store was ever told such a one.

        Offsets from before an age's beginning are those of the age before: a mirror goes on over a wiped store.
        """
        number = self.age_of(told.epoch)
        while number > 0 and told.offset <= self.ages[number].first.offset:
            number -= 1
            frame = self.ages[number].frames.get(told.offset)
            if frame or told.offset > self.ages[number].first.offset:
                return frame[1] if frame else None
        epoch, frame_told = self.ages[number].frames.get(told.offset, (0, None))
        return frame_told if epoch == told.epoch else None

    def holds(self, position: Position) -> bool:
        """Is that a position of what the store was told?"""
        epoch, offset = position
        if not self.ages or self.age_of(epoch) < 0:
            return False
        age = self.ages[self.age_of(epoch)]
        return offset <= age.ends.get(epoch, -1)

    def is_last(self, epoch: int) -> bool:
        """Does that epoch's owner still own it, for what the store knows?"""
        return self.now is not None and epoch == max(self.now.ends)

    def between(self, after: Position, before: Position) -> list[Frame]:
        """What stands between two positions of one age, and is not of an epoch that comes after both."""
        frames = self.ages[self.age_of(before.epoch)].frames
        found = (frames.get(offset) for offset in range(after.offset + 1, before.offset))
        return [frame for epoch, frame in filter(None, found) if epoch <= before.epoch]
