"""The WebSocket against servers that do as they like: every end is one of ours, and nothing grows without bound."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from support.raw_client import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame
from trialogue_adapters.client import Refused, Unreachable
from trialogue_adapters.client import websocket as module
from trialogue_adapters.client.address import read_address
from trialogue_adapters.client.returning import Closed
from trialogue_adapters.client.websocket import WebSocket, open_websocket

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def sent(payload: bytes, opcode: int = TEXT, *, final: bool = True) -> bytes:
    return frame(payload, opcode, final=final, masked=False)


@asynccontextmanager
async def server(answer: bytes, *, upgrade: bool = True) -> AsyncIterator[tuple[int, bytearray]]:
    """Says `answer`, after an upgrade or instead of one, and closes; keeps what it was sent after the handshake."""
    heard = bytearray()

    async def serve(stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", request, re.IGNORECASE)
        assert key
        accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
        head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: p\r\n"
        await stream.send_all((head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" if upgrade else b"") + answer)
        await stream.send_eof()
        while data := await stream.receive_some():
            heard.extend(data)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1], heard
        nursery.cancel_scope.cancel()


async def dial(port: int) -> WebSocket:
    address = read_address(f"ws://127.0.0.1:{port}")
    return await open_websocket(address, address.target, "p")


async def texts(socket: WebSocket) -> list[str]:
    found = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.pump)
        while (text := await socket.receive()) is not None:
            found.append(text)
        with trio.fail_after(2):
            await socket.pumped.wait()
    await socket.give_up("over")
    return found


@pytest.mark.parametrize(
    ("answer", "read", "closed"),
    [
        (sent(b"a") + sent(b"b", final=False) + sent(b"c", CONTINUATION), ["a", "bc"], 1006),
        (sent(b"a") + sent(b"\x03\xf4bye", CLOSE) + sent(b"late"), ["a"], 1012),
        (sent(b"", CLOSE), [], 1005),
        (sent(b"a", BINARY), [], 1002),
        (sent(b"a") + b"\xff\xff\xff", ["a"], 1002),
        (sent(b"\xff"), [], 1007),
        (sent(b"a", PING) + sent(b"b"), ["b"], 1006),
        (sent(b"x" * 50) + sent(b"x" * 101), ["x" * 50], 1002),
        (b"", [], 1006),
    ],
)
async def test_what_a_server_may_say(
    answer: bytes, read: list[str], closed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGE_CHARS", 100)
    async with server(answer) as (port, heard):
        socket = await dial(port)
        assert await texts(socket) == read
        assert socket.closed
        assert socket.closed.code == closed
        if answer.startswith(sent(b"a", PING)):
            with trio.fail_after(2):
                while not heard:
                    await trio.sleep(0.001)
            assert heard[0] & 0x0F == 10, "a pong"


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b'HTTP/1.1 503 x\r\nRetry-After: 7\r\n\r\n{"error":{"message":"full","code":"WS-010"}}', 503, "WS-010: full"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "http-200: .* answered with HTTP 200"),
        (b'HTTP/1.1 403 x\r\nContent-Length: 4\r\n\r\n["a"', 403, "http-403"),
        (b"HTTP/1.1 302 x\r\nLocation: /\r\n\r\n" + b"x" * 100_000, 302, "http-302"),
    ],
)
async def test_refusals(answer: bytes, status: int, text: str) -> None:
    async with server(answer, upgrade=False) as (port, _):
        with pytest.raises(Refused, match=text) as refused:
            await dial(port)
        assert (refused.value.status, refused.value.retryable) == (status, status == 503)
        assert refused.value.retry_after == (7 if status == 503 else None)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", b"\0" * 99_999]
)
async def test_what_is_no_answer(answer: bytes) -> None:
    async with server(answer, upgrade=False) as (port, _):
        with pytest.raises(Unreachable, match="broke off the handshake: "):
            await dial(port)


async def test_a_server_that_reads_nothing_is_given_up() -> None:
    async with server(b"") as (port, _):
        socket = await dial(port)
        for _number in range(40):
            socket.write("x" * 32_768)
        assert socket.closed == Closed(1006, "the server reads nothing")
        await socket.give_up("over")
