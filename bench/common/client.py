"""Load: many WebSocket clients in one process, on picows and uvloop (C parsers, one Python call per frame).

A frame costs the load about 0.5 µs; each measurement also says which share of its core the load used (`load`). Below
about 0.9 the load waited for the server, and not the reverse. picows' bare server is in the list of peers as the
ceiling: what the load can take at the least.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from common.catalog import Peer
from common.process import Server

_numbers = count(1)
TOKEN_BYTE = ord("t")
"""Of `{"type":"stream_token"…` the sixteenth byte; no other event has it there."""


class Client(WSListener):
    """One connection. Scenarios override `on_token` (hot) and `on_event` (anything else, as a dict)."""

    def __init__(self, session_id: str, lead: bytes) -> None:
        self.session_id = session_id
        self.tokens = 0
        self.lost = False
        self.closing = False
        self.message_id = ""
        self._lead = lead
        self._at = len(lead) + 16
        self._ready = asyncio.Event()
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        if not self._lead:
            self._ready.set()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.lost = not self.closing

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_memoryview()
        if len(payload) > self._at and payload[self._at] == TOKEN_BYTE and payload[: len(self._lead)] == self._lead:
            self.tokens += 1
            self.on_token(payload)
        elif frame.msg_type is WSMsgType.TEXT:
            self._other(bytes(payload))
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()

    def _other(self, payload: bytes) -> None:
        if self._lead and not payload.startswith(self._lead):
            self._engine_io(payload)
        else:
            self.on_event(json.loads(payload[len(self._lead) : -1 if self._lead else None]))

    def _engine_io(self, payload: bytes) -> None:
        """Socket.IO's own frames: open, connected, ping."""
        if payload[:1] == b"0":
            self.transport.send(WSMsgType.TEXT, b"40")
        elif payload[:2] == b"40":
            self._ready.set()
        elif payload[:1] == b"2":
            self.transport.send(WSMsgType.TEXT, b"3")

    async def ready(self) -> None:
        await self._ready.wait()

    def on_token(self, payload: memoryview) -> None: ...

    def on_event(self, event: dict[str, Any]) -> None: ...

    def ask(self, content: str) -> str:
        """Send a message; returns its id, of the same length always."""
        self.message_id = f"msg_{next(_numbers):014d}"
        self._send({"message_id": self.message_id, "content": content, "session_id": self.session_id})
        return self.message_id

    def cancel(self, message_id: str) -> None:
        self._send({"type": "cancel", "message_id": message_id, "session_id": self.session_id})

    def _send(self, body: dict[str, str]) -> None:
        text = json.dumps(body)
        self.transport.send(WSMsgType.TEXT, (f'42["message",{text}]' if self._lead else text).encode())


C = TypeVar("C", bound=Client)


@asynccontextmanager
async def connected(
    peer: Peer, server: Server, number: int, make: Callable[[str, bytes], C], at_once: int = 50
) -> AsyncIterator[Sequence[C]]:
    """That many connected clients, closed at the end. Raises RuntimeError if the server dropped one of them."""
    gate = asyncio.Semaphore(at_once)

    async def connect(session_id: str) -> C:
        async with gate:
            url = f"ws://127.0.0.1:{server.port}{peer.path.format(session_id=session_id)}"
            _, client = await ws_connect(lambda: make(session_id, peer.lead), url, websocket_handshake_timeout=30)
            async with asyncio.timeout(30):
                await client.ready()  # type: ignore[attr-defined]
            return client  # type: ignore[return-value]

    clients = await asyncio.gather(*(connect(f"s{next(_numbers)}") for _ in range(number)))
    try:
        yield clients
        lost = sum(client.lost for client in clients)
        if lost:
            raise RuntimeError(f"{peer.name} dropped {lost} of {number} connections\n{server.output()}")
    finally:
        for client in clients:
            client.closing = True
            client.transport.disconnect(graceful=False)
