"""`servers/sse.py` without a server: its transport over ASGI in memory, in bounded pieces."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trialogue import Disconnected
from trialogue_adapters.servers.sse import CLOSE_SECONDS, PIECE_BYTES, SseTransport


class Request:
    """The ASGI side: what is sent is kept; `stuck` takes nothing, `gone` raises as some servers do."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.incoming: list[str] = ["http.request", "http.request", "http.disconnect"]
        self.stuck = self.gone = False

    async def receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": self.incoming.pop(0)}

    async def send(self, message: Any) -> None:
        if self.gone:
            raise OSError("gone")
        if self.stuck:
            await trio.sleep_forever()
        self.sent.append(message)

    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent]


async def test_it_reads_the_message_once_and_then_waits_for_the_end() -> None:
    request = Request()
    transport = SseTransport(request.receive, request.send, "the message")
    assert repr(transport) == "<SseTransport unread, 0 bytes parked>"
    assert await transport.receive() == "the message"
    with pytest.raises(Disconnected) as gone:
        await transport.receive()
    assert gone.value.code == 1006
    assert request.incoming == []


async def test_a_batch_is_one_piece_and_much_is_several() -> None:
    request = Request()
    transport = SseTransport(request.receive, request.send, "")
    assert not transport.write([b"one\n\n", b"two\n\n"])
    assert await transport.drain()
    assert request.sent == [{"type": "http.response.body", "body": b"one\n\ntwo\n\n", "more_body": True}]
    transport.write([b"x" * (PIECE_BYTES + 1)])
    assert not await transport.drain()
    assert await transport.drain()
    assert [len(body) for body in request.bodies()[1:]] == [PIECE_BYTES, 1]


async def test_closing_sends_what_is_left_and_ends_the_response() -> None:
    request = Request()
    transport = SseTransport(request.receive, request.send, "")
    transport.write([b"x" * (PIECE_BYTES + 1)])
    await transport.close(1000, "")
    assert [len(body) for body in request.bodies()] == [PIECE_BYTES, 1, 0]
    assert [message["more_body"] for message in request.sent] == [True, True, False]


async def test_closing_is_bounded_and_never_raises(autojump_clock: MockClock) -> None:
    request = Request()
    transport = SseTransport(request.receive, request.send, "")
    transport.write([b"x"])
    request.stuck, before = True, trio.current_time()
    await transport.close(4000, "")
    assert trio.current_time() - before == CLOSE_SECONDS
    request.gone = True
    await transport.close(4000, "")
    assert transport.probe()
