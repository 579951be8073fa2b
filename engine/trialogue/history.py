"""What the entries of a log say of a session's turns: which are unended, which have begun, where the ended ones stand.

The session that writes a log and whoever only reads it fold the same entries in the same way, so they agree: on what
is promised, on where a newcomer begins, on what must not be trimmed. It decides nothing and appends nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from trialogue.core.events import (
    Ended,
    Event,
    Failed,
    Remembered,
    Snapshot,
    Sources,
    Started,
    Status,
    Tokens,
    UserMessage,
)
from trialogue.core.machine import Ending, Known, Ledger, Outcome, Turn, digest_of, failed
from trialogue.log import Entry, Log, Position

Resumed = Literal["new", "attached", "replayed", "gap"]


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An ended turn: where it stands in the log (from its message to after its end), its end, its message's digest.

    One that is known by a `Snapshot` only stands before every log (-1): it is trimmed.
    """

    start: int
    end: int
    ending: Ended | Failed
    digest: bytes


def outcome_of(ending: Ended | Failed) -> Outcome:
    """The outcome that an end in the log tells of."""
    if isinstance(ending, Failed):
        return failed(ending.fault)
    reason = ending.finish_reason
    return Outcome(Ending(reason) if reason in tuple(Ending) else Ending.COMPLETED, reason)


class History:
    """The fold of one log's entries. `held`: turns that have ended and are not settled; their entries are kept."""

    __slots__ = ("_pins", "_spoken", "_unended", "began", "confirmed_id", "held", "log", "past")

    def __init__(self, log: Log, held: Container[str] = ()) -> None:
        self.began: dict[str, int] = {}  # unended turns: the offset of their stream_start
        self.past: dict[str, PastTurn] = {}
        self.log = log
        self.held = held
        self.confirmed_id: str | None = None  # as far as entries that were folded have told
        self._unended: dict[str, UserMessage] = {}  # in the order of acceptance
        self._pins: dict[str, int] = {}  # turns of which the log must keep everything: the offset of their message
        self._spoken = ""  # the last turn of which there is more than its acceptance and its start

    def __repr__(self) -> str:
        return f"<History {len(self._unended)} unended turns, {len(self.past)} past ones>"

    # Folding.

    def take(self, entries: Iterable[Entry]) -> None:
        """The next entries. Those that tell nothing of where a turn begins or ends may be left out."""
        for offset, event in entries:
            self._take(offset, event)

    def _take(self, offset: int, event: Event) -> None:
        match event:
            case UserMessage(message_id):
                self._pins[message_id] = offset
                self._unended[message_id] = event
            case Started(message_id):
                self.began[message_id] = offset
            case Ended() | Failed():
                self._end(offset, event)
            case Tokens(message_id) | Sources(message_id) | Status(message_id, "generating" | "pipeline"):
                self._spoken = message_id
            case Status(message_id, _, {"session_id": str(session_id)}):
                self._spoken, self.confirmed_id = message_id, session_id
            case Snapshot(turns, confirmed_id):
                self.confirmed_id = confirmed_id or self.confirmed_id
                gone = {turn.ending.message_id: PastTurn(-1, -1, turn.ending, turn.digest) for turn in turns}
                here = self.past.items()
                known = {name: replace(past, digest=gone[name].digest) for name, past in here if name in gone}
                self.past = gone | self.past | known

    def _end(self, offset: int, event: Ended | Failed) -> None:
        message_id = event.message_id
        self.began.pop(message_id, None)
        asked = self._unended.pop(message_id, None)
        known = self.past.get(message_id)
        digest = digest_of(asked.content) if asked else known.digest if known else b""
        self.past[message_id] = PastTurn(self._pins.get(message_id, offset), offset + 1, event, digest)
        if message_id not in self.held:
            self._pins.pop(message_id, None)

    def keep(self, count: int) -> None:
        """Forget the oldest past turns, but for so many."""
        for message_id in list(self.past)[: max(0, len(self.past) - count)]:
            del self.past[message_id]

    def settle(self, message_id: str, known: Container[str]) -> None:
        """An ended turn is settled: its entries may go, and so may the oldest past turns that are not `known`."""
        self._pins.pop(message_id, None)
        while self.past and next(iter(self.past)) not in known:
            del self.past[next(iter(self.past))]

    # What it says.

    @property
    def floor(self) -> int | None:
        """Before this offset every turn is settled; None: every turn is."""
        return min(self._pins.values(), default=None)

    @property
    def unended(self) -> tuple[tuple[Turn, ...], bool]:
        """What was promised: the accepted turns without an end, the begun one first; and whether there is one."""
        asked = sorted(self._unended.values(), key=lambda message: message.message_id not in self.began)
        turns = (Turn(message.message_id, message.content, message.on_busy, message.options) for message in asked)
        return tuple(turns), bool(self.began)

    @property
    def ledger(self) -> Ledger:
        """What is to be known of the message ids."""
        ended = {name: Known(past.digest, outcome_of(past.ending)) for name, past in self.past.items()}
        return Ledger(ended | {name: Known(digest_of(asked.content)) for name, asked in self._unended.items()})

    @property
    def silent(self) -> bool:
        """Has a turn begun of which nobody was told anything but that?"""
        return bool(self.began) and self._spoken not in self.began

    def snapshot(self, confirmed_id: str | None) -> Snapshot:
        """What is to be remembered of ended turns when they are trimmed: of those whose ends are committed."""
        done = (past for past in self.past.values() if past.end <= self.log.committed)
        return Snapshot([Remembered(past.digest, past.ending) for past in done], confirmed_id)

    def place(self, after: Position | None, message_id: str | None = None) -> tuple[int, Resumed]:
        """Where a new connection starts to follow, and what that is called.

        Args:
            message_id: of the one turn that it comes for, if it does: it starts inside that turn, known or to come.
        """
        log = self.log
        first, last = (self._turn_start(), log.end) if message_id is None else self._extent(message_id)
        if after is None:
            return first, "attached" if self.past or self._unended else "new"  # a fence is nobody's message
        if not log.covers(after):
            return first, "gap"
        return min(after.offset, last), "replayed"

    def _extent(self, message_id: str) -> tuple[int, int]:
        """Where a turn's entries begin, and where the last of them stands: its ending, if it has ended.

        What is trimmed stands at the log's end: there, a repeat is sent the ending as a reply.
        """
        past, start, end = self.past.get(message_id), self.log.start, self.log.end
        if past is None:
            return self._pins.get(message_id, end), end
        first, last = past.start, past.end - 1
        return (first if first >= start else end), (last if last >= start else end)

    def _turn_start(self) -> int:
        """The running turn's `stream_start`, or else what is to come."""
        return next(iter(self.began.values()), self.log.end)

    def unanswered(self, before: int) -> list[UserMessage]:
        """The running and the queued turns' questions, for a connection whose log begins (at `before`) after them."""
        asked = (message for message in self._unended.values() if self._pins[message.message_id] < before)
        return [UserMessage(message.message_id, message.content, message.on_busy) for message in asked]
