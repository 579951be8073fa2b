"""One WebSocket of hypercorn's, guarded: its handshake is read closely, its frames are bounded, its end is told truly.

Stock hypercorn 0.18 dies of one byte after an upgrade request, takes any key, compresses unasked, counts characters,
and tells the app 1006 for every close code. The app is also offered a transport here that writes without awaiting.
`tests/adapters/servers/test_pins.py` fails when a name that we rely on has moved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from hypercorn.protocol.events import Body, Data, EndBody, Event, Response, StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import ASGIWebsocketState, Handshake, WSStream
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.handshake import WEBSOCKET_VERSION, server_extensions_handshake

from trialogue_adapters.servers.asgi import TRANSPORT_EXTENSION
from trialogue_adapters.servers.asgi_transport import AsgiTransport, Receive, Send
from trialogue_adapters.servers.frames import CLOSED, FRAMES_PER_STEP, deflated, extensions
from trialogue_adapters.servers.handshake import EARLY, Rejected, check_upgrade
from trialogue_adapters.servers.sink import PING, framed
from trialogue_adapters.servers.tcp_server import GuardedTCPServer

REFUSALS = {400: "this is not a WebSocket handshake", 403: "refused", 404: "not found"}


class GuardedHandshake(Handshake):
    """A handshake that is looked at closely, and that agrees to no compression.

    The stock accepts permessage-deflate whenever it is offered, as browsers do: 40 KB per connection for frames of 90
    bytes, and a door for compressed bombs.
    """

    deflate = False

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__(headers, http_version)
        self.refusal: Rejected | None = None
        self.compresses = False
        if http_version == "1.1":
            try:
                check_upgrade(headers)
            except Rejected as rejected:
                self.refusal = rejected

    def is_valid(self) -> bool:
        return self.refusal is None and super().is_valid()

    def accept(self, subprotocol: str | None, additional_headers: Any) -> Any:
        offered, self.extensions = self.extensions, None
        status, headers, _ = super().accept(subprotocol, additional_headers)
        ours = extensions(deflate=self.deflate)
        agreed = server_extensions_handshake(offered or [], ours)
        if agreed:
            self.compresses = True
            headers.append((b"sec-websocket-extensions", agreed))
        return status, headers, Connection(ConnectionType.SERVER, ours)


class DeflatingHandshake(GuardedHandshake):
    """One that compresses, if the client offers to; what is inflated is bounded as it is inflated."""

    deflate = True


class GuardedWSStream(WSStream):
    """One WebSocket: the true close code, limits in bytes, and the offer of a direct transport."""

    handshake: GuardedHandshake

    def __init__(self, app: Callable[..., Awaitable[None]], *args: Any) -> None:
        run_app: Any = self._run_app
        super().__init__(run_app, *args)
        self._wrapped = app
        self._close_code = 1006
        self._parts: list[Any] = []
        self.closing = False
        self.direct = False

    async def _run_app(self, scope: Any, *rest: Any) -> None:
        if isinstance(self._protocol(), H11Protocol):
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
        if self.closed:
            return
        if isinstance(event, StreamClosed):
            await self._hang_up()
        elif isinstance(event, Body | Data) and self.handshake.accepted:
            self.connection.receive_data(event.data)
            await self._handle_events()
        elif isinstance(event, Body | Data):  # a client has to wait for the answer (RFC 6455, 4.1)
            await self._turn_away(Rejected(400, EARLY))
        else:
            await super().handle(event)

    async def _hang_up(self) -> None:
        self.closed = self.closing = True
        self.connection, self._parts = CLOSED, []
        if self.direct:
            self._server().sink.encode = framed
        if self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": self._close_code})

    async def _turn_away(self, rejected: Rejected) -> None:
        """Refuse a handshake that the app may be looking at: it is told that the client has gone."""
        if self.state is ASGIWebsocketState.HANDSHAKE:
            self.state = ASGIWebsocketState.HTTPCLOSED
            await self._hang_up()
            await self._answer(rejected)

    async def _send_error_response(self, status_code: int) -> None:
        """A handshake that the server itself refuses."""
        await self._answer(self.handshake.refusal or Rejected(status_code, REFUSALS.get(status_code, "it failed")))

    async def _answer(self, rejected: Rejected) -> None:
        """With a JSON body; 426 names the version that we speak. It is the connection's end."""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(rejected.body)).encode()),
            *([(b"connection", b"close")] if isinstance(self._protocol(), H11Protocol) else []),
            *([(b"sec-websocket-version", WEBSOCKET_VERSION)] if rejected.status == 426 else []),
        ]
        await self.send(Response(stream_id=self.stream_id, status_code=rejected.status, headers=headers))
        await self.send(Body(stream_id=self.stream_id, data=rejected.body))
        await self.send(EndBody(stream_id=self.stream_id))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _accept(self, message: Any) -> None:
        """As the stock; then the HTTP part of the connection, 2 KB that nobody needs any more, is let go."""
        await super()._accept(message)
        connection = self._protocol().connection
        if isinstance(connection, H11WSConnection):
            connection.h11_connection = None  # type: ignore[assignment]
        if self.direct and self.handshake.compresses:
            self._server().sink.encode = deflated(self.connection)

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
        for number, event in enumerate(self.connection.events(), 1):
            if number % FRAMES_PER_STEP == 0:
                await trio.lowlevel.checkpoint()
            if isinstance(event, CloseConnection):
                await self._part(event)
            elif self.closed or self.closing:
                continue  # we have said goodbye: only its answer matters
            elif isinstance(event, TextMessage | BytesMessage):
                await self._collect(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())

    async def _part(self, event: CloseConnection) -> None:
        """The peer's close frame; or, while the connection is open, wsproto's way to tell what the peer did wrong.

        The app hears of it at once: our answer may have to wait behind much that the peer has not read yet.
        """
        answer = b""
        if self.connection.state is ConnectionState.OPEN:
            answer = self.connection.send(CloseConnection(code=event.code, reason=event.reason))
        else:
            self._close_code = int(event.code)
            if self.connection.state is ConnectionState.REMOTE_CLOSING:
                answer = self.connection.send(event.response())
        await self._hang_up()
        if answer:
            await self.send(Data(stream_id=self.stream_id, data=answer))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _collect(self, event: TextMessage | BytesMessage) -> None:
        """Add a fragment; hand a whole message on. How much may come was judged before (`FrameGuard`)."""
        self._parts.append(event.data)
        if event.message_finished:
            whole = ("" if isinstance(event, TextMessage) else b"").join(self._parts)
            self._parts = []
            text = whole if isinstance(whole, str) else None
            assert self.app_put
            await self.app_put(
                {"type": "websocket.receive", "text": text, "bytes": None if text is not None else whole}
            )


class DirectTransport(AsgiTransport):
    """Frames go straight to the socket, many in one write; everything else goes through ASGI."""

    __slots__ = ("_server", "_sink", "_stream")

    def __init__(self, receive: Receive, send: Send, stream: GuardedWSStream, server: GuardedTCPServer) -> None:
        super().__init__(receive, send)
        self._stream, self._server, self._sink = stream, server, server.sink

    def write(self, frames: Sequence[bytes]) -> bool:
        return self._stream.closing or self._gone or self._sink.put(self._sink.encode(frames))

    async def drain(self) -> bool:
        return await self._sink.drain()

    def probe(self) -> bool:
        heard, self._server.heard = self._server.heard, False
        if heard and not self._stream.closing:
            self._sink.put(PING)
        return heard
