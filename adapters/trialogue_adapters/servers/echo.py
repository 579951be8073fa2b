"""`/echo`, for conformance suites: every message comes back, over the listener's own code. Off unless asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trialogue import Disconnected
from trialogue.connection import Transport

PATH = "/echo"


async def echo(transport: Transport, send_bytes: Callable[[bytes], Awaitable[None]]) -> None:
    """Until the client has gone. Texts go the way of all our frames; only an echo ever sends binary ones."""
    while True:
        try:
            message = await transport.receive()
            if isinstance(message, bytes):
                await send_bytes(message)
            elif not transport.write([message.encode()]):
                while not await transport.drain():
                    pass
        except Disconnected:
            return
