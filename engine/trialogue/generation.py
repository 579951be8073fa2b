"""One turn's production: runs the service, appends what it tells, reports how it ended, and sees its upstream closed.

Two guarantees stand here. The *fence*: from the instant of `stop()` nothing that the service emits reaches the log,
whether or not the service obeys. The *join*: `Closed` is told only when the upstream has ended, or after `stop_grace`,
when it is counted as abandoned; only then does the session's next generation start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from math import inf
from typing import Any

import trio

from trialogue.alarms import Alarm
from trialogue.commons import Commons
from trialogue.core.dialects import plain
from trialogue.core.errors import Fault
from trialogue.core.events import Receipt, Source, Sources, Status, Tokens
from trialogue.core.machine import Closed, Ending, Finished, Input, Outcome, Turn, Upstream, failed
from trialogue.log import Log
from trialogue.service import (
    Done,
    EndedHook,
    Failure,
    Metadata,
    Progress,
    Service,
    ServiceEvent,
    TurnReceipt,
    hook_of,
)
from trialogue.slots import Slot
from trialogue.tracing import Trace, TurnNames, current_turn

logger = logging.getLogger(__name__)

PREVIEW_CHARS = 200

LOOKS = 4
"""Looks per token timeout."""


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
    """Is it, or does it hold, something that Trio must see: our cancellation, or the user's Ctrl-C?

    A Cancelled that somebody has kept and raises again is nobody's: let through, it would end the hub.
    """
    ours = (KeyboardInterrupt, trio.Cancelled) if trio.current_effective_deadline() == -inf else KeyboardInterrupt
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(ours) is not None
    return isinstance(error, ours)


class Generation:
    """A turn that has begun: its counters, its fence, and (from `start` on) its one task.

    `__slots__`: at a thousand sessions every token finds cold caches, and an instance dictionary is one miss more.

    `confirm` is called when metadata has come, with the session id that the service confirmed (or None); `tell` puts a
    fact into the session's inbox, and `crash` an exception that is a bug of ours.
    """

    __slots__ = (
        "_abandoned",
        "_alarm",
        "_bytes",
        "_closed",
        "_commons",
        "_confirm",
        "_crash",
        "_ending",
        "_finished",
        "_first_offset",
        "_holding",
        "_late_tokens",
        "_limits",
        "_log",
        "_looks",
        "_names",
        "_outcome",
        "_returned",
        "_scope",
        "_seen",
        "_service",
        "_settled",
        "_slot",
        "_sources_told",
        "_started_at",
        "_stopped_at",
        "_tell",
        "_trace",
        "acked",
        "begun_at",
        "fenced",
        "informed",
        "meta",
        "opened",
        "receipt",
        "session_id",
        "started",
        "tokens",
        "turn",
    )

    def __init__(
        self,
        turn: Turn,
        names: TurnNames,
        trace: Trace,
        session_id: str,
        log: Log,
        commons: Commons,
        *,
        tell: Callable[[Input], None],
        confirm: Callable[[str, str | None], None],
        crash: Callable[[BaseException], None],
    ) -> None:
        self.turn = turn
        self._names, self._trace = names, trace
        self.session_id = session_id
        self.begun_at = trio.current_time()
        self.tokens = 0
        self.acked: int | None = None
        self.meta: dict[str, Any] = {}
        self.receipt: Receipt | None = None
        self.started = False
        self.opened = False
        self.informed = False  # the pipeline has told its metadata
        self.fenced = False  # stopped, or its outcome told: nothing more reaches the log
        self._log, self._commons, self._limits = log, commons, commons.limits
        self._tell, self._confirm, self._crash = tell, confirm, crash
        self._first_offset = log.end
        self._bytes = 0
        self._sources_told = False
        self._outcome: Outcome | None = None
        self._ending: Ending | None = None
        self._started_at = self.begun_at
        self._looks = 0
        self._seen = 0
        self._stopped_at: float | None = None
        self._holding = False
        self._late_tokens = 0
        self._scope = trio.CancelScope()
        self._service: Service | None = None
        self._slot: Slot | None = None
        self._returned = False
        self._closed = False
        self._abandoned = False
        self._settled = False
        self._finished = False
        self._alarm: Alarm | None = None

    def __repr__(self) -> str:
        phase = "closed" if self._closed else "stopped" if self.fenced else "open"
        return f"<Generation {self.turn.message_id!r} {phase}, {self.tokens} tokens>"

    @property
    def elapsed_ms(self) -> int:
        return int((trio.current_time() - self.begun_at) * 1000)

    # The session's side.

    def start(self) -> bool:
        """Open the generation as soon as there is a place for it. False: there is none yet."""
        self.started = True
        self._slot = self._commons.slots.claim(self._names.principal, self._open)
        if not self.opened:
            self._await_service()
        return self.opened

    def _await_service(self) -> None:
        """Without a service there are no places. It may be late, on a node that takes a turn over before its own is
        open; but for a turn that is long."""
        patience = self._limits.first_token_timeout
        if self.opened or self.fenced or not patience:
            return
        now = trio.current_time()
        if self._commons.service() is None and now >= self.begun_at + patience:
            self._give_up("WS-002")
        else:
            self._set_alarm(now + patience, self._await_service)

    def _open(self) -> None:
        """Run the service: a task among the hub's, which ends by itself and never raises an Exception."""
        self._service = service = self._commons.service()
        assert service, "a place was given without a service"
        self.opened = True
        self._commons.census.open += 1
        self._started_at = trio.current_time()
        if self._slot:  # it had to wait, and its client was told so
            self._log.extend([Status(self.turn.message_id, "retrieving")])
        self._trace.enter("retrieving")
        with self._trace.context():
            self._commons.nursery.start_soon(self._drive, service)
        self._look()

    def stop(self) -> None:
        """Fence and cancel. Synchronous; `Closed` is told within `stop_grace` and the service's hook. Idempotent."""
        if self._stopped_at is None:
            self.fenced = True
            self._stopped_at = trio.current_time()
            self._trace.enter("stopping")
            self._scope.cancel()
            if self.started and not self.opened:
                self._closed = True  # there is no upstream
                self._free_slot()
                self._settle()
            elif not self._closed:
                self._set_alarm(self._stopped_at + self._limits.stop_grace, self._abandon)

    def ended(self, ending: Ending) -> None:
        """The turn's end is in the log. Only the session decides which it is, so the receipt waits for this."""
        if self._ending is None:
            self._ending = ending
            self._settle()

    def ack(self, index: int) -> None:
        """A client has shown tokens up to `index`; more than were made is a lie, and clamped."""
        self.acked = max(self.acked or 0, min(index + 1, self.tokens))

    # The service's side: the `Emit` port.

    def __call__(self, batch: Sequence[ServiceEvent]) -> bool:
        """Append a batch to the log. Hot: one pass, one append, no await; a fenced batch is dropped and counted.

        `join` is the fastest way to ask whether all of a batch are chunks; nearly always they are. From here to the
        socket a token costs 3.5 µs (on its own; a third of that in a batch), of which the write(2) is 1.2.
        """
        if self.fenced:
            self._late_tokens += sum(type(event) is str for event in batch)
            return True
        log = self._log
        try:
            try:
                text = "".join(batch)  # type: ignore[arg-type]
            except TypeError:
                self._append_mixed(batch)
            else:
                size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
                if self.tokens and self._bytes + size <= self._limits.max_answer_bytes and "" not in batch:
                    self._bytes += size
                    log.append_tokens(Tokens(self.turn.message_id, self.tokens, batch), size)  # type: ignore[arg-type]
                    self.tokens += len(batch)
                else:
                    self._append_texts([event for event in batch if event])  # type: ignore[misc]
            if self._outcome is not None:
                self._tell(Finished(self.turn.message_id, self._outcome))
        except Exception as error:  # noqa: BLE001 - a bug of ours must reach the session, not the bridge
            self.stop()
            self._crash(error)
        return log.has_room(self._limits.window)

    async def room(self) -> None:
        self._holding = True
        try:
            await self._log.room(self._limits.window)
        finally:
            self._holding = False

    def _append_texts(self, texts: list[str]) -> None:
        """Non-empty chunks that are not simply the next ones: the turn's first, or more than its size allows."""
        sizes = [len(text.encode("utf-8", "replace")) for text in texts]
        room = self._limits.max_answer_bytes - self._bytes
        fitting = sum(total <= room for total in accumulate(sizes))
        if fitting:
            if not self.tokens:
                self._commons.meter.first_token(trio.current_time() - self.begun_at)
                self._trace.enter("generating")
                self._log.extend([Status(self.turn.message_id, "generating")])
            self._bytes += sum(sizes[:fitting])
            self._log.append_tokens(Tokens(self.turn.message_id, self.tokens, texts[:fitting]), sum(sizes[:fitting]))
            self.tokens += fitting
        if fitting < len(texts):
            self._conclude(Outcome(Ending.COMPLETED, "length"))
            self._scope.cancel()

    def _append_mixed(self, batch: Sequence[ServiceEvent]) -> None:
        """Chunks and other events, in order, up to the first that decides the outcome."""
        for is_text, run in groupby(batch, lambda event: type(event) is str):
            if is_text:
                self._append_texts([event for event in run if event])  # type: ignore[misc]
                if self._outcome:
                    return
                continue
            for event in run:
                self._append(event)
                if self._outcome:
                    return

    def _append(self, event: ServiceEvent) -> None:
        message_id = self.turn.message_id
        try:
            match event:
                case Metadata(sources, session_id, data):
                    self._append_sources(sources)
                    self._take_metadata(session_id)
                    if data:
                        self._log.extend([Status(message_id, "pipeline", {"data": plain(data)})])
                case Done(sources, meta):
                    self.meta = plain(meta)
                    self._append_sources(sources)
                    self._complete()
                case Failure(fault):
                    self._conclude(failed(fault))
                case Progress(data):
                    self._log.extend([Status(message_id, "pipeline", {"data": plain(data)})])
                case _:
                    raise ValueError(f"a service emitted {type(event).__name__}, which is no service event")
        except ValueError as error:
            logger.warning("the service told something unusable", exc_info=error, extra=self._names.fields())
            self._conclude(failed(Fault("RAG-001")))
            self._scope.cancel()

    def _take_metadata(self, session_id: str | None) -> None:
        """That it has come, and the session id that the service confirms with it."""
        another = session_id is not None and session_id != self.session_id
        if session_id and another:
            self.session_id = session_id
            self._log.extend([Status(self.turn.message_id, "retrieving", {"session_id": session_id})])
        if another or not self.informed:
            self.informed = True
            self._confirm(self.turn.message_id, session_id if another else None)

    def _append_sources(self, sources: Sequence[Any] | None) -> None:
        if sources and not self._sources_told:
            told = [filled(source) for source in plain(sources)]
            self._sources_told = True
            self._log.extend([Sources(self.turn.message_id, told)])

    def _complete(self) -> None:
        """The answer is whole: its sources, if nobody told any, and the outcome."""
        if not self._sources_told:
            self._sources_told = True
            self._log.extend([Sources(self.turn.message_id, ())])
        self._conclude(Outcome(Ending.COMPLETED, "stop"))

    def _conclude(self, outcome: Outcome) -> None:
        """How it ends is known: nothing more is taken. It may tidy up after that, but not for ever."""
        self._outcome = outcome
        self.fenced = True
        if not self._returned:
            self._set_alarm(trio.current_time() + self._limits.hook_timeout, self.stop)

    # Deadlines.

    def _set_alarm(self, when: float, call: Callable[[], None]) -> None:
        """One alarm at a time: the next thing that this generation must not outlast."""
        if self._alarm:
            self._alarm.cancel()
        self._alarm = self._commons.alarms.set(when, call)

    def _look(self) -> None:
        """Look whether patience has ended, and when to look again.

        Silence between tokens is found by looking a few times per timeout whether there are more than at the last
        look: a stalled turn fails after the timeout or up to a `1/LOOKS` later, and no token reads a clock.
        """
        if self.fenced or self._closed:
            return
        limits, now = self._limits, trio.current_time()
        if self.tokens > self._seen or self._holding:
            self._seen, self._looks = self.tokens, 0
        elif self.tokens:
            self._looks += 1
        if limits.turn_timeout and now >= self._started_at + limits.turn_timeout:
            self._give_up("RAG-004")
        elif limits.token_timeout and self._looks >= LOOKS:
            self._give_up("RAG-003")
        elif limits.first_token_timeout and not self.tokens and now >= self._started_at + limits.first_token_timeout:
            self._give_up("RAG-002")
        else:
            first = 0.0 if self.tokens else limits.first_token_timeout
            deadlines = [self._started_at + limit for limit in (limits.turn_timeout, first) if limit]
            self._set_alarm(min(*deadlines, now + (limits.token_timeout / LOOKS or inf), inf), self._look)

    def _give_up(self, code: str) -> None:
        self._fail(Fault(code))
        self.stop()

    def _abandon(self) -> None:
        """The stop grace is over: the upstream may compute on, but nobody waits for it any more."""
        if not self._closed:
            self._abandoned = True
            self._commons.census.abandoned += 1
            self._commons.meter.abandoned()
            logger.warning("abandoned: its upstream did not close", extra=self._names.fields())
            self._free_slot()
            self._settle()

    def _free_slot(self) -> None:
        if self._slot:
            self._commons.slots.release(self._slot)

    # The task, and what follows it.

    async def _drive(self, service: Service) -> None:
        """Run the service. Whatever it raises is data; whatever it does, its end is noticed."""
        current_turn.set(self._names)
        try:
            with self._scope:
                await service.run(self.turn, self.session_id, self)
                self._returned = True
                if not self.fenced:
                    self((Done(),))
        except BaseException as error:
            if _is_trios(error):
                raise
            # The border: whatever a pipeline raises, SystemExit too, is its turn's outcome and nobody else's.
            logger.warning("the service failed", exc_info=error, extra=self._names.fields())
            self._fail(Fault("RAG-001"))
        finally:
            self._close()

    def _fail(self, fault: Fault) -> None:
        if not self.fenced:
            self._conclude(failed(fault))
            self._tell(Finished(self.turn.message_id, failed(fault)))

    def _close(self) -> None:
        """The upstream has ended."""
        commons = self._commons
        self._closed = True
        commons.census.open -= 1
        if self._abandoned:
            commons.census.abandoned -= 1
        if self._alarm and not self._settled:
            self._alarm.cancel()
        if self._stopped_at is not None:
            commons.meter.upstream_closed(trio.current_time() - self._stopped_at)
        if self._late_tokens:
            commons.meter.wasted(self._late_tokens)
        self._free_slot()
        self._settle()

    def _settle(self) -> None:
        """Once the turn's end is in the log, and its upstream has closed or is given up: receipt, hook, `Closed`."""
        if self._settled or self._ending is None or not (self._closed or self._abandoned):
            return
        self._settled = True
        self._log.after(self._report, self._report)  # what waits for a store has not been sent to anybody

    def _report(self) -> None:
        assert self._ending
        upstream: Upstream = "closed" if self._closed else "abandoned"
        try:
            sent, chars, text = self._sent(self._ending)
            self.receipt = Receipt(self.turn.message_id, self.tokens, sent, self.acked, chars, upstream)
            self._commons.meter.settled(self.tokens, sent)
            self._trace.settled(self.receipt)
            hook = hook_of(self._service)
            if hook and self.opened:
                told = TurnReceipt.of(self.receipt, self.session_id, self._ending)
                with self._trace.context():
                    self._commons.nursery.start_soon(self._tell_service, hook, told, text)
                self._set_alarm(trio.current_time() + self._limits.hook_timeout, self._finish)
                return
        except Exception as error:  # noqa: BLE001 - a bug of ours: the session's supervisor decides
            self._crash(error)
        self._finish()

    async def _tell_service(self, hook: EndedHook, receipt: TurnReceipt, text: str) -> None:
        """Tell it how the turn ended. The session waits for that, but not for longer than the hook's timeout."""
        current_turn.set(self._names)
        try:
            with trio.move_on_after(self._limits.hook_timeout) as patience:
                await hook(receipt, text)
            if patience.cancelled_caught:
                logger.warning("the service's `ended` hook took too long", extra=self._names.fields())
        except BaseException as error:
            if _is_trios(error):
                raise
            logger.warning("the service's `ended` hook failed", exc_info=error, extra=self._names.fields())
        self._finish()

    def _finish(self) -> None:
        """The slot is free: told once, by the hook's end or by the end of patience with it."""
        if not self._finished:
            self._finished = True
            self._tell(Closed(self.turn.message_id, "closed" if self._closed else "abandoned"))

    def _sent(self, ending: Ending) -> tuple[int, int, str]:
        """Tokens that at least one connection was handed, their characters, and the answer as the user has it.

        Of a completed turn that is all of it: whoever is away will be sent the rest. Of any other, what was sent.
        """
        entries = self._log.read(self._first_offset, self._log.end)  # kept: the session pins it until we have settled
        sent: list[str] = []
        texts: list[str] = []
        for offset, event in entries:
            if isinstance(event, Tokens) and event.message_id == self.turn.message_id:
                sent += event.texts[: max(0, self._log.sent_up_to(offset) - offset)]
                texts += event.texts
        return len(sent), sum(map(len, sent)), "".join(texts if ending is Ending.COMPLETED else sent)
