"""An asyncio ChatService, in one thread with a loop of its own (uvloop's when it is installed).

The thread is owned: opened before the first turn, joined at exit. The service's generator is opened, iterated and
closed inside one asyncio task, so it never crosses a border bare. Cancelling is a fence plus `task.cancel()`; a
service that swallows it ends at its next yield, one that never yields again is the engine's to abandon.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar

import trio

from trialogue import Emit, Turn, TurnReceipt
from trialogue_adapters.bridges.handover import ForeignStream, Handover
from trialogue_adapters.bridges.pipeline import Pipeline, check_stream, explained, resolve, translate

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEAVE_SECONDS = 1.0
"""How long the thread may take to end; then it is left behind (it is a daemon)."""


class LoopEnded(RuntimeError):
    """The thread's loop has ended, and nobody had asked it to."""


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class ServiceLoop(Protocol):
    """An asyncio loop with a place for a service: a thread of our own, or the host's."""

    loop: asyncio.AbstractEventLoop

    @property
    def handover(self) -> Handover: ...

    async def call(self, function: Callable[..., Awaitable[T] | T], *args: Any) -> T:
        """Call (and await) something inside the loop. Cancelled: it is cancelled there, and not waited for."""


class AsyncioThread:
    """A thread that runs an asyncio loop for as long as `open`'s block."""

    def __init__(self) -> None:
        self.handover = Handover()
        self.loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._ready = trio.Event()
        self._over = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncGenerator[AsyncioThread, None]:
        """Start the thread; stop it at the end of the block, which waits at most `LEAVE_SECONDS`."""
        self = cls()
        threading.Thread(target=self._main, name="trialogue-asyncio", daemon=True).start()
        await self._ready.wait()
        try:
            yield self
        finally:
            self.handover.release()
            with suppress(RuntimeError):  # the loop is closed: the thread has died
                self.loop.call_soon_threadsafe(self._stop.set)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_SECONDS):
                await self._over.wait()

    async def watch(self) -> None:
        """Raises LoopEnded when the loop has ended by itself: without it no turn can be answered."""
        await self._over.wait()
        raise LoopEnded("the service's event loop has ended: something in it called for the process's exit")

    def _main(self) -> None:
        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            self.loop.set_exception_handler(_tell_of_a_failure)
            self._stop = asyncio.Event()
            self._token.run_sync_soon(self._ready.set)
            await self._stop.wait()

        try:
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                runner.run(main())
        except BaseException as error:
            logger.exception("the service's event loop has ended", exc_info=error)
        finally:
            with suppress(trio.RunFinishedError):  # it took longer than anybody waited
                self._token.run_sync_soon(self._over.set)
                self._token.run_sync_soon(self._ready.set)

    async def call(self, function: Callable[..., Awaitable[T] | T], *args: Any) -> T:
        """Call (and await) something inside the loop. Cancelled: it is cancelled there, and not waited for."""
        done = trio.Event()
        outcome: list[Any] = []
        tasks: list[asyncio.Task[None]] = []

        async def work() -> None:
            try:
                value = function(*args)
                outcome.append((await value if inspect.isawaitable(value) else value, None))
            except BaseException as error:  # noqa: BLE001 - carried over, and raised on the other side
                outcome.append((None, error))
            finally:
                with suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(done.set)

        self.loop.call_soon_threadsafe(lambda: tasks.append(self.loop.create_task(work())))
        try:
            await done.wait()
        except trio.Cancelled:
            self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            raise
        value, error = outcome[0]
        if error is not None:
            raise as_exception(error)
        return value  # type: ignore[no-any-return]


def _tell_of_a_failure(_: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
    """Of a task or callback of the service's that nobody awaits. asyncio's own words would quote its arguments."""
    logger.warning("something that nobody awaited failed in the service's loop", exc_info=about.get("exception"))


def as_exception(error: BaseException) -> Exception:
    """Errors of the other world that are no Exception (CancelledError, SystemExit) must not steer ours."""
    return (
        error if isinstance(error, Exception) else RuntimeError(f"the service raised {type(error).__name__}: {error}")
    )


def asyncio_service(thread: ServiceLoop, made: Any) -> AsyncioService:
    """The service port over an object or generator function. Raises NotAService."""
    pipeline = resolve(made, "asyncio")
    return (AttentiveAsyncioService if pipeline.ended else AsyncioService)(thread, pipeline)


class AsyncioService:
    """The service port over an asyncio pipeline."""

    def __init__(self, thread: ServiceLoop, pipeline: Pipeline) -> None:
        self._thread = thread
        self._pipeline = pipeline

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        await _AsyncioStream(self._thread, emit, self._pipeline, turn, session_id).run()


class AttentiveAsyncioService(AsyncioService):
    """… of one that wants to hear how its answers ended."""

    async def ended(self, receipt: TurnReceipt, text: str) -> None:
        assert self._pipeline.ended
        await self._thread.call(self._pipeline.ended, receipt, text)


class _AsyncioStream(ForeignStream):
    """One turn's generator, in one asyncio task."""

    __slots__ = ("_credited", "_loop", "_open", "_task")

    def __init__(self, thread: ServiceLoop, emit: Emit, pipeline: Pipeline, turn: Turn, session_id: str) -> None:
        super().__init__(thread.handover, emit)
        self._loop = thread.loop
        self._open: Callable[[], Any] = lambda: pipeline.stream(turn.content, session_id, dict(turn.options))
        self._task: asyncio.Task[None] | None = None
        self._credited: asyncio.Event | None = None

    def start(self) -> None:
        self._loop.call_soon_threadsafe(self._begin)

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel)

    def resume(self) -> None:
        assert self._credited
        self._loop.call_soon_threadsafe(self._credited.set)

    # In the loop's thread.

    def _begin(self) -> None:
        self._credited = asyncio.Event()
        self._task = self._loop.create_task(self._guard())
        self._task.add_done_callback(self._closed)  # runs even if the task was cancelled before its first step

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def _closed(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            error: BaseException | None = RuntimeError("the service cancelled itself")
        else:
            error = task.exception()
        self.finish(None if self.fenced else error)

    async def _guard(self) -> None:
        """Whatever the service raises is this turn's: a SystemExit that left its task would end the loop."""
        try:
            await self._iterate()
        except RuntimeError as error:
            told = explained(error, "asyncio")
            if told is error:
                raise
            raise told from error
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:
            raise as_exception(error) from error

    async def _iterate(self) -> None:
        stream: Any = self._open()
        if inspect.isawaitable(stream):
            stream = await stream
        check_stream(stream, "__aiter__")
        assert self._credited
        try:
            async for item in stream:
                if self.fenced:
                    break
                if not self.put(translate(item)):
                    await self._credited.wait()
                    self._credited.clear()
        finally:
            if hasattr(stream, "aclose"):
                await stream.aclose()
