"""A raw RFC 6455 client on Trio, with hand-made frames so that it can be rude.

`Client` is one open WebSocket; `open_client` makes one. Receiving waits at most `PATIENCE` seconds, answers pings, and
keeps the text of each frame as it came. A connection's end is `Closed`, with the close frame's code: 1005 for one
without a code, 1006 for no close frame at all.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any
from urllib.parse import quote

import trio

PATIENCE = 5.0
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
V1 = "trialogue.v1"
POLITE_LEAVE = 1000
_numbers = count(1)


def fresh(word: str) -> str:
    """An id that no other test uses."""
    return f"{word}-{os.getpid()}-{next(_numbers)}"


class Closed(Exception):
    """The server has ended the connection."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Refused(Exception):
    """The handshake was answered with HTTP."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


def frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    final: bool = True,
    masked: bool = True,
    length: int | None = None,
    reserved: int = 0,
) -> bytes:
    """A client's frame. `length` may lie about the payload's."""
    size = len(payload) if length is None else length
    first, mask_bit = (0x80 if final else 0) | reserved << 4 | opcode, 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, mask_bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mask_bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, size)
    return head + b"\0\0\0\0" + payload if masked else head + payload  # a mask of zeros changes nothing


def close_payload(code: int | None, reason: str = "") -> bytes:
    return b"" if code is None else struct.pack("!H", code) + reason.encode()


def request(path: str, headers: Mapping[str, str | None] | None = None, method: str = "GET") -> bytes:
    """A request to upgrade. `headers` replace or add; None removes."""
    fields: dict[str, str | None] = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chat_path(session_id: str, query: Mapping[str, str] | None = None) -> str:
    fields = {"session_id": session_id, **(query or {})}
    return "/chat-ws?" + "&".join(f"{name}={quote(value, safe=':~')}" for name, value in fields.items())


class Wire:
    """A TCP connection with a read buffer."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._buffer = b""
        self._sending = trio.Lock()

    async def send(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE):
            async with self._sending:
                await self.stream.send_all(data)

    async def shove(self, data: bytes) -> None:
        """Send as much as the server takes before it has had enough."""
        with suppress(trio.BrokenResourceError):
            await self.send(data)

    async def half_close(self) -> None:
        with suppress(trio.BrokenResourceError):
            await self.stream.send_eof()

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._more()
        data, _, self._buffer = self._buffer.partition(end)
        return data

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            raise Closed(1006, "reset") from None
        if not data:
            raise Closed(1006, "end of stream")
        self._buffer += data

    async def head(self) -> tuple[int, dict[str, str]]:
        """An HTTP answer's status and headers."""
        with trio.fail_after(PATIENCE):
            lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:])
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in fields}

    async def answer(self) -> Refused:
        """A whole HTTP answer, as what the client would raise for it."""
        status, headers = await self.head()
        with trio.fail_after(PATIENCE):
            body = await self.exactly(int(headers.get("content-length", "0")))
        return Refused(status, headers, body)

    def reset(self) -> None:
        """End the connection with a RST."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


class Client:
    """An open WebSocket on a session."""

    def __init__(self, wire: Wire, session_id: str, headers: Mapping[str, str], patience: float = PATIENCE) -> None:
        self.wire = wire
        self.session_id = session_id
        self.patience = patience
        self.headers = headers
        self.ready: dict[str, Any] = {}
        self.texts: list[str] = []
        self.gone = False

    # Sending.

    async def send_frame(self, payload: bytes, opcode: int = TEXT, **options: Any) -> None:
        await self.wire.send(frame(payload, opcode, **options))

    async def send_text(self, text: str) -> None:
        await self.send_frame(text.encode())

    async def send(self, **fields: Any) -> None:
        await self.send_text(json.dumps(fields, ensure_ascii=False))

    async def say(self, message_id: str | None = None, on_busy: str | None = None, **options: Any) -> str:
        """Submit a message; its content is its id, and `options` steer the service. Returns the id."""
        message_id = message_id or fresh("m")
        policy = {"on_busy": on_busy} if on_busy else {}
        await self.send(
            type="message",
            message_id=message_id,
            content=message_id,
            session_id=self.session_id,
            options=options,
            **policy,
        )
        return message_id

    async def cancel(self, message_id: str | None = None) -> None:
        await self.send(type="cancel", **({"message_id": message_id} if message_id else {}))

    async def close(self, code: int | None = POLITE_LEAVE) -> None:
        """Say goodbye, and wait until the server has answered."""
        await self.send_frame(close_payload(code), CLOSE)
        self.gone = True
        await self.end()

    async def vanish(self, how: str) -> None:
        """Leave without a close frame: `fin` (a half-close), `reset`."""
        self.gone = True
        if how == "reset":
            self.wire.reset()
        else:
            await self.wire.half_close()

    # Receiving.

    async def receive(self) -> str:
        """The next text frame. Raises Closed."""
        with trio.fail_after(self.patience):
            while True:
                opcode, payload = await self._frame()
                if opcode == TEXT:
                    self.texts.append(payload.decode())
                    return self.texts[-1]
                if opcode == PING and not self.gone:
                    await self.send_frame(payload, PONG)
                elif opcode == CLOSE:
                    raise Closed(*_close_of(payload))

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self.wire.exactly(2)
        assert first & 0x80, "the server fragments"
        assert not second & 0x80, "the server masks"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.wire.exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.wire.exactly(8))
        return first & 0x0F, await self.wire.exactly(size)

    async def next(self) -> dict[str, Any]:
        body = json.loads(await self.receive())
        assert isinstance(body, dict)
        return body

    async def until(self, kind: str, message_id: str | None = None) -> list[dict[str, Any]]:
        """All frames up to the first of that type (and id)."""
        frames = []
        while True:
            frames.append(await self.next())
            if frames[-1]["type"] == kind and message_id in (None, frames[-1].get("message_id")):
                return frames

    async def wait_for(self, kind: str, message_id: str | None = None) -> dict[str, Any]:
        return (await self.until(kind, message_id))[-1]

    async def turn(self, message_id: str) -> list[dict[str, Any]]:
        """All frames up to that turn's end, whichever it is."""
        frames = []
        while True:
            frames.append(await self.next())
            if is_end(frames[-1]) and frames[-1]["message_id"] == message_id:
                return frames

    async def quiet(self) -> list[dict[str, Any]]:
        """What has come until now, and nothing more: up to the answer to a ping."""
        ping_id = fresh("ping")
        await self.send(type="ping", id=ping_id)
        frames = await self.until("pong")
        assert frames.pop() == {"type": "pong", "id": ping_id}
        return frames

    async def end(self) -> Closed:
        """The connection's end, and how it came; frames before it are in `texts`."""
        try:
            while True:
                await self.receive()
        except Closed as closed:
            self.gone = True
            return closed


def _close_of(payload: bytes) -> tuple[int, str]:
    return (struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else (1005, "")


def is_end(body: Mapping[str, Any]) -> bool:
    return body["type"] in ("stream_end", "stream_error")


def kinds(frames: Sequence[Mapping[str, Any]]) -> list[str]:
    return [body["type"] for body in frames]


def of(frames: Sequence[dict[str, Any]], message_id: str) -> list[dict[str, Any]]:
    return [body for body in frames if body.get("message_id") == message_id]


def tokens(frames: Sequence[Mapping[str, Any]], message_id: str | None = None) -> list[str]:
    return [
        body["token"] for body in frames if body["type"] == "stream_token" and message_id in (None, body["message_id"])
    ]


@asynccontextmanager
async def open_wire(server: Any) -> AsyncGenerator[Wire]:
    """A bare connection to a server: TCP, or TLS over it."""
    stream: Any = await trio.open_tcp_stream(server.host, server.port)
    if server.tls:
        stream = trio.SSLStream(stream, server.tls, server_hostname=server.host, https_compatible=True)
    try:
        yield Wire(stream)
    finally:
        await trio.aclose_forcefully(stream)


async def upgraded(
    wire: Wire,
    session_id: str | None = None,
    *,
    v1: bool = False,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> Client:
    """Turn a fresh connection into a WebSocket. Raises Refused.

    A v1 client has read its first frame into `ready`.
    """
    session_id = session_id or fresh("s")
    offer = {"Sec-WebSocket-Protocol": V1} if v1 else {}
    await wire.send(request(chat_path(session_id, query), {**offer, **(headers or {})}))
    status, fields = await wire.head()
    if status != 101:
        with trio.fail_after(PATIENCE):
            raise Refused(status, fields, await wire.exactly(int(fields.get("content-length", "0"))))
    client = Client(wire, session_id, fields, patience)
    if v1:
        client.ready = await client.next()
    return client


@asynccontextmanager
async def open_client(
    server: Any,
    session_id: str | None = None,
    *,
    v1: bool = False,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    leave: int | None = POLITE_LEAVE,
) -> AsyncGenerator[Client]:
    """Connect; leave with a close frame at the end of the block, unless that has happened. Raises Refused."""
    async with open_wire(server) as wire:
        client = await upgraded(wire, session_id, v1=v1, query=query, headers=headers)
        yield client
        if not client.gone:
            await client.close(leave)
