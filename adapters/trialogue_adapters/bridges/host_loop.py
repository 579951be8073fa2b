"""An asyncio ChatService on the loop of the host that Trio is a guest of: beside the host's own tasks, in one thread.

So the service may use what the host has opened: database pools, HTTP clients, locks. Tokens are handed over in
batches, at the loop's next pass, and reach the sockets' queues without waking Trio. What it costs: a service that
blocks the loop blocks the host and the engine with it; a thread of its own would not.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from trialogue import ServiceEvent
from trialogue_adapters.bridges.asyncio_thread import LEAVE_SECONDS, as_exception
from trialogue_adapters.bridges.handover import Ended, ForeignStream, Handover

T = TypeVar("T")


def is_guest() -> bool:
    """Does Trio run as a guest of an asyncio loop? Called in a Trio task."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class HostHandover(Handover):
    """The way from the host's tasks to the engine: a callback of the loop instead of a wake-up of Trio.

    Everything that the service yields before it really waits is one batch, and one write per client.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._closing: set[ForeignStream] = set()
        self._closed = trio.Event()

    def put(self, stream: ForeignStream, event: ServiceEvent | Ended) -> None:
        """Called in the host's tasks."""
        self._items.append((stream, event))
        if not self._asked:
            self._asked = True
            self._loop.call_soon(self._drain)
        if type(event) is Ended and self.released:
            self._closing.discard(stream)
            self._closed.set()

    def release(self) -> None:
        self._closing |= self.streams
        super().release()

    async def closed(self) -> None:
        """Wait until the streams that were open at the release have closed: their loop goes on without us."""
        while self._closing:
            self._closed = trio.Event()
            await self._closed.wait()


class HostLoop:
    """The host's loop, as a place for a service: the same face as `AsyncioThread`'s."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.handover = HostHandover(self.loop)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncGenerator[HostLoop, None]:
        """At the end of the block, wait at most `LEAVE_SECONDS` for generators that are still closing."""
        self = cls()
        try:
            yield self
        finally:
            self.handover.release()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_SECONDS):
                await self.handover.closed()

    async def watch(self) -> None:
        """For ever: when this loop ends, so do we."""
        await trio.sleep_forever()

    async def call(self, function: Callable[..., Awaitable[T] | T], *args: Any) -> T:
        """Call (and await) something in a task of the loop. Cancelled: it is cancelled there, and not waited for."""
        done = trio.Event()
        outcome: list[Any] = []

        async def work() -> None:
            try:
                value = function(*args)
                outcome[:] = [await value if inspect.isawaitable(value) else value, None]
            except BaseException as error:  # noqa: BLE001 - carried over: a SystemExit would end the host's loop
                outcome[:] = [None, as_exception(error)]
            finally:
                done.set()

        task = self.loop.create_task(work())
        try:
            await done.wait()
        except trio.Cancelled:
            task.cancel()
            raise
        value, error = outcome
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]
