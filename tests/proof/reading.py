"""The small model: reads a session's log as it is written, and says what may not stand there.

It knows the rules of the wire and what clients and services have really done (`Facts`), nothing of how the engine
works. What it finds is collected, not raised: raised inside an append, it would be a crash of the actor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from proof.schedules import LINGER
from trialogue.core.dialects import V1Dialect
from trialogue.core.events import Ended, Event, Failed, Receipt, Sources, Started, Status, Tokens, UserMessage
from trialogue.core.machine import Policy
from trialogue.memory_log import MemoryLog

DIALECT = V1Dialect("en")


@dataclass(slots=True)
class Facts:
    """What really happened to one message of a session: what its service told, how often it was opened."""

    opened: int = 0
    emitted: list[str] = field(default_factory=list)
    done: bool = False
    failed: bool = False
    returned: bool = False
    heard: list[tuple[Any, str]] = field(default_factory=list)
    """What its `ended` hook was told."""


class Reading:
    """One log. `complain` takes what is wrong with it; `may_fail` are codes that something has given cause for."""

    def __init__(self, epoch: int, queue_size: int, complaints: list[str], may_fail: set[str], log: MemoryLog) -> None:
        self.epoch = epoch
        self.log = log
        self.facts: defaultdict[str, Facts] = defaultdict(Facts)
        self.events: list[Event] = []
        self.content: dict[str, str] = {}
        self.running: str | None = None
        self.queue: list[str] = []
        self.ended: dict[str, Ended | Failed] = {}
        self.started: dict[str, int] = {}
        self.receipts: dict[str, Receipt] = {}
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self.shown: defaultdict[str, int] = defaultdict(int)
        """Tokens of each turn that some transport was handed."""
        self.shown_at_end: dict[str, int] = {}
        self.cancels: set[str | None] = set()
        """What somebody wanted stopped; None: everything."""
        self.vacant_since: float | None = None
        self._queue_size = queue_size
        self._complaints = complaints
        self._may_fail = may_fail
        self._sources: set[str] = set()
        self._due: list[tuple[str, str]] = []

    def complain(self, what: str) -> None:
        self._complaints.append(f"log {self.epoch} at {len(self.events)}: {what}")

    def frame(self, offset: int) -> bytes:
        """What a v1 client is told of the entry at that offset."""
        (frame,) = DIALECT.feed(offset, self.events[offset])
        return frame

    def turn_start(self) -> int:
        """Where somebody begins who attaches in the middle: with the running turn, else with what is to come."""
        return self.started[self.running] if self.running else len(self.events)

    def verdict(self, message_id: str, content: str, policy: str, draining: bool) -> str:
        """What becomes of a message that is sent now: `accepted`, `duplicate`, or the code of its refusal."""
        if message_id in self.content:
            return "duplicate" if self.content[message_id] == content else "WS-001"
        if draining:
            return "WS-006"
        busy, full = self.running is not None, len(self.queue) >= self._queue_size
        if busy and (policy == Policy.REJECT or (policy == Policy.ENQUEUE and full)):
            return "WS-003"
        return "accepted"

    def outcomes(self, message_id: str | None) -> list[tuple[str | None, str]]:
        """What a cancel that is sent now is answered."""
        unended = [*([self.running] if self.running else []), *self.queue]
        if message_id is None:
            past = "already_ended" if self.content else "unknown"
            return [(turn, "cancelled") for turn in unended] or [(None, past)]
        if message_id in unended:
            return [(message_id, "cancelled")]
        return [(message_id, "already_ended" if message_id in self.content else "unknown")]

    def at_rest(self) -> None:
        """Nobody has anything left to do for now."""
        if self._due:
            self.complain(f"{self._due} did not follow at once")
        if self.queue and not self.running:
            self.complain(f"{self.queue} are queued behind nothing")

    def over(self) -> None:
        """Nothing more will be appended."""
        for message_id in self.content.keys() - self.ended.keys():
            self.complain(f"{message_id} has no ending")

    # One entry after the other.

    def take(self, events: Sequence[Event]) -> None:
        for event in events:
            self._read(event)
            if isinstance(event, Tokens):
                self.events += [
                    Tokens(event.message_id, index, [text]) for index, text in enumerate(event.texts, event.index)
                ]
            else:
                self.events.append(event)

    def _read(self, event: Event) -> None:
        message_id = event.message_id
        if message_id in self.ended and not isinstance(event, Receipt):
            self.complain(f"{type(event).__name__} of {message_id} after its end")
            return
        if message_id not in self.content and not isinstance(event, UserMessage):
            self.complain(f"{type(event).__name__} of {message_id}, which was never accepted")
            return
        match event:
            case UserMessage(_, content, on_busy):
                self._accept(message_id, content, on_busy)
            case Started():
                self._start(message_id)
            case Status(_, phase, extra):
                self._status(message_id, phase, extra)
            case Tokens(_, index, texts):
                self._tokens(message_id, index, texts)
            case Sources():
                if message_id != self.running or message_id in self._sources:
                    self.complain(f"sources of {message_id} while {self.running} runs, or a second time")
                self._sources.add(message_id)
            case Ended() | Failed():
                self._end(message_id, event)
            case Receipt():
                self._receipt(message_id, event)

    def _accept(self, message_id: str, content: str, policy: str) -> None:
        if message_id in self.content:
            self.complain(f"{message_id} was accepted twice")
        verdict = self.verdict(message_id, content, policy, draining=False)
        if verdict != "accepted":
            self.complain(f"{message_id} was accepted and should have been {verdict}")
        self.content[message_id] = content
        if self.running is None:
            self._due = [("start", message_id)]
        elif policy == Policy.ENQUEUE:
            self.queue.append(message_id)
            self._due = [("queued", message_id)]
        else:
            reason = "retracted" if policy == Policy.ROLLBACK else "interrupted"
            self._due = [(reason, self.running), ("start", message_id)]

    def _start(self, message_id: str) -> None:
        called = self._is_due("start", message_id) or self.queue[:1] == [message_id]
        if self.running or message_id in self.started or not called:
            self.complain(f"{message_id} starts while {self.running} runs and {self.queue} wait")
        self.queue = [other for other in self.queue if other != message_id]
        self.running = message_id
        self.started[message_id] = len(self.events)

    def _status(self, message_id: str, phase: str, extra: Any) -> None:
        if phase == "queued":
            if not self._is_due("queued", message_id) or extra["place"] != len(self.queue):
                self.complain(f"{message_id} is told its place {extra['place']} of {len(self.queue)}")
        elif message_id != self.running:
            self.complain(f"{phase} of {message_id} while {self.running} runs")

    def _tokens(self, message_id: str, index: int, texts: Sequence[str]) -> None:
        had = self.texts[message_id]
        if message_id != self.running:
            self.complain(f"a token of {message_id} while {self.running} runs")
        if index != len(had):
            self.complain(f"token {index} of {message_id} after {len(had)}")
        had += texts
        if had != self.facts[message_id].emitted[: len(had)]:
            self.complain(f"{message_id} has tokens that its service did not tell")

    def _end(self, message_id: str, end: Ended | Failed) -> None:
        reason = end.finish_reason if isinstance(end, Ended) else end.fault.code
        if message_id not in (self.running, *self.queue):
            self.complain(f"{message_id} ends and was neither running nor queued")
        if not self._has_cause(message_id, reason):
            self.complain(f"{message_id} ends as {reason} for no reason")
        if isinstance(end, Ended) and end.total_tokens != len(self.texts[message_id]):
            self.complain(f"{message_id} ends with {end.total_tokens} tokens and had {len(self.texts[message_id])}")
        if reason == "stop" and message_id not in self._sources:
            self.complain(f"{message_id} ends without sources")
        self.running = None if message_id == self.running else self.running
        self.queue = [other for other in self.queue if other != message_id]
        self.ended[message_id] = end
        self.shown_at_end[message_id] = self.shown[message_id]

    def _has_cause(self, message_id: str, reason: str) -> bool:
        facts = self.facts[message_id]
        match reason:
            case "stop":
                return facts.done or facts.returned
            case "interrupted" | "retracted":
                return self._is_due(reason, message_id)
            case "cancelled":
                lingered = self.vacant_since is not None and trio.current_time() >= self.vacant_since + LINGER
                return lingered or not self.cancels.isdisjoint({None, message_id})
            case "RAG-001" | "STREAM-001":
                return facts.failed
            case _:
                return reason in self._may_fail

    def _receipt(self, message_id: str, receipt: Receipt) -> None:
        if message_id not in self.ended or message_id in self.receipts or message_id not in self.started:
            self.complain(f"a receipt of {message_id} before its end, a second one, or of one that never began")
        self.receipts[message_id] = receipt
        least, most = self.shown_at_end.get(message_id, 0), self.shown[message_id]
        if receipt.generated != len(self.texts[message_id]) or not least <= receipt.sent <= most:
            had = len(self.texts[message_id])
            self.complain(f"{receipt}, but {had} were generated, {least} sent by its end, {most} by now")
        if receipt.acked is not None and receipt.acked > receipt.generated:
            self.complain(f"{receipt}: more were seen than made")

    def _is_due(self, what: str, message_id: str) -> bool:
        if self._due[:1] == [(what, message_id)]:
            del self._due[0]
            return True
        return False


class ReadLog(MemoryLog):
    """The real log, read by a `Reading` before its followers are told."""

    __slots__ = ("reading",)

    reading: Reading

    def extend(self, events: Sequence[Event]) -> int:
        self.reading.take(events)
        return super().extend(events)

    def append_tokens(self, tokens: Tokens, size: int) -> None:
        self.reading.take((tokens,))
        super().append_tokens(tokens, size)
