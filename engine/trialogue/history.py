"""What the entries of a log say of a session's turns: which are unended, which have begun, where the ended ones stand.

The session that writes a log and whoever only reads it fold the same entries in the same way, so they agree: on what
is promised, on where a newcomer begins, on what must not be trimmed. It decides nothing and appends nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Literal

from trialogue.core.events import Ended, Event, Failed, Started, UserMessage
from trialogue.core.machine import Turn
from trialogue.log import Entry, Log, Position

Resumed = Literal["new", "attached", "replayed", "gap"]


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An ended turn: where it stands in the log (from its message to after its end), and its end."""

    start: int
    end: int
    ending: Ended | Failed


class History:
    """The fold of one log's entries. `held`: turns that have ended and are not settled; their entries are kept."""

    __slots__ = ("_held", "_log", "_pins", "_unended", "began", "past")

    def __init__(self, log: Log, held: Container[str] = ()) -> None:
        self.began: dict[str, int] = {}  # unended turns: the offset of their stream_start
        self.past: dict[str, PastTurn] = {}
        self._log = log
        self._held = held
        self._unended: dict[str, UserMessage] = {}  # in the order of acceptance
        self._pins: dict[str, int] = {}  # turns of which the log must keep everything: the offset of their message

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
            case Ended(message_id) | Failed(message_id):
                self.began.pop(message_id, None)
                self._unended.pop(message_id, None)
                self.past[message_id] = PastTurn(self._pins.get(message_id, offset), offset + 1, event)
                if message_id not in self._held:
                    self._pins.pop(message_id, None)

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

    def place(self, after: Position | None, message_id: str | None = None) -> tuple[int, Resumed]:
        """Where a new connection starts to follow, and what that is called.

        Args:
            message_id: of the one turn that it comes for, if it does: it starts inside that turn, known or to come.
        """
        log = self._log
        first, last = (self._turn_start(), log.end) if message_id is None else self._extent(message_id)
        if after is None:
            return first, "attached" if log.end else "new"
        if not log.covers(after):
            return first, "gap"
        return min(after.offset, last), "replayed"

    def _extent(self, message_id: str) -> tuple[int, int]:
        """Where a turn's entries begin, and where the last of them stands: its ending, if it has ended.

        What is trimmed stands at the log's end: there, a repeat is sent the ending as a reply.
        """
        past, start, end = self.past.get(message_id), self._log.start, self._log.end
        if past is None:
            return self._pins.get(message_id, end), end
        first, last = past.start, past.end - 1
        return (first if first >= start else end), (last if last >= start else end)

    def _turn_start(self) -> int:
        """The running turn's `stream_start`, or else what is to come."""
        return next(iter(self.began.values()), self._log.end)

    def unanswered(self, before: int) -> list[UserMessage]:
        """The running and the queued turns' questions, for a connection whose log begins (at `before`) after them."""
        asked = (message for message in self._unended.values() if self._pins[message.message_id] < before)
        return [UserMessage(message.message_id, message.content, message.on_busy) for message in asked]
