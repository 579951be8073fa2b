"""The trio-websocket listener: `/chat-ws` and nothing else, on the same engine.

Stock trio-websocket 0.12 dies with every session when an exception leaves a handler or its own reader task; here
`_handle_connection` is guarded as a whole, everything leaves through the connection's sink, and a peer is pinged.
`tests/adapters/servers/test_pins.py` fails when a name that we rely on has moved.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, NoReturn

import h11
import trio
import wsproto
from trio_websocket import (
    CloseReason,
    ConnectionClosed,
    Endpoint,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
)
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import RemoteProtocolError

from trialogue import Connection, Disconnected, Limits
from trialogue_adapters.auth import Caller
from trialogue_adapters.servers.asgi import App
from trialogue_adapters.servers.guard import contained
from trialogue_adapters.servers.handshake import PATH, Rejected, Welcome, is_key
from trialogue_adapters.servers.sink import PING, Sink, Stalled, framed

logger = logging.getLogger(__name__)

STALL_SECONDS = Limits().stall_timeout
HANDSHAKE_SECONDS = 10.0
CLOSE_SECONDS = 2.0
RECEIVE_BYTES = 4096
MAX_HEAD_BYTES = 16 * 1024
MAX_MESSAGE_BYTES = Limits().max_frame_bytes


class GuardedConnection(WebSocketConnection):
    """A WebSocket whose every byte leaves through one sink, and whose reader never waits for the application."""

    def __init__(self, stream: trio.SocketStream, *args: Any, **options: Any) -> None:
        super().__init__(stream, *args, **options)
        self.sink = Sink(stream, STALL_SECONDS)
        self._collected = 0
        self.heard = True  # has the peer sent anything since somebody last asked?

    def forget_handshake(self) -> None:
        """Let go of the HTTP part of the connection, once it is open: 2 KB that nobody needs any more."""
        assert self._wsproto.connection
        self._wsproto: Any = self._wsproto.connection  # what is left of it, and all that is asked of it from now on

    async def _reader_task(self) -> None:
        """As the library's, of a server that has read the handshake; and it notes that something has come."""
        async with self._send_channel:
            with suppress(ConnectionClosed):
                while self._reader_running:
                    for event in self._wsproto.events():
                        await self._handle_event(event)
                    await self._receive()

    async def _handle_event(self, event: wsproto.events.Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                await self._handle_message_event(event)
            case Ping():
                await self._handle_ping_event(event)
            case CloseConnection():
                await self._handle_close_connection_event(event)
            case wsproto.events.Request():
                await self._handle_request_event(event)

    async def _receive(self) -> None:
        """Read what has come, whatever it is. At the end of the stream the reader is told to stop."""
        data: bytes | bytearray
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        self.heard = True
        if self._wsproto.state is ConnectionState.CLOSED:
            self._reader_running = self._reader_running and bool(data)
        elif data:
            try:
                self._wsproto.receive_data(bytes(data))
            except RemoteProtocolError as error:
                if error.event_hint:
                    await self._send(error.event_hint)
                await self._close_stream()
        else:
            await self._abort_web_socket()

    async def _send(self, event: wsproto.events.Event) -> None:
        """As the library's, but through the sink: a cancelled send leaves no half frame that something else follows."""
        if not self.sink.put(self._wsproto.send(event)):
            try:
                await self.sink.flush()
            except Stalled:
                await trio.aclose_forcefully(self._stream)
        if self.sink.broken:
            await self._abort_web_socket()
            raise ConnectionClosed(self._close_reason)

    async def _handle_message_event(self, event: TextMessage | BytesMessage) -> None:
        """As the library's, but the limit is in bytes, and holds while the message is still coming."""
        self._collected += len(event.data) if isinstance(event.data, bytes | bytearray) else len(event.data.encode())
        if self._collected > MAX_MESSAGE_BYTES:
            self._message_size = self._max_message_size + 1  # the library counts characters: tell it that it is too big
        if event.message_finished:
            self._collected = 0
        await super()._handle_message_event(event)

    async def _handle_close_connection_event(self, event: CloseConnection) -> None:
        """As the library's, but a protocol error of the peer (which wsproto tells as a close) is told to the peer."""
        if self._wsproto.state is ConnectionState.OPEN:
            self._close_reason = CloseReason(event.code, event.reason or None)
            await self._send(CloseConnection(code=event.code, reason=event.reason))
        await super()._handle_close_connection_event(event)


class GuardedServer(WebSocketServer):
    """The listener. One connection's end, however it comes, is no other connection's business."""

    async def _handle_connection(self, stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        try:
            await contained(partial(self._serve_connection, stream))
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        with trio.move_on_after(HANDSHAKE_SECONDS):
            head = await _read_head(stream)
            try:
                _check_upgrade(head)
                protocol.receive_data(head)
            except Rejected as rejected:
                await stream.send_all(_http_answer(rejected))
                return
            except RemoteProtocolError as error:
                await stream.send_all(_http_answer(Rejected(400, str(error))))
                return
            del head
        connection = GuardedConnection(stream, protocol, max_message_size=MAX_MESSAGE_BYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection._reader_task)
            try:
                await self._handler(await connection._get_request())
            finally:
                with trio.move_on_after(CLOSE_SECONDS):
                    await connection.aclose()
                nursery.cancel_scope.cancel()


async def _read_head(stream: trio.SocketStream) -> bytes:
    """The request's head, and what came with it. A peer that says nothing is left to the handshake's deadline."""
    head = bytearray()
    while b"\r\n\r\n" not in head:
        if len(head) > MAX_HEAD_BYTES:
            raise ValueError("the request's head is too long")
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise ValueError("the peer left before its request was whole")
        head += data
    return bytes(head)


def _check_upgrade(head: bytes) -> None:
    """Is it a request to upgrade at our path? Raises Rejected: 404 elsewhere, 426 for plain HTTP, 400 for no HTTP."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(head)
    try:
        request = reader.next_event()
    except h11.RemoteProtocolError as error:
        raise Rejected(400, f"not a request: {error}") from None
    assert isinstance(request, h11.Request)
    if request.target.partition(b"?")[0] != PATH.encode():
        raise Rejected(404, f"there is only {PATH} here")
    if not any(name == b"upgrade" and value.lower() == b"websocket" for name, value in request.headers):
        raise Rejected(426, "this is a WebSocket endpoint")
    if not any(name == b"sec-websocket-version" and value == b"13" for name, value in request.headers):
        raise Rejected(426, "Sec-WebSocket-Version: 13 only")
    if not any(name == b"sec-websocket-key" and is_key(value) for name, value in request.headers):
        raise Rejected(400, "Sec-WebSocket-Key: must be 16 bytes in base64")


def _http_answer(rejected: Rejected) -> bytes:
    writer = h11.Connection(h11.SERVER)
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(rejected.body))),
        ("connection", "close"),
    ]
    if rejected.status == 426:
        headers += [("upgrade", "websocket"), ("sec-websocket-version", "13")]
    parts = (
        writer.send(
            h11.Response(status_code=rejected.status, headers=headers, reason=HTTPStatus(rejected.status).phrase)
        ),
        writer.send(h11.Data(data=rejected.body)),
    )
    return b"".join(part for part in parts if part)


class ListenerTransport:
    """The engine's transport over a guarded connection."""

    def __init__(self, connection: GuardedConnection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"<ListenerTransport {self._connection}>"

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.get_message()
        except ConnectionClosed as closed:
            raise Disconnected(closed.reason.code if closed.reason else 1006) from None

    def write(self, frames: Sequence[bytes]) -> bool:
        return self._connection.closed is not None or self._connection.sink.put(framed(frames))

    async def drain(self) -> bool:
        return await self._connection.sink.drain()

    def probe(self) -> bool:
        heard, self._connection.heard = self._connection.heard, False
        if not heard:
            self._connection._close_handshake.set()  # nobody is there to answer a close frame
        elif self._connection.closed is None:
            self._connection.sink.put(PING)
        return heard

    async def close(self, code: int, reason: str) -> None:
        with trio.move_on_after(CLOSE_SECONDS):
            try:
                await self._connection.sink.flush()
                await self._connection.aclose(code, reason)
            except Stalled:
                pass  # nobody is there to hear a close frame


async def serve_websockets(app: App, host: str, port: int, *, task_status: trio.TaskStatus[str]) -> NoReturn:
    """Listen until cancelled; the task status is the address, as a URL. Raises OSError if it cannot."""
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=1024)
    server = GuardedServer(partial(_serve, app), listeners)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        name = listeners[0].socket.getsockname()
        shown = f"[{name[0]}]" if ":" in name[0] else name[0]
        task_status.started(f"http://{shown}:{name[1]}")
        await trio.sleep_forever()
    raise AssertionError("it sleeps for ever")


async def _serve(app: App, request: WebSocketRequest) -> None:
    try:
        welcome = _welcome(app, request)
    except Rejected as rejected:
        await request.reject(
            rejected.status,
            extra_headers=[(b"content-type", b"application/json"), *rejected.headers],
            body=rejected.body,
        )
        return
    connection = await request.accept(subprotocol=welcome.subprotocol)
    assert isinstance(connection, GuardedConnection)
    connection.forget_handshake()
    await Connection(app.hub, ListenerTransport(connection), welcome.dialect, welcome.handshake).run()


def _welcome(app: App, request: WebSocketRequest) -> Welcome:
    headers = [(b"host", _host(request)), *request.headers]
    remote = request.remote
    peer = remote.address if isinstance(remote, Endpoint) else ""
    query = request.path.partition("?")[2].encode("latin-1", "replace")
    return app.reception.welcome(query, Caller(headers, request.proposed_subprotocols, peer=str(peer)))


def _host(request: WebSocketRequest) -> bytes:
    """The `Host` header, which wsproto takes out of the headers and decodes; "" if it is no name."""
    try:
        return request._event.host.encode("idna")
    except UnicodeError:
        return b""
