"""The guard around each connection: how it ends is its own business, and no other connection's.

Both server libraries let an exception of one connection end the process, and every session with it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


async def contained(serve: Callable[[], Awaitable[None]]) -> None:
    """Serve; log an Exception of it and go on; let through what Trio must see (cancellation, Ctrl-C)."""
    try:
        await serve()
    except Exception as error:  # noqa: BLE001 - that is what it is for
        logger.info("a connection failed: %r", error)
    except BaseExceptionGroup as group:
        ours, others = group.split(Exception)
        if ours is not None:
            logger.info("a connection failed: %r", ours)
        if others is not None:
            raise others from None
