"""Which bridge a service needs, and its life: one `async with` from somebody's object to the engine's service port."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

from trialogue import Service
from trialogue_adapters.bridges.asyncio_thread import AsyncioThread
from trialogue_adapters.bridges.handover import Handover
from trialogue_adapters.bridges.sync_thread import sync_service
from trialogue_adapters.bridges.trio_stream import trio_service

Runtime = Literal["asyncio", "trio", "sync"]


@asynccontextmanager
async def open_service(source: Any, runtime: Runtime = "asyncio") -> AsyncGenerator[Service, None]:
    """Bridge a service for the length of the block; upstreams that do not close are given up at its end.

    Args:
        source: an object with `stream_rag_pipeline`, a generator function of its signature, or a class or
            zero-argument callable that makes one of these (called inside its own loop or thread).

    Raises:
        NotAService: it is none of these. Whatever a factory raises comes through.
    """
    match runtime:
        case "asyncio":
            async with AsyncioThread.open() as thread:
                yield await thread.service(source)
        case "trio":
            yield await trio_service(source)
        case "sync":
            handover = Handover()
            try:
                yield await sync_service(handover, source)
            finally:
                handover.release()
