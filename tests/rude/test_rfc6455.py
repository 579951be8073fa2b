"""RFC 6455 as `/echo` shows it: what is allowed comes back as it was sent. What is not: `test_frames.py`.

The measure is Autobahn's fuzzing client (cases 1 to 7 and 10); `docs/design.md` says how it is run. These are the same
families of cases, without Python 2.7.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from support.raw_client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Client, close_payload, frame, open_wire
from support.raw_client import request as upgrade
from support.server import Server, running

VARIABLES = {"TRIALOGUE_TEST_ECHO": "1"}
SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536]
LETTERS = "κόσμε 안녕 😀 \ud7ff\ue000\ufffd\U0010ffff"


@asynccontextmanager
async def echo(server: Server) -> AsyncGenerator[Client]:
    async with open_wire(server) as wire:
        await wire.send(upgrade("/echo"))
        status, headers = await wire.head()
        assert status == 101
        yield Client(wire, "", headers)


async def told(client: Client) -> tuple[int, bytes]:
    with trio.fail_after(5):
        return await client._frame()


def masked(payload: bytes, opcode: int, mask: bytes = b"\x12\xa5\xff\x00") -> bytes:
    """A small frame under a mask that changes its bytes."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BH", 0x80 | 126, len(payload))
    return bytes([0x80 | opcode]) + size + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", SIZES)
async def test_a_message_of_that_size_comes_back(server: Server, opcode: int, size: int) -> None:
    async with echo(server) as client:
        await client.send_frame(b"*" * size, opcode)
        assert await told(client) == (opcode, b"*" * size)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 126, 65536])
async def test_in_segments_of_any_size(server: Server, opcode: int, size: int) -> None:
    data = frame(b"*" * size, opcode)
    async with echo(server) as client:
        step = max(1, len(data) // 100)
        for start in range(0, len(data), step):
            await client.wire.send(data[start : start + step])
        assert await told(client) == (opcode, b"*" * size)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 125, 200])
async def test_masks_are_taken_off(server: Server, opcode: int, size: int) -> None:
    payload = bytes(32 + n % 90 for n in range(size))
    async with echo(server) as client:
        await client.wire.send(masked(payload, opcode) * 3)
        for _ in range(3):
            assert await told(client) == (opcode, payload)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("pieces", [["", ""], ["a", "b"], ["", "ab", "", "c", ""], ["x" * 600] * 100])
@pytest.mark.parametrize("at_once", [True, False])
async def test_fragments_are_one_message(server: Server, opcode: int, pieces: list[str], at_once: bool) -> None:
    frames = [
        frame(piece.encode(), opcode if n == 0 else CONTINUATION, final=n == len(pieces) - 1)
        for n, piece in enumerate(pieces)
    ]
    async with echo(server) as client:
        for data in [b"".join(frames)] if at_once else frames:
            await client.wire.send(data)
        assert await told(client) == (opcode, "".join(pieces).encode())


async def test_control_frames_may_stand_between_fragments(server: Server) -> None:
    async with echo(server) as client:
        await client.send_frame(b"one ", final=False)
        await client.send_frame(b"here?", PING)
        assert await told(client) == (PONG, b"here?")
        await client.send_frame(b"two ", CONTINUATION, final=False)
        await client.send_frame(b"unasked", PONG)
        await client.send_frame(b"three", CONTINUATION)
        assert await told(client) == (TEXT, b"one two three")


@pytest.mark.parametrize("payload", [b"", b"hello", b"\x00\xff\xfe", b"x" * 125])
async def test_a_ping_is_answered_with_its_payload(server: Server, payload: bytes) -> None:
    async with echo(server) as client:
        await client.wire.send(frame(payload, PING) * 10)
        for _ in range(10):
            assert await told(client) == (PONG, payload)


async def test_a_pong_that_nobody_asked_for_is_ignored(server: Server) -> None:
    async with echo(server) as client:
        await client.send_frame(b"unasked", PONG)
        await client.send_frame(b"x")
        assert await told(client) == (TEXT, b"x")


async def test_text_is_utf_8_whatever_the_fragments_cut(server: Server) -> None:
    data = LETTERS.encode()
    async with echo(server) as client:
        await client.send_frame(data)
        assert await told(client) == (TEXT, data)
        for cut in range(len(data) + 1):
            await client.send_frame(data[:cut], final=False)
            await client.send_frame(data[cut:], CONTINUATION)
            assert await told(client) == (TEXT, data)
        await client.send_frame(data[:1], final=False)
        for n in range(1, len(data)):
            await client.send_frame(data[n : n + 1], CONTINUATION, final=n == len(data) - 1)
        assert await told(client) == (TEXT, data)


async def test_text_that_goes_bad_is_refused_before_it_is_whole(server: Server) -> None:
    async with echo(server) as client:
        await client.wire.send(frame("κόσμε".encode() + b"\xf4\x90" + b"x" * 100, length=1000))
        assert (await client.end()).code == 1007


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_a_close_is_answered_with_its_code(server: Server, code: int) -> None:
    async with echo(server) as client:
        await client.send_frame(close_payload(code, "because"), CLOSE)
        assert (await client.end()).code == code


@pytest.mark.parametrize("reason", ["", "x" * 123, "안녕"])
async def test_a_close_may_say_why(server: Server, reason: str) -> None:
    async with echo(server) as client:
        await client.send_frame(close_payload(1000, reason), CLOSE)
        assert (await client.end()).code == 1000


async def test_a_close_without_a_code_is_answered_without_one(server: Server) -> None:
    async with echo(server) as client:
        await client.send_frame(b"", CLOSE)
        assert (await client.end()).code == 1005


async def test_nothing_follows_a_close(server: Server) -> None:
    async with echo(server) as client:
        await client.wire.send(frame(close_payload(1000), CLOSE) + frame(b"late") + frame(b"", PING))
        assert await told(client) == (CLOSE, close_payload(1000))
        assert (await client.end()).code == 1006  # the end of the stream, and no frame before it


async def test_messages_come_back_in_order(server: Server) -> None:
    async with echo(server) as client:
        await client.wire.send(b"".join(frame(b"%d" % n, TEXT if n % 2 else BINARY) for n in range(500)))
        for n in range(500):
            assert await told(client) == (TEXT if n % 2 else BINARY, b"%d" % n)


async def test_without_the_flag_there_is_no_echo(listener: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("server"), listener) as server:
        async with open_wire(server) as wire:
            await wire.send(upgrade("/echo"))
            assert (await wire.head())[0] == 404
