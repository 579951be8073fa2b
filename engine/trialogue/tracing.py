"""One turn as it goes, as a port: the engine tells of its phases, an adapter makes spans or log lines of them.

Unlike the meter's facts these have a name, so that one slow answer can be found among thousands. `current_turn` says in
whose behalf code runs: it is set where the service runs, and every bridge carries it into the service's own world.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from trialogue.core.events import Receipt

Phase = Literal["queued", "waiting", "retrieving", "generating", "stopping"]
"""`waiting` for the upstream before it or for a place, `retrieving` until the first token, `stopping` from the stop to
the upstream's end; the others are the wire's."""


@dataclass(frozen=True, slots=True)
class TurnNames:
    """Which turn it is, as clients know it: whose (`principal`, "" for everybody's), in which session."""

    principal: str
    session_id: str
    message_id: str

    def fields(self) -> dict[str, str]:
        """For a log record's `extra`."""
        return {**session_fields(self.principal, self.session_id), "message_id": self.message_id}


def session_fields(principal: str, session_id: str) -> dict[str, str]:
    """A session's names for a log record's `extra`: never in its text, so that they can be hidden."""
    return {"session_id": session_id, **({"principal": principal} if principal else {})}


current_turn: ContextVar[TurnNames | None] = ContextVar("trialogue_turn", default=None)


class Trace(Protocol):
    """What becomes of one turn. Every method is synchronous, cheap and must not raise."""

    def enter(self, phase: Phase) -> None:
        """A phase begins, and the one before it is over."""

    def ended(self, ending: str, code: str) -> None:
        """It got its one ending; after a crash it may be told again, and the first counts. `code`: as the meter's."""

    def settled(self, receipt: Receipt | None) -> None:
        """Its upstream has closed or is given up; nothing that is told after this counts. None: it never had one."""

    def context(self) -> AbstractContextManager[Any]:
        """What is started inside belongs to this turn (by contextvars)."""


class Tracer(Protocol):
    """Makes the trace of each turn. Synchronous, cheap, must not raise."""

    def accepted(self, names: TurnNames, parent: str) -> Trace:
        """A message became a turn. `parent`: the W3C `traceparent` that its connection came with, or ""."""


class NullTrace:
    """Tells nobody."""

    _context = nullcontext()

    def enter(self, phase: Phase) -> None: ...
    def ended(self, ending: str, code: str) -> None: ...
    def settled(self, receipt: Receipt | None) -> None: ...

    def context(self) -> AbstractContextManager[Any]:
        return self._context


NULL_TRACE = NullTrace()


class NullTracer:
    """Traces nothing."""

    def accepted(self, names: TurnNames, parent: str) -> Trace:
        return NULL_TRACE
