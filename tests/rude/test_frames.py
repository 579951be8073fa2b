"""Bad frames on an open WebSocket, each with the close code that answers it."""

from __future__ import annotations

import struct

import pytest

from rude.bystander import unnoticed
from support.raw_client import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload, frame, open_client, request
from support.server import Server

LIMIT = 64 * 1024
FRAGMENTS = 1024
FIRST = frame(b"", TEXT, final=False)
MORE = frame(b"", CONTINUATION, final=False)
MASK = b"\0\0\0\0"


def closing(code: int) -> bytes:
    return frame(close_payload(code), CLOSE)


CASES: dict[str, tuple[bytes, int]] = {
    # Heads.
    "unmasked": (frame(b'{"type":"ping"}', masked=False), 1002),
    "reserved bit 1": (frame(b"x", reserved=4), 1002),
    "reserved bit 2": (frame(b"x", reserved=2), 1002),
    "reserved bit 3": (frame(b"x", reserved=1), 1002),
    "a reserved bit on a ping": (frame(b"", PING, reserved=4), 1002),
    "compressed, though nobody agreed to it": (frame(b"\xf2\x48\xcd\xc9\xc9\x07\x00", reserved=4), 1002),
    **{f"opcode {opcode}": (frame(b"x", opcode), 1002) for opcode in (3, 7, 11, 15)},
    "a length of 5 in two bytes": (b"\x81\xfe\x00\x05" + MASK + b"hello", 1002),
    "a length of 5 in eight bytes": (b"\x81\xff" + struct.pack("!Q", 5) + MASK + b"hello", 1002),
    "a length of 2**63": (frame(b"x", length=2**63), 1002),
    "HTTP": (request("/chat-ws?session_id=a"), 1002),
    # Control frames.
    "a ping of 126 bytes": (frame(b"x" * 126, PING), 1002),
    "a ping of 1 TiB": (frame(b"x", PING, length=1 << 40), 1002),
    "a ping in two": (frame(b"x", PING, final=False), 1002),
    "a close in two": (frame(close_payload(1000), CLOSE, final=False), 1002),
    "a close of one byte": (frame(b"\x03", CLOSE), 1002),
    "a close of 126 bytes": (frame(close_payload(1000, "x" * 124), CLOSE), 1002),
    "a close whose reason is no UTF-8": (frame(close_payload(1000) + b"\xff", CLOSE), 1007),
    **{
        f"a close with {code}": (closing(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)
    },
    # Fragments.
    "a continuation of nothing": (frame(b"x", CONTINUATION), 1002),
    "a text within a text": (FIRST + frame(b"b"), 1002),
    "a binary within a text": (FIRST + frame(b"b", BINARY), 1002),
    "one empty fragment too many": (FIRST + MORE * FRAGMENTS, 1008),
    "100,000 empty fragments": (FIRST + MORE * 100_000, 1008),
    "fragments of one byte": (FIRST + frame(b"x", CONTINUATION, final=False) * 2000, 1008),
    # Text.
    "no UTF-8": (frame(b"\xff\xfe"), 1007),
    "half a letter": (frame("가".encode()[:2]), 1007),
    "half a letter, over fragments": (frame("가".encode()[:2], TEXT, final=False) + frame(b"x", CONTINUATION), 1007),
    "a surrogate": (frame(b"\xed\xa0\x80"), 1007),
    "an overlong slash": (frame(b"\xc0\xaf"), 1007),
    "past the last code point": (frame(b"\xf4\x90\x80\x80"), 1007),
    # Size.
    "one byte too much": (frame(b"x" * (LIMIT + 1)), 1009),
    "announced, one byte too much": (frame(b"x", length=LIMIT + 1), 1009),
    "1 TiB": (frame(b"x", length=1 << 40), 1009),
    "1 TiB of binary": (frame(b"x", BINARY, length=1 << 40), 1009),
    "2**62, and some of it": (frame(b"x" * 500_000, length=2**62), 1009),
    "one byte too much, over fragments": (
        frame(b"x" * LIMIT, TEXT, final=False) + frame(b"x", CONTINUATION),
        1009,
    ),
    "30,000 letters of three bytes": (frame(("가" * 30_000).encode()), 1009),
    "a huge frame and a ping behind it": (frame(b"x" * 200_000) + frame(b"", PING), 1009),
    # Binary.
    "binary": (frame(b"\x00\x01", BINARY), 1003),
    "empty binary": (frame(b"", BINARY), 1003),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_bad_frame_is_told_its_close_code_and_nobody_else_notices(server: Server, name: str) -> None:
    data, code = CASES[name]
    async with unnoticed(server), open_client(server) as client:
        await client.wire.shove(data)
        assert (await client.end()).code == code


@pytest.mark.parametrize("name", ["unmasked", "1 TiB", "one empty fragment too many"])
async def test_in_the_middle_of_an_answer_too(server: Server, name: str) -> None:
    data, code = CASES[name]
    async with unnoticed(server), open_client(server) as client:
        message_id = await client.say(tokens=40, pace=0.01)
        await client.wait_for("stream_token")
        await client.wire.shove(data)
        assert (await client.end()).code == code
    assert (await server.recorded("ended", message_id))["ending"] == "completed"  # it was lost, not asked to stop


async def test_what_is_just_allowed_is_served(server: Server) -> None:
    async with unnoticed(server), open_client(server) as client:
        head, tail = frame(b'{"type":', TEXT, final=False), frame(b'"ping"}', CONTINUATION)
        await client.wire.send(head + MORE * (FRAGMENTS - 2) + tail)
        assert (await client.next())["type"] == "pong"
        text = b'{"type":"ping"}'
        await client.wire.send(frame(text + b" " * (LIMIT - len(text))))
        assert (await client.next())["type"] == "pong"
