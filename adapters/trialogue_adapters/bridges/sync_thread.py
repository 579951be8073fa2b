"""A synchronous generator, in a worker thread per turn.

A thread cannot be cancelled: a stopped generator is closed at its next yield, and one that blocks for longer than the
stop grace is the engine's to abandon and count. Fenced it is at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import trio

from trialogue import Emit, Turn, TurnReceipt
from trialogue_adapters.bridges.handover import ForeignStream, Handover
from trialogue_adapters.bridges.pipeline import Pipeline, check_stream, explained, resolve, translate


def sync_service(handover: Handover, made: Any) -> SyncService:
    """The service port over an object or generator function. Raises NotAService."""
    pipeline = resolve(made, "sync")
    return (AttentiveSyncService if pipeline.ended else SyncService)(handover, pipeline)


class SyncService:
    """The service port over a blocking pipeline."""

    def __init__(self, handover: Handover, pipeline: Pipeline) -> None:
        self._handover = handover
        self._pipeline = pipeline

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        await _SyncStream(self._handover, emit, self._pipeline, turn, session_id).run()


class AttentiveSyncService(SyncService):
    """… of one that wants to hear how its answers ended."""

    async def ended(self, receipt: TurnReceipt, text: str) -> None:
        assert self._pipeline.ended
        await trio.to_thread.run_sync(self._pipeline.ended, receipt, text, abandon_on_cancel=True)


class _SyncStream(ForeignStream):
    def __init__(self, handover: Handover, emit: Emit, pipeline: Pipeline, turn: Turn, session_id: str) -> None:
        super().__init__(handover, emit)
        self._open: Callable[[], Any] = lambda: pipeline.stream(turn.content, session_id, dict(turn.options))
        self._credited = threading.Event()

    def start(self) -> None:
        # Trio's thread cache, without its limiter: an abandoned thread must not take a place from the living. It
        # does not carry context variables over by itself.
        context = copy_context()
        trio.lowlevel.start_thread_soon(lambda: context.run(self._pump), lambda outcome: None, "trialogue-sync")

    def cancel(self) -> None:
        self._credited.set()

    def resume(self) -> None:
        self._credited.set()

    # In the worker thread.

    def _pump(self) -> None:
        error: Exception | None = None
        try:
            self._iterate()
        except Exception as raised:  # noqa: BLE001 - the border
            error = explained(raised, "sync")
        except BaseException as raised:  # noqa: BLE001 - SystemExit in a thread of ours is this turn's failure
            error = RuntimeError(f"the service raised {type(raised).__name__}")
        finally:
            self.finish(None if self.fenced else error)

    def _iterate(self) -> None:
        stream: Any = self._open()
        check_stream(stream, "__iter__")
        try:
            for item in stream:
                if self.fenced:
                    break
                if not self.put(translate(item)):
                    self._credited.wait()
                    self._credited.clear()
        finally:
            if hasattr(stream, "close"):
                stream.close()
