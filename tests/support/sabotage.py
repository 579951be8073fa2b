"""A WebSocket proxy that makes a good server a bad one: it changes what is said, in one way at a time.

A `Sabotage` may change, drop, repeat or delay frames of either side, and the query of a handshake.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    WebSocketRequest,
    wrap_client_stream,
    wrap_server_stream,
)

from trialogue_adapters.servers.guard import first_cause

Frame = dict[str, Any]


class Sabotage:
    """Does no harm. One is made for each connection, so that it may remember."""

    code: int | None = None
    """With what all closes of the server are told."""
    farewell = True
    """Is a client's close passed on as such?"""

    def query(self, query: str) -> str:
        return query

    def down(self, frame: Frame) -> list[Frame]:
        """What the client gets of a server's frame."""
        return [frame]

    def up(self, frame: Frame) -> list[Frame]:
        return [frame]

    def write(self, frame: Frame) -> str:
        return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))


class SabotagedServer:
    """One connection through it."""

    def __init__(self, port: int, sabotage: Sabotage) -> None:
        self._port = port
        self._sabotage = sabotage

    async def serve(self, stream: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._port)
        try:
            async with trio.open_nursery() as nursery:
                await self._serve(nursery, stream, far)
                nursery.cancel_scope.cancel()
        except Exception as error:
            if not isinstance(first_cause(error), ConnectionClosed | OSError | trio.BrokenResourceError):
                raise
        finally:
            await trio.aclose_forcefully(far)
            await trio.aclose_forcefully(stream)

    async def _serve(self, nursery: trio.Nursery, stream: trio.SocketStream, far: trio.SocketStream) -> None:
        request = await wrap_server_stream(nursery, stream, max_message_size=1 << 20)
        try:
            async with trio.open_nursery() as pumps:
                await self._connect(pumps, request, far)
        except ExceptionGroup as group:
            rejected = first_cause(group)
            if not isinstance(rejected, ConnectionRejected):
                raise
            await request.reject(rejected.status_code, body=rejected.body)

    async def _connect(self, pumps: trio.Nursery, request: WebSocketRequest, far: trio.SocketStream) -> None:
        path, _, query = request.path.partition("?")
        resource, offered = f"{path}?{self._sabotage.query(query)}", request.proposed_subprotocols
        server = await wrap_client_stream(pumps, far, "127.0.0.1", resource, subprotocols=offered or None)
        client = await request.accept(subprotocol=server.subprotocol)
        pumps.start_soon(self._down, server, client, pumps.cancel_scope)
        pumps.start_soon(self._up, client, server, pumps.cancel_scope)

    # Each pump tells of the end of the side that it reads; that the other one has ended is the other pump's to tell.

    async def _down(self, server: WebSocketConnection, client: WebSocketConnection, done: trio.CancelScope) -> None:
        while True:
            try:
                frame = json.loads(await server.get_message())
            except ConnectionClosed as closed:
                await client.aclose(self._sabotage.code or (closed.reason.code if closed.reason else 1011))
                break
            with suppress(ConnectionClosed):
                for one in self._sabotage.down(frame):
                    await client.send_message(self._sabotage.write(one))
        done.cancel()

    async def _up(self, client: WebSocketConnection, server: WebSocketConnection, done: trio.CancelScope) -> None:
        while True:
            try:
                message = await client.get_message()
            except ConnectionClosed as closed:
                if closed.reason and closed.reason.code != 1006 and self._sabotage.farewell:
                    with suppress(ConnectionClosed):
                        await server.aclose(closed.reason.code)
                break
            with suppress(ConnectionClosed):
                await self._pass_up(message, server)
        done.cancel()

    async def _pass_up(self, message: str | bytes, server: WebSocketConnection) -> None:
        frame = None
        with suppress(ValueError):
            frame = json.loads(message)
        if isinstance(message, bytes) or not isinstance(frame, dict):
            await server.send_message(message)
            return
        for one in self._sabotage.up(frame):
            await server.send_message(json.dumps(one))


@asynccontextmanager
async def sabotaged(port: int, make: Callable[[], Sabotage]) -> AsyncGenerator[int]:
    """A port on which the server at `port` behaves so, for the length of the block."""
    async with trio.open_nursery() as nursery:

        async def handle(stream: trio.SocketStream) -> None:
            await SabotagedServer(port, make()).serve(stream)

        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
