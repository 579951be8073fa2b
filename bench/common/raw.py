"""A client that can offer permessage-deflate, as every browser does, and does not care what it is sent.

Bytes are counted and thrown away, so what it costs does not depend on what the server makes of the offer.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from common.catalog import Peer
from common.process import Server

_numbers = count(1)
_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


class RawClient(asyncio.Protocol):
    """One connection, by hand. `accepted` is done with the answer's head when the server has said 101."""

    def __init__(self, peer: Peer, port: int, *, deflate: bool) -> None:
        self.session_id = f"r{next(_numbers)}"
        self.received = 0
        self.accepted: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._peer, self._port, self._deflate = peer, port, deflate
        self._head = b""
        self._joined = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        key, path = "dGhlIHNhbXBsZSBub25jZQ==", self._peer.path.format(session_id=self.session_id)
        transport.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{_DEFLATE if self._deflate else ''}\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if not self.accepted.done():
            self._head += data
            if b"\r\n\r\n" in self._head:
                self._answered()
        elif not self.ready.done():
            self._greeted()

    def _answered(self) -> None:
        if not self._head.startswith(b"HTTP/1.1 101"):
            self.accepted.set_exception(RuntimeError(f"{self._peer.name} refused: {self._head[:200]!r}"))
            return
        self.accepted.set_result(self._head)
        if not self._peer.lead:
            self.ready.set_result(None)
        elif not self._head.endswith(b"\r\n\r\n"):
            self._greeted()

    def _greeted(self) -> None:
        """Socket.IO says hello, is asked to join, and answers; its frames may be compressed: count them."""
        if self._joined:
            self.ready.set_result(None)
        else:
            self._joined = True
            self.text("40")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(RuntimeError(f"{self._peer.name} closed the connection in its handshake"))

    def text(self, text: str) -> None:
        payload, mask = text.encode(), os.urandom(4)
        size = len(payload)
        head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.transport.write(head + mask + masked)

    def ask(self, content: str) -> None:
        body = {"message_id": f"msg_{next(_numbers):014d}", "content": content, "session_id": self.session_id}
        text = json.dumps(body)
        self.text(f'42["message",{text}]' if self._peer.lead else text)


async def connect(peer: Peer, server: Server, *, deflate: bool) -> RawClient:
    """Connect one. Raises RuntimeError if it is refused."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: RawClient(peer, server.port, deflate=deflate), "127.0.0.1", server.port
    )
    await client.accepted
    await client.ready
    return client


@asynccontextmanager
async def raw_clients(peer: Peer, server: Server, number: int, *, deflate: bool) -> AsyncIterator[Sequence[RawClient]]:
    """That many connected clients, closed at the end."""
    gate = asyncio.Semaphore(50)

    async def one() -> RawClient:
        async with gate:
            return await connect(peer, server, deflate=deflate)

    clients = await asyncio.gather(*(one() for _ in range(number)))
    try:
        yield clients
    finally:
        for client in clients:
            client.transport.abort()
