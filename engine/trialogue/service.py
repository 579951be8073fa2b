"""The port to somebody's pipeline: what the engine asks of a service, and what a service may tell.

A service runs on Trio. Bridges (outside the engine) make one out of an asyncio ChatService, a generator, an HTTP
stream. A chunk is a plain `str`: no object is made per token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trialogue.core.errors import Fault
from trialogue.core.events import Receipt
from trialogue.core.machine import Ending, Turn, Upstream


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the pipeline knows before it talks: sources (None: not told here), the session id that it confirmed."""

    sources: Sequence[Mapping[str, Any]] | None = None
    session_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is whole. `meta`: usage, model and the like, passed on to clients."""

    sources: Sequence[Mapping[str, Any]] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """The pipeline says that the answer failed."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Progress:
    """An event of the pipeline's own that we do not know; passed on to those who want it."""

    data: Mapping[str, Any]


ServiceEvent = str | Metadata | Done | Failure | Progress


class Emit(Protocol):
    """Where a service puts its events.

    Calling it is synchronous and never blocks. After the turn was stopped it does nothing: what comes late is dropped
    and counted. After a `Done` or a `Failure` nothing more is expected.
    """

    def __call__(self, batch: Sequence[ServiceEvent]) -> bool:
        """Take a batch. False: the readers are far behind, await `room` before you pull more from the upstream."""

    async def room(self) -> None:
        """Wait until the readers are near enough. Cancelled: nothing has changed."""


@dataclass(frozen=True, slots=True)
class TurnReceipt:
    """What a service is told when a turn has ended: the counts of `Receipt`, the ending, and whose turn it was."""

    session_id: str
    message_id: str
    ending: Ending
    generated: int
    sent: int
    acked: int | None
    upstream: Upstream

    @classmethod
    def of(cls, receipt: Receipt, session_id: str, ending: Ending) -> TurnReceipt:
        return cls(
            session_id,
            receipt.message_id,
            ending,
            receipt.generated,
            receipt.sent,
            receipt.acked,
            receipt.upstream,
        )


class Service(Protocol):
    """Something that answers turns."""

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        """Answer one turn.

        Returning ends the turn (without a `Done`, that counts as done), raising an Exception fails it (RAG-001), and
        Trio cancellation stops it: close the upstream and return or let Cancelled through. The session's next
        generation waits for that, for at most `Limits.stop_grace`.

        Args:
            session_id: the id that the service confirmed last, else the connection's, which of a principal is
                `principal/session_id`: no two of them get the same.
        """


EndedHook = Callable[[TurnReceipt, str], Awaitable[None]]


class Attentive(Service, Protocol):
    """A service that wants to know what became of its answers, so that its history can hold what the user saw."""

    async def ended(self, receipt: TurnReceipt, text: str) -> None:
        """Called once per generation that was started, before the session's next one starts (unless it takes longer
        than `Limits.hook_timeout`).

        Args:
            text: the answer; of one that was stopped or failed, what was sent of it.
        """


def hook_of(service: Service | None) -> EndedHook | None:
    """The service's `ended`, if it has one. (`isinstance` with a runtime-checkable protocol takes 9 µs.)"""
    return getattr(service, "ended", None)
