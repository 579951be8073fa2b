"""Which bridge a service needs, and its life: one `async with` from somebody's object to the engine's service port."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import trio

from trialogue import Service
from trialogue_adapters.bridges.asyncio_thread import AsyncioThread, asyncio_service
from trialogue_adapters.bridges.handover import Handover
from trialogue_adapters.bridges.host_loop import HostLoop, is_guest
from trialogue_adapters.bridges.pipeline import NotAService, explained, is_factory
from trialogue_adapters.bridges.sync_thread import sync_service
from trialogue_adapters.bridges.trio_stream import trio_service

logger = logging.getLogger(__name__)

Runtime = Literal["asyncio", "trio", "sync"]

CLOSE_SECONDS = 2.0
"""How long a service that we made may take to close."""


@dataclass(frozen=True, slots=True)
class OpenService:
    """A bridged service. `release` gives up waiting for upstreams that do not close: call it when leaving.

    `watch` lasts as long as the block, and raises when what the service runs on has died.
    """

    service: Service
    release: Callable[[], None]
    watch: Callable[[], Awaitable[None]] = trio.sleep_forever


@asynccontextmanager
async def open_service(source: Any, runtime: Runtime = "asyncio") -> AsyncGenerator[OpenService, None]:
    """Bridge a service for the length of the block.

    An asyncio service runs in a thread of its own, or where Trio is a guest, on its host's loop.
    A service that a factory made is ours to close: its `aclose` (or `close`) is called at the end, if it has one.

    Args:
        source: an object with `stream_rag_pipeline`, a generator function of its signature, or a class or
            zero-argument callable that makes one of these (called inside its own loop or thread).

    Raises:
        NotAService: it is none of these, or it cannot run on `runtime`. What else a factory raises comes through.
    """
    match runtime:
        case "asyncio":
            async with HostLoop.open() if is_guest() else AsyncioThread.open() as loop:
                made = await _make(source, loop.call, runtime)
                try:
                    yield OpenService(asyncio_service(loop, made), loop.handover.release, loop.watch)
                finally:
                    await _close(source, made, loop.call)
        case "trio":
            made = await _make(source, _call, runtime)
            try:
                yield OpenService(trio_service(made), lambda: None)
            finally:
                await _close(source, made, _call)
        case "sync":
            made = await _make(source, trio.to_thread.run_sync, runtime)
            handover = Handover()
            try:
                yield OpenService(sync_service(handover, made), handover.release)
            finally:
                handover.release()
                await _close(source, made, partial(trio.to_thread.run_sync, abandon_on_cancel=True))


async def _make(source: Any, call: Callable[[Any], Awaitable[Any]], runtime: Runtime) -> Any:
    """The service itself: what a factory makes, where it is going to run."""
    if not is_factory(source):
        return source
    if runtime == "sync" and inspect.iscoroutinefunction(source):
        raise NotAService(f"`{source.__name__}` is async: add --service-runtime asyncio (or trio)")
    try:
        return await call(source)
    except RuntimeError as error:
        told = explained(error, runtime)
        if told is error:
            raise
        raise told from error


async def _call(function: Callable[[], Any]) -> Any:
    made = function()
    return await made if inspect.isawaitable(made) else made


async def _close(source: Any, made: Any, call: Callable[[Any], Awaitable[Any]]) -> None:
    close = getattr(made, "aclose", None) or getattr(made, "close", None)
    if made is source or not callable(close):
        return
    with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
        try:
            await call(close)
        except Exception:
            logger.exception("the service could not be closed")
