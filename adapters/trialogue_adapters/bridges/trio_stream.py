"""A Trio async generator, driven by hand so that all that is ready leaves in one write.

`__anext__()` is stepped until it really suspends: what came until then is one batch. A generator that never suspends
is made to, once per full batch, or a flood would starve everybody else's reader.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from typing import Any

import trio

from trialogue import Emit, ServiceEvent, Turn, TurnReceipt
from trialogue_adapters.bridges.pipeline import Pipeline, resolve, translate

BATCH = 32
"""Items per write, and per checkpoint, of a generator that does not suspend. With 16 batches per checkpoint, 32 such
floods held a newcomer's first frame up for 130 ms; with one, for 10 (and a checkpoint per 32 tokens costs 2 %)."""


def trio_service(made: Any) -> TrioService:
    """The service port over an object or async generator function. Raises NotAService."""
    pipeline = resolve(made)
    return (AttentiveTrioService if pipeline.ended else TrioService)(pipeline)


class TrioService:
    """The service port over a Trio pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        stream = self._pipeline.stream(turn.content, session_id, dict(turn.options))
        if inspect.isawaitable(stream):
            stream = await stream
        try:
            await _pump(stream, emit)
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


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, Any], trap: Any) -> Generator[Any, Any, Any]:
    """Await a coroutine that has been stepped once already and has yielded `trap`."""
    try:
        while True:
            try:
                answer = yield trap
            except BaseException as error:  # noqa: BLE001 - Trio cancels a task by throwing into it: pass it on
                trap = coroutine.throw(error)
            else:
                trap = coroutine.send(answer)
    except StopIteration as finished:
        return finished.value


async def _pump(stream: AsyncIterator[Any], emit: Emit) -> None:
    """Emit batches: as much as is ready, or `BATCH` items; then whatever suspends the generator suspends us."""
    batch: list[ServiceEvent] = []
    has_room = True
    while True:
        if not has_room:
            await emit.room()
        upcoming: Any = stream.__anext__()
        if not hasattr(upcoming, "send"):
            upcoming = _awaited(upcoming)
        try:
            try:
                trap = upcoming.send(None)
            except StopIteration as ready:
                item = ready.value
            else:  # it waits for something: nothing of ours may be awaited before that
                if batch:
                    has_room = emit(batch)
                    batch = []
                item = await _go_on(upcoming, trap)
            batch.append(translate(item))
        except StopAsyncIteration:
            break
        except Exception:
            if batch:
                emit(batch)  # what came before it, came
            raise
        if len(batch) >= BATCH or not has_room:
            has_room = emit(batch)
            batch = []
            await trio.lowlevel.checkpoint()
    if batch:
        emit(batch)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    """A coroutine of an awaitable that has no `send` (an async generator's `__anext__` has one)."""
    return await awaitable
