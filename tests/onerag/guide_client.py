"""A client written against the OneRAG guide and nothing else: connect, send, append, stop by close 1000, reconnect.

It knows five events and no more. It appends every token to the message whose id it carries, never looks at an index,
and takes the session id of `stream_start` for what it sends next. Losing its connection, it waits and connects anew.
"""

from __future__ import annotations

import base64
import json
import os
import random
import struct
import time
from string import ascii_lowercase, digits
from typing import Any

import trio

RECONNECT_SECONDS = 3.0


class GuideClient:
    """`answers` is what its user sees: a text per message id. `transcript` is every event, in order."""

    def __init__(self, host: str, port: int, session_id: str) -> None:
        self.host, self.port = host, port
        self.session_id = self.message_session_id = session_id
        self.answers: dict[str, str] = {}
        self.transcript: list[dict[str, Any]] = []
        self.open = trio.Event()
        self.stream: trio.SocketStream

    async def run(self) -> None:
        """Stay connected until it is closed with 1000, by either side."""
        while await self._connected() != 1000:
            self.open = trio.Event()
            await trio.sleep(RECONNECT_SECONDS)
        self.open = trio.Event()

    async def send(self, content: str) -> str:
        message_id = f"msg_{time.time_ns() // 1_000_000}_{''.join(random.choices(ascii_lowercase + digits, k=9))}"
        body = {"type": "message", "message_id": message_id, "content": content, "session_id": self.message_session_id}
        await self.stream.send_all(self._frame(1, json.dumps(body).encode()))
        return message_id

    async def stop(self) -> None:
        await self.stream.send_all(self._frame(8, struct.pack("!H", 1000)))

    def _on_event(self, event: dict[str, Any]) -> None:
        self.transcript.append(event)
        if event["type"] == "stream_start":
            self.message_session_id = event["session_id"]
        elif event["type"] == "stream_token":
            self.answers[event["message_id"]] = self.answers.get(event["message_id"], "") + event["token"]

    async def _connected(self) -> int:
        """One connection, from its handshake to its end. Returns the close code."""
        self.stream = await trio.open_tcp_stream(self.host, self.port)
        key = base64.b64encode(os.urandom(16)).decode()
        await self.stream.send_all(
            f"GET /chat-ws?session_id={self.session_id} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        try:
            buffer = bytearray()
            while b"\r\n\r\n" not in buffer:
                buffer += await self._more()
            assert buffer.startswith(b"HTTP/1.1 101"), buffer
            del buffer[: buffer.index(b"\r\n\r\n") + 4]
            self.open.set()
            while True:
                while (whole := self._whole_frame(buffer)) is None:
                    buffer += await self._more()
                opcode, payload = whole
                if opcode == 1:
                    self._on_event(json.loads(payload))
                elif opcode == 9:
                    await self.stream.send_all(self._frame(10, payload))
                elif opcode == 8:
                    return int.from_bytes(payload[:2], "big") if payload else 1005
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return 1006
        finally:
            await self.stream.aclose()

    async def _more(self) -> bytes:
        data = await self.stream.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError
        return bytes(data)

    @staticmethod
    def _frame(opcode: int, payload: bytes) -> bytes:
        mask = os.urandom(4)
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack("!H", size)
        return bytes([0x80 | opcode]) + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))

    @staticmethod
    def _whole_frame(buffer: bytearray) -> tuple[int, bytes] | None:
        """Take the first frame out of the buffer, if all of it is there."""
        if len(buffer) < 2:
            return None
        start, size = 2, buffer[1]
        if size == 126:
            start, size = 4, int.from_bytes(buffer[2:4], "big")
        elif size == 127:
            start, size = 10, int.from_bytes(buffer[2:10], "big")
        if len(buffer) < start + size:
            return None
        opcode, payload = buffer[0] & 15, bytes(buffer[start : start + size])
        del buffer[: start + size]
        return opcode, payload
