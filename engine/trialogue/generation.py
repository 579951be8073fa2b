"""One turn's production: runs the service, appends what it tells, reports how it ended, and sees its upstream closed.

Two guarantees stand here. The *fence*: from the instant of `stop()` nothing that the service emits reaches the log,
whether or not the service obeys. The *join*: `Closed` is told only when the upstream has ended, or after `stop_grace`,
when it is counted as abandoned; only then does the session's next generation start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import trio

from trialogue.core.dialects import plain
from trialogue.core.errors import Fault
from trialogue.core.events import Event, Receipt, Source, Sources, Status, Tokens
from trialogue.core.limits import Limits
from trialogue.core.machine import Closed, Ending, Finished, Input, Outcome, Turn, Upstream, failed
from trialogue.log import Log
from trialogue.metrics import Meter
from trialogue.service import Attentive, Done, Failure, Metadata, Progress, Service, ServiceEvent, TurnReceipt

logger = logging.getLogger(__name__)

PREVIEW_CHARS = 200


@dataclass(slots=True)
class Census:
    """Generations of the whole process: open ones, and abandoned upstreams that may still be computing."""

    open: int = 0
    abandoned: int = 0


def filled(source: Any) -> Source:
    """A source with the three keys that clients rely on, taken from what it has; every other key as it was."""
    if not isinstance(source, dict):
        source = {"title": str(source)}
    about = source.get("metadata") if isinstance(source.get("metadata"), dict) else {}
    title = source.get("title") or source.get("document") or about.get("source") or source.get("source") or ""
    score = source.get("score", source.get("relevance", about.get("score")))
    preview = source.get("content_preview") or str(source.get("content") or "")[:PREVIEW_CHARS]
    return {**source, "title": str(title), "score": score, "content_preview": preview}


def _is_trios(error: BaseException) -> bool:
    """Is it, or does it hold, something that Trio must see: its cancellation, or the user's Ctrl-C?"""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup((trio.Cancelled, KeyboardInterrupt)) is not None
    return isinstance(error, trio.Cancelled | KeyboardInterrupt)


class Generation:
    """A turn that has begun: its counters, its fence, and (from `start` on) its tasks.

    `confirm` is called with a session id that the service confirmed; `tell` puts a fact into the session's inbox, and
    `crash` an exception that is a bug of ours.
    """

    def __init__(
        self,
        turn: Turn,
        session_id: str,
        log: Log,
        limits: Limits,
        meter: Meter,
        census: Census,
        *,
        tell: Callable[[Input], None],
        confirm: Callable[[str], None],
        crash: Callable[[BaseException], None],
    ) -> None:
        self.turn = turn
        self.session_id = session_id
        self.begun_at = trio.current_time()
        self.tokens = 0
        self.acked: int | None = None
        self.meta: dict[str, Any] = {}
        self.receipt: Receipt | None = None
        self.started = False
        self._log, self._limits, self._meter, self._census = log, limits, meter, census
        self._tell, self._confirm, self._crash = tell, confirm, crash
        self._first_offset = log.end
        self._bytes = 0
        self._sources_told = False
        self._outcome: Outcome | None = None
        self._outcome_at = inf
        self._stopped_at = inf
        self._ending: Ending | None = None
        self._started_at = self._progress_at = self.begun_at
        self._holding = False
        self._late_tokens = 0
        self._scope = trio.CancelScope()
        self._closed = False
        self._nudge = trio.Event()

    def __repr__(self) -> str:
        phase = "closed" if self._closed else "stopped" if self.fenced else "open"
        return f"<Generation {self.turn.message_id!r} {phase}, {self.tokens} tokens>"

    @property
    def fenced(self) -> bool:
        """Nothing more reaches the log."""
        return self._stopped_at < inf or self._outcome is not None

    @property
    def elapsed_ms(self) -> int:
        return int((trio.current_time() - self.begun_at) * 1000)

    # The session's side.

    def start(self, service: Service, nursery: trio.Nursery) -> None:
        """Open the generation: two tasks in `nursery`, which end by themselves and never raise an Exception."""
        self.started = True
        self._census.open += 1
        self._started_at = self._progress_at = trio.current_time()
        nursery.start_soon(self._drive, service)
        nursery.start_soon(self._oversee, service)

    def stop(self) -> None:
        """Fence and cancel. Synchronous; `Closed` is told within `stop_grace` and the service's hook. Idempotent."""
        if self._stopped_at == inf:
            self._stopped_at = trio.current_time()
            self._scope.cancel()
            self._wake()

    def ended(self, ending: Ending) -> None:
        """The turn's end is in the log. Only the session decides which it is, so the receipt waits for this."""
        self._ending = ending
        self._wake()

    def ack(self, index: int) -> None:
        """A client has shown tokens up to `index`; more than were made is a lie, and clamped."""
        self.acked = max(self.acked or 0, min(index + 1, self.tokens))

    # The service's side: the `Emit` port.

    def __call__(self, batch: Sequence[ServiceEvent]) -> None:
        """Append a batch to the log. Hot: one pass, one append, no await; a fenced batch is dropped and counted."""
        if self.fenced:
            self._late_tokens += sum(type(event) is str for event in batch)
            return
        try:
            events: list[Event] = []
            texts: list[str] = []
            for event in batch:
                if type(event) is str:
                    if event:
                        texts.append(event)
                    continue
                self._add_tokens(texts, events)
                texts = []
                if self._outcome is None:
                    self._add(event, events)
                if self._outcome:
                    break
            self._add_tokens(texts, events)
            if events:
                self._log.extend(events)
            if self._outcome:
                self._tell(Finished(self.turn.message_id, self._outcome))
        except Exception as error:  # noqa: BLE001 - a bug of ours must reach the session, not the bridge
            self.stop()
            self._crash(error)

    def has_room(self) -> bool:
        return self._log.has_room(self._limits.window)

    async def room(self) -> None:
        self._holding = True
        try:
            await self._log.room(self._limits.window)
        finally:
            self._holding = False
            self._progress_at = trio.current_time()
            self._wake()

    def _add_tokens(self, texts: list[str], events: list[Event]) -> None:
        if not texts or self._outcome:
            return
        joined = "".join(texts)
        size = len(joined) if joined.isascii() else len(joined.encode("utf-8", "replace"))
        cut = self._bytes + size > self._limits.max_answer_bytes
        if cut:
            texts = self._cut(texts)
        else:
            self._bytes += size
        if texts:
            self._progress_at = trio.current_time()
            if not self.tokens:
                self._meter.first_token(self._progress_at - self.begun_at)
                self._wake()  # from now on there is less patience; further tokens only give more
                events.append(Status(self.turn.message_id, "generating"))
            events.append(Tokens(self.turn.message_id, self.tokens, texts))
            self.tokens += len(texts)
        if cut:
            self._conclude(Outcome(Ending.COMPLETED, "length"))
            self._scope.cancel()

    def _cut(self, texts: list[str]) -> list[str]:
        """The leading texts that still fit into the answer's size."""
        fitting: list[str] = []
        for text in texts:
            self._bytes += len(text.encode("utf-8", "replace"))
            if self._bytes > self._limits.max_answer_bytes:
                break
            fitting.append(text)
        return fitting

    def _add(self, event: ServiceEvent, events: list[Event]) -> None:
        message_id = self.turn.message_id
        try:
            match event:
                case Metadata(sources, session_id, data):
                    self._add_sources(sources, events)
                    if session_id and session_id != self.session_id:
                        self._confirm(session_id)
                        self.session_id = session_id
                        events.append(Status(message_id, "retrieving", {"session_id": session_id}))
                    if data:
                        events.append(Status(message_id, "pipeline", {"data": plain(data)}))
                case Done(sources, meta):
                    self.meta = plain(meta)
                    self._add_sources(sources, events)
                    self._complete(events)
                case Failure(fault):
                    self._conclude(failed(fault))
                case Progress(data):
                    events.append(Status(message_id, "pipeline", {"data": plain(data)}))
                case _:
                    raise ValueError(f"a service emitted {type(event).__name__}, which is no service event")
        except ValueError as error:
            logger.warning("turn %s: the service told something unusable: %s", message_id, error)
            self._conclude(failed(Fault("RAG-001")))
            self._scope.cancel()

    def _add_sources(self, sources: Sequence[Any] | None, events: list[Event]) -> None:
        if sources and not self._sources_told:
            self._sources_told = True
            events.append(Sources(self.turn.message_id, [filled(source) for source in plain(sources)]))

    def _complete(self, events: list[Event]) -> None:
        """The answer is whole: its sources, if nobody told any, and the outcome."""
        if not self._sources_told:
            self._sources_told = True
            events.append(Sources(self.turn.message_id, ()))
        self._conclude(Outcome(Ending.COMPLETED, "stop"))

    def _conclude(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._outcome_at = trio.current_time()
        self._wake()

    # The tasks.

    async def _drive(self, service: Service) -> None:
        """Run the service. Whatever it raises is data; whatever it does, its end is noticed."""
        try:
            with self._scope:
                await service.run(self.turn, self.session_id, self)
                if not self.fenced:
                    self((Done(),))
        except BaseException as error:
            if _is_trios(error):
                raise
            # The border: whatever a pipeline raises, SystemExit too, is its turn's outcome and nobody else's.
            logger.warning("turn %s: the service raised %r", self.turn.message_id, error, exc_info=error)
            self._fail(Fault("RAG-001"))
        finally:
            self._closed = True
            self._census.open -= 1
            if self.receipt and self.receipt.upstream == "abandoned":
                self._census.abandoned -= 1
            if self._late_tokens:
                self._meter.wasted(self._late_tokens)
            self._wake()

    def _fail(self, fault: Fault) -> None:
        if not self.fenced:
            self._conclude(failed(fault))
            assert self._outcome
            self._tell(Finished(self.turn.message_id, self._outcome))

    async def _oversee(self, service: Service) -> None:
        """Keep the deadlines; then settle: receipt, the service's hook, `Closed`."""
        try:
            await self._until_closed_or_abandoned()
            ending = await self._until_ended()
            if self._stopped_at < inf and self._closed:
                self._meter.upstream_closed(trio.current_time() - self._stopped_at)
            upstream: Upstream = "closed" if self._closed else "abandoned"
            if not self._closed:
                self._census.abandoned += 1
                self._meter.abandoned()
                logger.warning("turn %s: abandoned, its upstream did not close", self.turn.message_id)
            sent, chars, text = self._sent(ending)
            self.receipt = Receipt(self.turn.message_id, self.tokens, sent, self.acked, chars, upstream)
            if isinstance(service, Attentive):
                await self._tell_service(service, TurnReceipt.of(self.receipt, self.session_id, ending), text)
        except Exception as error:  # noqa: BLE001 - a bug of ours: the session's supervisor decides
            upstream = "abandoned"
            self._crash(error)
        self._tell(Closed(self.turn.message_id, upstream))

    async def _until_closed_or_abandoned(self) -> None:
        while not self._closed:
            self._nudge = trio.Event()
            deadline, code = self._deadline()
            with trio.move_on_at(deadline) as patience:
                await self._nudge.wait()
            if not patience.cancelled_caught or self._deadline()[0] > trio.current_time():
                continue  # something has changed, or there was progress meanwhile
            if self._stopped_at < inf:
                return
            if code:
                self._fail(Fault(code))
            self.stop()

    async def _until_ended(self) -> Ending:
        while self._ending is None:
            self._nudge = trio.Event()
            await self._nudge.wait()
        return self._ending

    def _deadline(self) -> tuple[float, str]:
        """When patience ends next, and which error that is."""
        limits = self._limits
        if self._stopped_at < inf:
            return self._stopped_at + limits.stop_grace, ""
        if self._outcome:
            return self._outcome_at + limits.hook_timeout, ""
        whole = self._started_at + (limits.turn_timeout or inf)
        if self._holding:
            return whole, "RAG-004"
        if self.tokens:
            quiet, code = self._progress_at + (limits.token_timeout or inf), "RAG-003"
        else:
            quiet, code = self._started_at + (limits.first_token_timeout or inf), "RAG-002"
        return (whole, "RAG-004") if whole <= quiet else (quiet, code)

    async def _tell_service(self, service: Attentive, receipt: TurnReceipt, text: str) -> None:
        try:
            with trio.move_on_after(self._limits.hook_timeout) as patience:
                await service.ended(receipt, text)
            if patience.cancelled_caught:
                logger.warning("turn %s: the service's `ended` hook took too long", receipt.message_id)
        except BaseException as error:
            if _is_trios(error):
                raise
            logger.warning("turn %s: the service's `ended` hook raised %r", receipt.message_id, error)

    def _sent(self, ending: Ending) -> tuple[int, int, str]:
        """Tokens that at least one connection was handed, their characters, and the answer as the user has it.

        Of a completed turn that is all of it: whoever is away will be sent the rest. Of any other, what was sent.
        """
        entries = self._log.read(self._first_offset, self._log.end)  # kept: the session pins it until we have settled
        furthest = self._log.furthest
        sent: list[str] = []
        texts: list[str] = []
        for offset, event in entries:
            if isinstance(event, Tokens) and event.message_id == self.turn.message_id:
                sent += event.texts[: max(0, furthest - offset)]
                texts += event.texts
        return len(sent), sum(map(len, sent)), "".join(texts if ending is Ending.COMPLETED else sent)

    def _wake(self) -> None:
        self._nudge.set()
