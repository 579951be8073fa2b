"""Hypercorn's Trio worker, guarded: three subclasses of a pinned version, put in place by `guarded()`.

Stock hypercorn 0.18 dies, with every session in it, of one byte after an upgrade request; it hides the client's close
code, and a reader that has stopped pins its writer for ever. Here a connection's failure is its own, the app sees the
true close code, every send has a deadline, and the app is offered a transport that writes without awaiting.
`tests/adapters/servers/test_pins.py` fails when a name that we rely on has moved.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

import hypercorn.protocol.h2
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import hypercorn.trio.run
import hypercorn.trio.task_group
import hypercorn.trio.tcp_server
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.events import Event as ServerEvent
from hypercorn.protocol.events import Body, Data, EndBody, Event, Response, StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import ASGIWebsocketState, Handshake, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.handshake import WEBSOCKET_VERSION

from trialogue import Limits
from trialogue_adapters.servers.asgi import TRANSPORT_EXTENSION, AsgiTransport, Receive, Send
from trialogue_adapters.servers.guard import contained
from trialogue_adapters.servers.handshake import Rejected, is_key
from trialogue_adapters.servers.mailbox import Mailbox
from trialogue_adapters.servers.sink import PING, Sink, Stalled, framed

logger = logging.getLogger(__name__)

STALL_SECONDS = Limits().stall_timeout
"""How long a peer may take no byte before its connection is given up."""
MAX_MESSAGE_BYTES = Limits().max_frame_bytes
LINGER_SECONDS = 2.0
"""How long a peer that was told 1009 may take to answer with a close of its own."""
REFUSALS = {400: "this is not a WebSocket handshake", 403: "refused", 404: "not found"}


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


class GuardedTCPServer(TCPServer):
    """One connection. Its end, however it comes, is no other connection's business."""

    sink: Sink | None = None
    heard = True
    """Has the peer sent anything since somebody last asked?"""

    async def run(self) -> None:
        stream: Any = self.stream
        if isinstance(stream, trio.SocketStream):
            self.sink = Sink(stream, STALL_SECONDS)
        await contained(super().run)

    async def _read_data(self) -> None:
        """As the stock, but only HTTP has a read timeout: the peer of a WebSocket is asked whether it is there.

        (A cancel scope around each read is 1.2 KB per idle connection.)
        """
        data: bytes | bytearray = b"?"
        while data:
            try:
                if self._upgraded():
                    data = await self.stream.receive_some(MAX_RECV)
                else:
                    with trio.fail_after(self.config.read_timeout or inf):
                        data = await self.stream.receive_some(MAX_RECV)
            except (trio.ClosedResourceError, trio.BrokenResourceError, trio.TooSlowError):
                break
            self.heard = True
            await self.protocol.handle(RawData(bytes(data)))
        await self.protocol.handle(Closed())
        await self.idle_task.stop()  # the stock would keep the descriptor of a peer that has gone for 5 s more

    def _upgraded(self) -> bool:
        protocol = self.protocol.protocol
        return isinstance(protocol, H11Protocol) and isinstance(protocol.stream, WSStream)

    async def protocol_send(self, event: ServerEvent) -> None:
        if not isinstance(event, RawData):
            await super().protocol_send(event)
        elif self.sink is None:
            await self._send_with_deadline(event)
        elif not self.sink.put(event.data):
            try:
                await self.sink.flush()
            except Stalled:
                await self._abandon()

    async def _send_with_deadline(self, event: ServerEvent) -> None:
        """As stock hypercorn, which shields its sends: so the deadline has to be closing the stream under them."""
        with trio.CancelScope() as watch:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._close_if_stalled, watch)
                await super().protocol_send(event)
                nursery.cancel_scope.cancel()

    async def _close_if_stalled(self, watch: trio.CancelScope) -> None:
        await trio.sleep(STALL_SECONDS)
        await self._abandon()
        watch.cancel()

    async def _abandon(self) -> None:
        logger.info("a connection was closed: its peer has taken nothing for %g s", STALL_SECONDS)
        await trio.aclose_forcefully(self.stream)


class GuardedHandshake(Handshake):
    """A handshake whose key is looked at, and that compresses nothing.

    The stock accepts permessage-deflate whenever it is offered, as browsers do: 40 KB per connection for frames of 90
    bytes, and a door for compressed bombs.
    """

    def is_valid(self) -> bool:
        return super().is_valid() and (self.http_version != "1.1" or is_key(self.key or b""))

    def accept(self, subprotocol: str | None, additional_headers: Any) -> Any:
        self.extensions = None
        return super().accept(subprotocol, additional_headers)


class GuardedWSStream(WSStream):
    """One WebSocket: the true close code, limits in bytes, and the offer of a direct transport."""

    def __init__(self, app: Callable[..., Awaitable[None]], *args: Any) -> None:
        run_app: Any = self._run_app
        super().__init__(run_app, *args)
        self._wrapped = app
        self._close_code = 1006
        self._size = 0
        self._parts: list[Any] = []
        self.closing = False
        self.direct = False

    async def _run_app(self, scope: Any, *rest: Any) -> None:
        if isinstance(self._protocol(), H11Protocol) and self._server().sink:
            scope["extensions"][TRANSPORT_EXTENSION] = self._transport
        await self._wrapped(scope, *rest)

    def _transport(self, receive: Receive, send: Send) -> DirectTransport:
        self.direct = True
        return DirectTransport(receive, send, self, self._server())

    def _protocol(self) -> H11Protocol | H2Protocol:
        return self.send.__self__  # type: ignore[attr-defined,no-any-return]

    def _server(self) -> GuardedTCPServer:
        return self._protocol().send.__self__  # type: ignore[attr-defined,no-any-return]

    async def handle(self, event: Event) -> None:
        if isinstance(event, StreamClosed) and not self.closed:
            self.closed = self.closing = True
            if self.app_put is not None:
                await self.app_put({"type": "websocket.disconnect", "code": self._close_code})
        elif isinstance(event, Body | Data) and not self.closed and not self.handshake.accepted:
            # Bytes before the 101: the stock answer is a state error that kills the process.
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif isinstance(event, Body | Data) and not self.closed:
            self.connection.receive_data(event.data)
            await self._handle_events()
        else:
            await super().handle(event)

    async def _send_error_response(self, status_code: int) -> None:
        """A handshake that the server itself refuses: with a JSON body, and 426 for a version that is not 13."""
        version = self.handshake.version
        if status_code == 400 and version != WEBSOCKET_VERSION:
            rejected = Rejected(426, "Sec-WebSocket-Version: 13 only")
        else:
            rejected = Rejected(status_code, REFUSALS.get(status_code, "the server failed"))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(rejected.body)).encode()),
            (b"connection", b"close"),
            *([(b"sec-websocket-version", WEBSOCKET_VERSION)] if rejected.status == 426 else []),
        ]
        await self.send(Response(stream_id=self.stream_id, status_code=rejected.status, headers=headers))
        await self.send(Body(stream_id=self.stream_id, data=rejected.body))
        await self.send(EndBody(stream_id=self.stream_id))

    async def _accept(self, message: Any) -> None:
        """As the stock; then the HTTP part of the connection, 2 KB that nobody needs any more, is let go."""
        await super()._accept(message)
        connection = self._protocol().connection
        if isinstance(connection, H11WSConnection):
            connection.h11_connection = None  # type: ignore[assignment]

    async def _send_pings(self) -> None:
        """As the stock, but a peer has to answer, and one that has just come is not asked. A transport asks itself."""
        server, interval = self._server(), self.config.websocket_ping_interval
        assert interval is not None
        while not (self.closed or self.direct):
            await self.context.sleep(interval)
            if not server.heard:
                await trio.aclose_forcefully(server.stream)
                return
            server.heard = False
            await self._send_wsproto_event(Ping())

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if self.closing and not isinstance(event, CloseConnection):
                continue  # we have said goodbye: only its answer matters
            if isinstance(event, TextMessage | BytesMessage):
                if not await self._collect(event):
                    return
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                self.closing = True
                if self.connection.state is ConnectionState.OPEN:  # wsproto's way to tell a protocol error of the peer
                    await self._send_wsproto_event(CloseConnection(code=event.code, reason=event.reason))
                else:
                    self._close_code = int(event.code)
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def _collect(self, event: TextMessage | BytesMessage) -> bool:
        """Add a fragment, hand a whole message on. False: it was too big, and the connection is closing."""
        self._size += len(event.data) if isinstance(event.data, bytes | bytearray) else len(event.data.encode())
        if self._size > MAX_MESSAGE_BYTES:
            self.closing = True
            self.state = ASGIWebsocketState.CLOSED
            self._parts.clear()
            await self._send_wsproto_event(CloseConnection(code=1009, reason=f"more than {MAX_MESSAGE_BYTES} bytes"))
            self.task_group.spawn(self._leave)
            return False
        self._parts.append(event.data)
        if event.message_finished:
            whole = ("" if isinstance(event, TextMessage) else b"").join(self._parts)
            self._parts, self._size = [], 0
            text = whole if isinstance(whole, str) else None
            assert self.app_put
            await self.app_put(
                {"type": "websocket.receive", "text": text, "bytes": None if text is not None else whole}
            )
        return True

    async def _leave(self) -> None:
        """Give the peer a moment to read our close frame; one that only goes on sending is not waited for."""
        await self.context.sleep(LINGER_SECONDS)
        await self.send(StreamClosed(stream_id=self.stream_id))


class DirectTransport(AsgiTransport):
    """Frames go straight to the socket, many in one write; everything else goes through ASGI."""

    __slots__ = ("_server", "_sink", "_stream")

    def __init__(self, receive: Receive, send: Send, stream: GuardedWSStream, server: GuardedTCPServer) -> None:
        super().__init__(receive, send)
        assert server.sink
        self._stream, self._server, self._sink = stream, server, server.sink

    def write(self, frames: Sequence[bytes]) -> bool:
        return self._stream.closing or self._gone or self._sink.put(framed(frames))

    async def drain(self) -> bool:
        return await self._sink.drain()

    def probe(self) -> bool:
        heard, self._server.heard = self._server.heard, False
        if heard and not self._stream.closing:
            self._sink.put(PING)
        return heard


@contextmanager
def guarded() -> Generator[None]:
    """Serve with the subclasses for the length of the block: every server started inside it is guarded."""
    modules: Sequence[tuple[Any, str, Any]] = (
        (hypercorn.trio.run, "TCPServer", GuardedTCPServer),
        (hypercorn.trio.tcp_server, "TaskGroup", GuardedTaskGroup),
        (hypercorn.protocol.h11, "WSStream", GuardedWSStream),
        (hypercorn.protocol.h2, "WSStream", GuardedWSStream),
        (hypercorn.protocol.ws_stream, "Handshake", GuardedHandshake),
    )
    before = [getattr(module, name) for module, name, _ in modules]
    for module, name, ours in modules:
        setattr(module, name, ours)
    try:
        yield
    finally:
        for (module, name, _), stock in zip(modules, before, strict=True):
            setattr(module, name, stock)
