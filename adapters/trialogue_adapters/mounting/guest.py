"""Trio as a guest of the asyncio loop that somebody else's server runs: one run per loop, shared by all its mounts.

Host and guest take turns in one thread. So the host's tasks call Trio's synchronous functions (`Event.set`,
`start_soon`, `CancelScope.cancel`) and Trio's tasks the loop's, without locks and without a queue between them. What
must never happen: that the loop ends before the guest has. The last mount that leaves ends it, and waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import sniffio
import trio

logger = logging.getLogger(__name__)


def on_trio() -> bool:
    """Which loop does the calling task run on? True: Trio (as a guest, too), False: asyncio."""
    return sniffio.current_async_library() == "trio"


class EngineEnded(RuntimeError):
    """Nothing can be started on Trio any more: it is leaving, or a bug of Trio's or of ours has ended it."""


class Errand:
    """Something that runs on Trio for a task of the host's."""

    __slots__ = ("_scope", "done")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        """Has the errand's outcome; never cancelled."""
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Errand {'done' if self.done.done() else 'under way'}>"

    async def wait(self) -> None:
        """Until it has ended; raises what it raised. Cancelled: it is cancelled on Trio, and waited for."""
        try:
            await asyncio.wait((self.done,))
        except asyncio.CancelledError:
            self.cancel()
            await asyncio.wait((self.done,))
            if error := self.done.exception():
                logger.debug("an errand that was cancelled raised %r", error)
            raise
        self.done.result()

    def cancel(self) -> None:
        """Cancel it on Trio. Idempotent."""
        self._scope.cancel()

    # On Trio.

    async def perform(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it. An Exception is the outcome; anything else (a SystemExit) is Trio's, as in any run of it."""
        try:
            with self._scope:
                await work()
        except Exception as error:  # noqa: BLE001 - carried over, and raised on the other side
            self.end(error)
        finally:
            self.end()

    def end(self, error: Exception | None = None) -> None:
        """Set the outcome. The first one stands."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Mount:
    """A block that is held open on Trio for as long as one of the host's is, and the errands that run inside it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.errand = Errand(loop)
        self.opened: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._nursery: trio.Nursery | None = None
        self._leave = trio.Event()
        self._errands: set[Errand] = set()

    def __repr__(self) -> str:
        return f"<Mount {'open' if self._nursery else 'closed'}, {len(self._errands)} errands>"

    def start(self, work: Callable[[], Awaitable[None]]) -> Errand:
        """Run something on Trio; `wait` for the errand. For a task of the host's. Raises EngineEnded."""
        if self._nursery is None:
            raise EngineEnded
        errand = Errand(self._loop)
        self._errands.add(errand)
        errand.done.add_done_callback(lambda _: self._errands.discard(errand))
        self._nursery.start_soon(errand.perform, work)
        return errand

    async def until_open(self) -> None:
        """Until the block is open, or has failed to. Cancelled: its opening is cancelled."""
        try:
            await asyncio.wait((self.opened, self.errand.done), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.errand.cancel()
            raise

    async def leave(self) -> None:
        """Cancel its errands, close the block, and wait for both. Raises what broke it. Cancelled: as an errand."""
        self._leave.set()
        await self.errand.wait()

    # On Trio.

    async def live(self, block: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        try:
            async with block(), trio.open_nursery() as self._nursery:
                self.opened.set_result(None)
                await self._leave.wait()
                self._nursery.cancel_scope.cancel()
        finally:
            self._nursery = None

    def tell(self, done: asyncio.Future[None]) -> None:
        """An end that nobody asked for is logged when it comes: the host may have other things to serve for days."""
        if self.opened.done() and not self._leave.is_set():
            logger.critical("the engine has ended: it turns everybody away from now on", exc_info=done.exception())

    def end(self, error: Exception) -> None:
        """Trio has died without unwinding its tasks: nobody shall wait for them."""
        self._nursery = None
        for errand in (*self._errands, self.errand):
            errand.end(error)


class Guest:
    """A Trio run on an asyncio loop. Get it with `guest_of_this_loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.mounts: set[Mount] = set()
        self.users = 0
        self._loop = loop
        self._nursery: trio.Nursery
        self._ready: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()

    def __repr__(self) -> str:
        phase = "over" if self._over.done() else "running" if self._ready.done() else "starting"
        return f"<Guest {phase}, {len(self.mounts)} mounts>"

    # Its life.

    async def begin(self) -> None:
        """Raises RuntimeError when this thread has another Trio run already."""
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=self._loop.call_soon,
            done_callback=self._ended,
            host_uses_signal_set_wakeup_fd=True,  # both asyncio and uvloop do
        )
        await self._ready

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._ready.set_result(None)
            await trio.sleep_forever()

    def _ended(self, outcome: Any) -> None:
        try:
            outcome.unwrap()
        except BaseException:
            logger.critical("Trio has ended", exc_info=True)
        for mount in self.mounts:  # their errands have ended, unless Trio has died
            mount.end(EngineEnded("Trio has ended"))
        self._over.set_result(None)

    async def end(self) -> None:
        """Cancel what still runs on Trio, and wait for it: a loop must not end before its guest."""
        if not self._over.done():
            self._nursery.cancel_scope.cancel()
            await asyncio.wait((self._over,))

    # What it does for the host.

    @asynccontextmanager
    async def mount(self, block: Callable[[], AbstractAsyncContextManager[None]]) -> AsyncGenerator[Mount, None]:
        """Hold a block open on Trio. Raises what its opening raises, and at the end what its closing raises, or what
        has broken it in between.
        """
        mount = Mount(self._loop)
        self.mounts.add(mount)
        mount.errand.done.add_done_callback(mount.tell)
        self._nursery.start_soon(mount.errand.perform, partial(mount.live, block))
        try:
            await mount.until_open()
            if mount.opened.done():
                yield mount
        finally:
            await mount.leave()
            self.mounts.discard(mount)


_guests: WeakKeyDictionary[asyncio.AbstractEventLoop, Guest] = WeakKeyDictionary()
"""There can be one Trio run in a thread, so several mounts share it."""


@asynccontextmanager
async def guest_of_this_loop() -> AsyncGenerator[Guest, None]:
    """The running loop's guest, for the length of the block; the first block begins it, the last one ends it."""
    loop = asyncio.get_running_loop()
    guest = _guests.get(loop)
    if guest is None:
        guest = _guests[loop] = Guest(loop)
        try:
            await guest.begin()
        except BaseException:
            del _guests[loop]
            raise
    guest.users += 1
    try:
        yield guest
    finally:
        guest.users -= 1
        if not guest.users:
            del _guests[loop]
            await guest.end()
