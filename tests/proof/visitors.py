"""A good client of many nodes, which checks each frame as it comes against what the store was told.

An entry that it is sent is in the store by then, as it was told; unless its node owns the session and writes `behind`:
then it is judged in the end, when it may be gone, but nothing after it may be there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from proof.annals import Annals, Frame
from support.memory import MemoryTransport
from trialogue import Hub, Position
from trialogue.nodes import AnySession
from trialogue.session import Session
from trialogue.store import Key


class Device:
    """One client of one session. `attach` begins a visit to a node."""

    def __init__(self, number: int, key: Key, behind: bool, annals: Annals, complain: Callable[[str], None]) -> None:
        self.number = number
        self.transport: MemoryTransport | None = None
        self.position: Position | None = None
        self.node = ""
        self.scope = trio.CancelScope()
        self.asked: set[str] = set()
        self._annals = annals
        self._key = key
        self._complain = complain
        self._hub: Hub
        self._behind = behind
        self._begin = False  # the next entry need not follow what it had before
        self._told: dict[str, str] = {}  # turns that it was told the end of, by an entry or a reply
        self._cut: set[str] = set()  # turns that it was told the end of by a reply, on this visit
        self._seen: set[str] = set()  # messages that it was told as entries, on this visit
        self._again: Counter[str] = Counter()  # how often it has sent a message and had no answer yet
        self._unproven: list[tuple[Position, Frame]] = []

    def __repr__(self) -> str:
        return f"device {self.number} at {self.node} at {self.position}"

    @property
    def unanswered(self) -> set[str]:
        """What it has sent on this visit, and was not told the end of."""
        return self.asked - self._told.keys()

    def attach(self, node: str, hub: Hub) -> MemoryTransport:
        self.node, self._hub = node, hub
        self._told, self.asked, self._seen, self._again, self._cut = {}, set(), set(), Counter(), set()
        self.scope = trio.CancelScope()
        transport = self.transport = Ear(self)
        return transport

    def say(self, name: str, policy: str) -> None:
        assert self.transport
        self._told.pop(name, None)
        self.asked.add(name)
        self._again[name] += 1
        self.transport.say(message_id=name, content=name, session_id=self._key[1], on_busy=policy)

    # What it hears.

    def hear(self, frame: Frame) -> None:
        kind, name = frame["type"], frame.get("message_id", "")
        if kind == "session_ready":
            self._arrive(frame["resumed"], Position.parse(frame["position"]))
        elif "offset" in frame:
            self._hear_entry(kind, name, frame)
        elif kind in ("stream_end", "stream_error") and name:
            if name in self._told and name in self._seen and self._again[name] < 1:
                self._complain(f"{self} was told that {name} ended ({self._told[name]}), and now {frame}")
            self._again[name] -= 1
            if name in self._seen and frame.get("error_code") == "WS-003":
                return  # sent twice: refused first, and then accepted; replies come after the entries
            self._cut.add(name)
        if kind in ("stream_end", "stream_error") and name:
            self._told[name] = frame.get("finish_reason") or frame["error_code"]
        if kind == "stream_status" and frame["phase"] == "duplicate":
            self._told.pop(name, None)
            self.asked.discard(name)

    def _arrive(self, resumed: str, ready: Position) -> None:
        before, self._begin = self.position, resumed != "replayed"
        if resumed == "replayed" and before:
            annals = self._annals
            if ready.offset != before.offset or annals.age_of(ready.epoch) != annals.age_of(before.epoch):
                self._complain(f"{self} resumes, and is told {ready}")
            if not annals.holds(before) and not (self._ahead_of_store and self._session.log.covers(before)):
                self._complain(f"{self} resumes past what the log holds")
        self.position = ready

    @property
    def _ahead_of_store(self) -> bool:
        """May it be told what is not in the store yet? Also where the owner was, until it is known who that is now."""
        session = self._session
        return self._behind and (isinstance(session, Session) or session.owner is None)

    @property
    def _session(self) -> AnySession:
        return self._hub.sessions[self._key]

    def _hear_entry(self, kind: str, name: str, frame: Frame) -> None:
        assert self.position
        before, now = self.position, Position(frame.pop("epoch", self.position.epoch), frame["offset"])
        if now.offset <= before.offset:
            self._complain(f"{self} is told {frame}")
        if kind == "user_message" and name not in self._seen:
            self._told.pop(name, None)  # it was refused before; and somebody has tried again
            self._cut.discard(name)
        self._seen.add(name)
        if name in self._told and kind != "stream_receipt":
            self._complain(f"{self} was told the end of {name}, and now {frame}")
        self._prove(now, frame)
        if not self._begin:
            kept = [one for one in self._annals.between(before, now) if one["message_id"] not in self._cut]
            if kept:
                self._complain(f"{self} is told {frame}, and was not told {kept}")
        self._begin = False
        self.position = now

    def _prove(self, told: Position, frame: Frame) -> None:
        found = self._annals.find(told)
        if found is None and self._ahead_of_store:
            self._unproven.append((told, frame))
        elif found != frame:
            self._complain(f"{self} is told {frame}; the store was told {found}")

    # The end.

    def judge(self) -> None:
        annals, now = self._annals, self._annals.now
        for told, frame in self._unproven:
            found = annals.find(told)
            if found is None and not annals.is_last(told.epoch) and not annals.holds(told):
                continue  # lost with its owner, and with all that came after it
            if found != frame:
                self._complain(f"device {self.number} was told {frame} at {told}; the store was told {found}")
        if self.transport is None or self.position is None or self.transport.closed is not None:
            return
        if now:
            known = self._told.keys() | self._cut
            frames = ((offset, frame) for offset, (_, frame) in now.frames.items())
            last = max((offset for offset, frame in frames if frame["message_id"] not in known), default=0)
            if self.position.offset < last:
                self._complain(f"{self}, of {last}")
        if self.unanswered:
            self._complain(f"{self} never hears of {self.unanswered}")


class Ear(MemoryTransport):
    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device

    def write(self, frames: Sequence[bytes]) -> bool:
        if self._device.transport is self:
            for frame in frames:
                self._device.hear(json.loads(frame))
        return True
