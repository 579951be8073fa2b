"""One connection of hypercorn's Trio worker, guarded: what goes wrong in it is its own, and no peer keeps it waiting.

Stock hypercorn 0.18 lets an exception of one connection end the process, and shields its sends, so that a reader that
has stopped pins its writer for ever. Here everything leaves through the connection's sink, with a deadline.
`tests/adapters/servers/test_pins.py` fails when a name that we rely on has moved.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import h11
import hypercorn.trio.task_group
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer

from trialogue_adapters.servers.guard import (
    LINGER_SECONDS,
    READ_BYTES,
    STALL_SECONDS,
    Stream,
    contained,
    limit_unacknowledged,
    linger,
)
from trialogue_adapters.servers.mailbox import Mailbox
from trialogue_adapters.servers.sink import Sink, Stalled, TlsSink

logger = logging.getLogger(__name__)


class GuardedTaskGroup(TaskGroup):
    """The tasks of one connection. A WebSocket's application is fed through a mailbox."""

    async def spawn_app(
        self, app: Any, config: Config, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        if scope["type"] != "websocket":
            return await super().spawn_app(app, config, scope, send)
        mailbox, threads = Mailbox(), (trio.to_thread.run_sync, trio.from_thread.run)
        self.spawn(hypercorn.trio.task_group._handle, app, config, scope, mailbox.get, send, *threads)
        return mailbox.put


class GuardedH11Protocol(H11Protocol):
    """HTTP/1.1 that stays what it is: an upgrade to h2c is not offered.

    A proxy that passes the Upgrade header on takes what follows for a WebSocket; with h2c it would be a tunnel for
    requests that it never sees. HTTP/2 that is agreed on in TLS, or spoken from the first byte, is no such thing.
    """

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.method == b"PRI":
            await super()._check_protocol(event)


class GuardedTCPServer(TCPServer):
    """One connection. Its end, however it comes, is no other connection's business."""

    sink: Sink | TlsSink
    heard = True
    """Has the peer sent anything since somebody last asked?"""

    async def run(self) -> None:
        stream: Stream = self.stream  # whatever the stock's annotation says
        limit_unacknowledged(stream)
        if isinstance(stream, trio.SocketStream):
            self.sink = Sink(stream, STALL_SECONDS)
            await contained(super().run)
        else:
            async with trio.open_nursery() as nursery:
                self.sink = TlsSink(stream, STALL_SECONDS)
                nursery.start_soon(self.sink.run)
                await contained(super().run)
                nursery.cancel_scope.cancel()

    async def _read_data(self) -> None:
        """As the stock, but the read timeout is for requests that do not come: who waits for an answer owes us nothing.

        (A cancel scope around each read is 1.2 KB per idle connection.)
        """
        data: bytes | bytearray = b"?"
        while data:
            try:
                if self._answering():
                    data = await self.stream.receive_some(READ_BYTES)
                else:
                    with trio.fail_after(self.config.read_timeout or inf):
                        data = await self.stream.receive_some(READ_BYTES)
            except (trio.ClosedResourceError, trio.BrokenResourceError, trio.TooSlowError):
                break
            self.heard = True
            await self.protocol.handle(RawData(bytes(data)))
        await self.protocol.handle(Closed())
        await self.idle_task.stop()  # the stock would keep the descriptor of a peer that has gone for 5 s more

    def _answering(self) -> bool:
        """Is a request with its application, a WebSocket's among them? That one has bounds of its own for its peer."""
        protocol: Any = self.protocol.protocol
        return bool(protocol.streams) if isinstance(protocol, H2Protocol) else protocol.stream is not None

    async def protocol_send(self, event: Event) -> None:
        """As the stock, but through the sink; and the peer gets to read the last of it before the socket is closed."""
        if isinstance(event, RawData):
            if not self.sink.put(event.data):
                await self._flush()
            return
        if isinstance(event, Closed):
            with trio.move_on_after(LINGER_SECONDS):
                await self.sink.flush()
            await linger(self.stream)
        await super().protocol_send(event)

    async def _flush(self) -> None:
        try:
            await self.sink.flush()
        except Stalled:
            logger.info("a connection was closed: its peer has taken nothing for %g s", STALL_SECONDS)
            await trio.aclose_forcefully(self.stream)
