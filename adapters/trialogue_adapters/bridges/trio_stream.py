"""A Trio async generator, driven by hand so that all that is ready leaves in one write.

`__anext__()` is stepped until it really suspends: what came until then is one batch. A generator that never suspends
is made to, once per full batch, or a flood would starve everybody else's reader.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from time import perf_counter
from typing import Any

import trio

from trialogue import Emit, ServiceEvent, Turn, TurnReceipt
from trialogue_adapters.bridges.pipeline import Pipeline, check_stream, explained, resolve, translate

BATCH = 32
"""Items per write, and per checkpoint, of a generator that does not suspend. With 16 batches per checkpoint, 32 such
floods held a newcomer's first frame up for 130 ms; with one, for 10 (and a checkpoint per 32 tokens costs 2 %)."""

HOLD = 0.001
"""Seconds that an item may wait for company while its generator goes from checkpoint to checkpoint."""


def _checkpoint_trap() -> Any:
    """What a task yields to Trio's scheduler that wants to be run again in the next pass."""
    checkpoint = trio.lowlevel.cancel_shielded_checkpoint()  # noqa: ASYNC105 - stepped by hand, outside any run
    try:
        return checkpoint.send(None)
    finally:
        checkpoint.close()


CHECKPOINT = _checkpoint_trap()


def trio_service(made: Any) -> TrioService:
    """The service port over an object or async generator function. Raises NotAService."""
    pipeline = resolve(made, "trio")
    return (AttentiveTrioService if pipeline.ended else TrioService)(pipeline)


class TrioService:
    """The service port over a Trio pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        stream = self._pipeline.stream(turn.content, session_id, dict(turn.options))
        if inspect.isawaitable(stream):
            stream = await stream
        check_stream(stream, "__anext__")
        try:
            await _pump(stream, emit)
        except RuntimeError as error:
            told = explained(error, "trio")
            if told is error:
                raise
            raise told from error
        finally:
            if hasattr(stream, "aclose"):
                with trio.CancelScope(shield=True):  # its own clean-up is the upstream's; the engine has the deadline
                    await stream.aclose()


class AttentiveTrioService(TrioService):
    """… of one that wants to hear how its answers ended."""

    async def ended(self, receipt: TurnReceipt, text: str) -> None:
        assert self._pipeline.ended
        told = self._pipeline.ended(receipt, text)
        if inspect.isawaitable(told):
            await told


class _Batch:
    """Items that have come and have not been emitted yet."""

    __slots__ = ("_emit", "_events", "_since", "has_room")

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._events: list[ServiceEvent] = []
        self._since = 0.0
        self.has_room = True

    def add(self, item: Any) -> bool:
        """Take one item. True: the batch is full."""
        if not self._events:
            self._since = perf_counter()
        self._events.append(translate(item))
        return len(self._events) >= BATCH

    def emit(self) -> None:
        if self._events:
            self.has_room = self._emit(self._events)
            self._events = []

    def before_wait(self, trap: Any) -> None:
        """The generator is about to yield `trap` to the scheduler: nothing may wait here for as long as it does.

        But a bare checkpoint is no wait: the next item may be there in the same millisecond, and a write costs more
        than the item did.
        """
        if trap is not CHECKPOINT or perf_counter() - self._since >= HOLD:
            self.emit()


@types.coroutine
def _next(upcoming: Any, before_wait: Callable[[Any], None]) -> Generator[Any, Any, Any]:
    """Await the next item by hand, so as to see what the generator yields to the scheduler, before the scheduler does.

    A generator, because a coroutine cannot yield what another one has yielded.
    """
    try:
        trap = upcoming.send(None)
        while True:
            before_wait(trap)
            try:
                answer = yield trap
            except BaseException as error:  # noqa: BLE001 - Trio cancels a task by throwing into it: pass it on
                trap = upcoming.throw(error)
            else:
                trap = upcoming.send(answer)
    except StopIteration as ready:
        return ready.value


async def _pump(stream: AsyncIterator[Any], emit: Emit) -> None:
    """Emit what comes in batches: what was ready when the generator suspended, or `BATCH` items."""
    batch = _Batch(emit)
    try:
        while True:
            upcoming: Any = stream.__anext__()
            if not hasattr(upcoming, "send"):
                upcoming = _awaited(upcoming)
            if batch.add(await _next(upcoming, batch.before_wait)) or not batch.has_room:
                batch.emit()
                await trio.lowlevel.checkpoint()
            if not batch.has_room:
                await emit.room()
    except StopAsyncIteration:
        batch.emit()
    except Exception:
        batch.emit()  # what came before it, came
        raise


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    """A coroutine of an awaitable that has no `send` (an async generator's `__anext__` has one)."""
    return await awaitable
