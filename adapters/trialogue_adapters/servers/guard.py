"""The guard around each connection: how it ends is its own business, and no other connection's.

Both server libraries let an exception of one connection end the process, and every session with it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from trialogue import Limits

logger = logging.getLogger(__name__)

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

STALL_SECONDS = Limits().stall_timeout
"""How long a peer may take no byte before its connection is given up."""
HANDSHAKE_SECONDS = 10.0
"""How long a peer may take for TLS, and for its request's head."""
UNACKNOWLEDGED_SECONDS = 2 * STALL_SECONDS
"""The kernel's own patience with a peer that takes nothing. It is the backstop of ours: it also ends a socket that we
have closed while bytes were still waiting to leave."""
LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20
READ_BYTES = 16 * 1024

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)


def first_cause(error: BaseException) -> BaseException:
    """What a nursery's groups are about."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


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


def limit_unacknowledged(stream: Stream) -> None:
    """TCP_USER_TIMEOUT, on Linux, for what is TCP at all."""
    sock = (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket
    if hasattr(socket, "TCP_USER_TIMEOUT") and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKNOWLEDGED_SECONDS * 1000))


async def linger(stream: Stream) -> None:
    """Before a close: let the peer read our last words, and throw away what it still sends, within bounds.

    A socket that is closed with bytes unread resets the connection, and a reset may overtake the close frame or the
    HTTP answer that says why. Returns at once when another task is reading.
    """
    with trio.move_on_after(LINGER_SECONDS), suppress(*_GONE):
        if isinstance(stream, trio.SocketStream):
            await stream.send_eof()
        left = LINGER_BYTES
        while left > 0 and (data := await stream.receive_some(READ_BYTES)):
            left -= len(data)
