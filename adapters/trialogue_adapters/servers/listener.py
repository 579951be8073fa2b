"""The trio-websocket listener: `/chat-ws` and nothing else, on the same engine.

Stock trio-websocket 0.12 dies with every session when an exception leaves a handler or its own reader task; here
`_handle_connection` is guarded as a whole, everything leaves through the connection's sink, and a peer is pinged.
`tests/adapters/servers/test_pins.py` fails when a name that we rely on has moved.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

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
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import RemoteProtocolError

from trialogue import Connection, Disconnected
from trialogue_adapters.auth import Caller
from trialogue_adapters.servers.asgi import App
from trialogue_adapters.servers.echo import PATH as ECHO_PATH
from trialogue_adapters.servers.echo import echo
from trialogue_adapters.servers.frames import CLOSED, FRAMES_PER_STEP, MAX_MESSAGE_BYTES, deflated, extensions
from trialogue_adapters.servers.guard import (
    HANDSHAKE_SECONDS,
    LINGER_SECONDS,
    READ_BYTES,
    STALL_SECONDS,
    Stream,
    contained,
    limit_unacknowledged,
    linger,
)
from trialogue_adapters.servers.handshake import (
    PATH,
    Rejected,
    Welcome,
)
from trialogue_adapters.servers.requests import shake_hands
from trialogue_adapters.servers.sink import PING, Sink, Stalled, TlsSink, framed

CLOSE_SECONDS = 2.0


class GuardedConnection(WebSocketConnection):
    """A WebSocket whose every byte leaves through one sink, and whose reader never waits for the application."""

    def __init__(self, stream: Stream, sink: Sink | TlsSink, protocol: wsproto.WSConnection, *, deflate: bool) -> None:
        super().__init__(stream, protocol, max_message_size=MAX_MESSAGE_BYTES)
        self.sink = sink
        self.heard = True  # has the peer sent anything since somebody last asked?
        self.parting = False  # is the reader about to close the stream?
        self._deflate = deflate

    async def _accept(
        self, request: wsproto.events.Request, subprotocol: str | None, extra_headers: list[tuple[bytes, bytes]]
    ) -> None:
        """As the library's, but with our limits; and the HTTP part, 2 KB that nobody needs any more, is let go."""
        ours = extensions(deflate=self._deflate)
        await self._send(AcceptConnection(subprotocol=subprotocol, extra_headers=extra_headers, extensions=ours))
        assert self._wsproto.connection
        self._wsproto: Any = self._wsproto.connection  # all that is asked of it from now on
        if self._deflate and ours[-1].enabled():
            self.sink.encode = deflated(self._wsproto)

    async def _reader_task(self) -> None:
        """As the library's, of a server that has read the handshake; and it notes that something has come."""
        async with self._send_channel:
            with suppress(ConnectionClosed):
                while self._reader_running:
                    for number, event in enumerate(self._wsproto.events(), 1):
                        if number % FRAMES_PER_STEP == 0:
                            await trio.lowlevel.checkpoint()
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
            data = await self._stream.receive_some(READ_BYTES)
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

    async def _handle_close_connection_event(self, event: CloseConnection) -> None:
        """As the library's, but what the peer did wrong (which wsproto tells as a close) is told to the peer.

        And the session hears of a close at once: our answer may have to wait behind much that the peer has not read.
        """
        self.parting = True
        if self._wsproto.state is ConnectionState.OPEN:
            self._close_reason = CloseReason(event.code, event.reason or None)
            await self._send(CloseConnection(code=event.code, reason=event.reason))
        else:
            await self._close_web_socket(event.code, event.reason or None)
        await super()._handle_close_connection_event(event)

    async def _close_stream(self) -> None:
        """As the library's, but the peer gets to read the last of it."""
        with trio.move_on_after(CLOSE_SECONDS):
            await self.sink.flush()
        await linger(self._stream)  # type: ignore[arg-type]
        await super()._close_stream()
        self._wsproto, self.sink.encode, self._message_parts = CLOSED, framed, []


class GuardedServer(WebSocketServer):
    """The listener. One connection's end, however it comes, is no other connection's business."""

    def __init__(self, app: App, listeners: Sequence[Any], *, deflate: bool) -> None:
        secure = isinstance(listeners[0], trio.SSLListener)
        super().__init__(partial(_serve, app, secure), listeners)
        self._paths = (PATH, ECHO_PATH) if app.test_echo else (PATH,)
        self._deflate = deflate

    async def _handle_connection(self, stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream | trio.SSLStream)
        try:
            await contained(partial(self._serve_stream, stream))
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_stream(self, stream: Stream) -> None:
        limit_unacknowledged(stream)
        protocol = None
        with trio.move_on_after(HANDSHAKE_SECONDS):
            protocol = await shake_hands(stream, self._paths)
        if protocol is None:
            return
        if isinstance(stream, trio.SSLStream):
            async with trio.open_nursery() as nursery:
                sink = TlsSink(stream, STALL_SECONDS)
                nursery.start_soon(sink.run)
                await self._serve_connection(stream, sink, protocol)
                nursery.cancel_scope.cancel()
        else:
            await self._serve_connection(stream, Sink(stream, STALL_SECONDS), protocol)

    async def _serve_connection(self, stream: Stream, sink: Sink | TlsSink, protocol: wsproto.WSConnection) -> None:
        connection = GuardedConnection(stream, sink, protocol, deflate=self._deflate)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection._reader_task)
            try:
                await self._handler(await connection._get_request())
            finally:
                with trio.move_on_after(CLOSE_SECONDS):
                    await connection.aclose()
                    if not connection.parting:
                        await connection._close_stream()
                nursery.cancel_scope.deadline = trio.current_time() + LINGER_SECONDS


class ListenerTransport:
    """The engine's transport over a guarded connection that is open."""

    __slots__ = ("_connection", "_sink")

    def __init__(self, connection: GuardedConnection) -> None:
        self._connection = connection
        self._sink = connection.sink

    def __repr__(self) -> str:
        return f"<ListenerTransport {self._connection}>"

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.get_message()
        except ConnectionClosed as closed:
            raise Disconnected(closed.reason.code if closed.reason else 1006) from None

    def write(self, frames: Sequence[bytes]) -> bool:
        return self._connection._close_reason is not None or self._sink.put(self._sink.encode(frames))

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


async def serve_websockets(
    app: App,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    deflate: bool = False,
    sock: socket.socket | None = None,
    task_status: trio.TaskStatus[str],
) -> NoReturn:
    """Listen until cancelled; the task status is the address, as a URL. Raises OSError if it cannot.

    Args:
        sock: a socket that listens already, in place of one at `host` and `port`.
    """
    if sock is None:
        sockets = await trio.open_tcp_listeners(port, host=host, backlog=1024)
    else:
        sockets = [trio.SocketListener(trio.socket.from_stdlib_socket(sock.dup()))]
    listeners = [trio.SSLListener(listener, tls, https_compatible=True) for listener in sockets] if tls else sockets
    server = GuardedServer(app, listeners, deflate=deflate)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        name = sockets[0].socket.getsockname()
        shown = f"[{name[0]}]" if ":" in name[0] else name[0]
        task_status.started(f"{'https' if tls else 'http'}://{shown}:{name[1]}")
        await trio.sleep_forever()
    raise AssertionError("it sleeps for ever")


async def _serve(app: App, secure: bool, request: WebSocketRequest) -> None:
    if request.path.partition("?")[0] == ECHO_PATH:
        connection = await request.accept()
        assert isinstance(connection, GuardedConnection)
        await echo(ListenerTransport(connection), connection.send_message)
        return
    try:
        welcome = _welcome(app, secure, request)
    except Rejected as rejected:
        await request.reject(
            rejected.status,
            extra_headers=[(b"content-type", b"application/json"), *rejected.headers],
            body=rejected.body,
        )
        return
    connection = await request.accept(subprotocol=welcome.subprotocol)
    assert isinstance(connection, GuardedConnection)
    await Connection(app.hub, ListenerTransport(connection), welcome.dialect, welcome.handshake).run()


def _welcome(app: App, secure: bool, request: WebSocketRequest) -> Welcome:
    headers = [(b"host", _host(request)), *request.headers]
    remote = request.remote
    peer = remote.address if isinstance(remote, Endpoint) else ""
    query = request.path.partition("?")[2].encode("latin-1", "replace")
    return app.reception.welcome(query, Caller(headers, request.proposed_subprotocols, secure, str(peer)))


def _host(request: WebSocketRequest) -> bytes:
    """The `Host` header, which wsproto takes out of the headers and decodes; "" if it is no name."""
    try:
        return request._event.host.encode("idna")
    except UnicodeError:
        return b""
