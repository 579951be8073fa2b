"""From a foreign thread into Trio, in batches: one deque, one wake-up for all that is ready, credit per stream.

Nothing is awaited and no task is woken per token: the foreign side appends to a deque and asks Trio once to drain it.
`drain` runs inside Trio's own machinery, where an exception would kill the run, so each stream is guarded. A stream
that was stopped is fenced on both sides; its end is waited for (the join), until `release` gives it up at shutdown.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Any, Final

import trio

from trialogue import Emit, ServiceEvent

logger = logging.getLogger(__name__)

WINDOW: Final = 64
"""Items a stream may be ahead of Trio. Larger gains nothing (measured 32 to 64), smaller costs a stop per window."""


class Ended:
    """A stream's last word: it has closed, with an error or without."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class ForeignStream(ABC):
    """One turn's stream outside Trio. The foreign side calls `put` and `finish`; Trio calls `run`."""

    __slots__ = (
        "_delivered",
        "_emit",
        "_end",
        "_handover",
        "_put",
        "_signal",
        "_starving",
        "_taken",
        "_withheld",
        "fenced",
    )

    def __init__(self, handover: Handover, emit: Emit) -> None:
        self.fenced = False
        self._handover = handover
        self._emit = emit
        self._put = 0
        self._taken = 0
        self._delivered = 0
        self._withheld = False
        self._starving = False
        self._end: Ended | None = None
        self._signal = trio.Event()

    def __repr__(self) -> str:
        phase = "ended" if self._end else "fenced" if self.fenced else "open"
        return f"<{type(self).__name__} {phase}, {self._put} put, {self._taken} taken>"

    # The foreign side.

    def put(self, event: ServiceEvent) -> bool:
        """Hand one event over. False: the credit is used up, wait for `resume` before the next."""
        self._put += 1
        self._handover.put(self, event)
        if self._put - self._taken < WINDOW:
            return True
        self._starving = True  # before the second look: Trio either sees this, or has made room already
        return self._put - self._taken < WINDOW

    def finish(self, error: BaseException | None) -> None:
        """The upstream has closed; nothing is put after this."""
        self._handover.put(self, Ended(error))

    @abstractmethod
    def start(self) -> None:
        """Begin, over there."""

    @abstractmethod
    def cancel(self) -> None:
        """Ask the upstream to close. It is fenced already, and may refuse."""

    @abstractmethod
    def resume(self) -> None:
        """There is credit again."""

    # The Trio side.

    async def run(self) -> None:
        """Until the upstream has closed; raises what it raised. Cancelled: fence it, and wait until it has closed."""
        self._handover.streams.add(self)
        self.start()
        try:
            while self._end is None:
                self._signal = trio.Event()
                if self._withheld:
                    await self._emit.room()
                    self._withheld = False
                    self._credit()
                if self._end is None:
                    await self._signal.wait()
        except trio.Cancelled:
            self.fenced = True
            self.cancel()
            await self._join()
            raise
        finally:
            self._handover.streams.discard(self)
        if self._end.error is not None:
            raise self._end.error

    async def _join(self) -> None:
        with trio.CancelScope(shield=True) as scope:
            self._handover.joins.add(scope)
            try:
                while self._end is None and not self._handover.released:
                    self._signal = trio.Event()
                    await self._signal.wait()
            finally:
                self._handover.joins.discard(scope)

    def deliver(self, batch: list[Any]) -> None:
        """Emit what a drain has brought; give credit back while the readers keep up. Hot: once per batch."""
        if type(batch[-1]) is Ended:
            self._end = batch.pop()
        self._delivered += len(batch)
        if not batch or self._emit(batch) or self.fenced:  # of a turn that was stopped: dropped there, and counted
            self._credit()
        else:
            self._withheld = True
            self._signal.set()
        if self._end is not None:
            self._signal.set()

    def _credit(self) -> None:
        self._taken = self._delivered  # before the look: see `put`
        if self._starving:
            self._starving = False
            self.resume()


class Handover:
    """The way from one foreign thread (or many) into Trio. Make it on the Trio side."""

    def __init__(self) -> None:
        self.streams: set[ForeignStream] = set()
        self.joins: set[trio.CancelScope] = set()
        self.released = False
        self._token = trio.lowlevel.current_trio_token()
        self._items: deque[tuple[ForeignStream, ServiceEvent | Ended]] = deque()
        self._asked = False

    def __repr__(self) -> str:
        return f"<Handover {len(self.streams)} streams, {len(self._items)} items>"

    def put(self, stream: ForeignStream, event: ServiceEvent | Ended) -> None:
        """Called in a foreign thread. Appending to a deque is atomic; one wake-up is under way at most."""
        self._items.append((stream, event))
        if not self._asked:
            self._asked = True
            with suppress(trio.RunFinishedError):  # nobody is left to hear of it
                self._token.run_sync_soon(self._drain)

    def release(self) -> None:
        """Stop waiting for upstreams that do not close: the process is leaving."""
        self.released = True
        for scope in tuple(self.joins):
            scope.cancel()

    def _drain(self) -> None:
        self._asked = False  # before the first look: what is appended later asks again
        ready: dict[ForeignStream, list[ServiceEvent | Ended]] = {}
        items = self._items
        while items:
            stream, event = items.popleft()
            if stream in ready:
                ready[stream].append(event)
            else:
                ready[stream] = [event]
        for stream, batch in ready.items():
            try:
                stream.deliver(batch)
            except Exception:
                logger.exception("a stream's batch could not be delivered")
