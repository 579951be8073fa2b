"""Whatever bytes one client sends, and however it leaves: the process lives, and a bystander's stream is whole."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from support.raw_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    chat_path,
    close_payload,
    frame,
    fresh,
    open_client,
    open_wire,
    request,
)
from support.server import Server

TOKENS = 20


@asynccontextmanager
async def unharmed(server: Server) -> AsyncGenerator[None]:
    """A bystander's turn streams while the block is rude; it must be whole, and newcomers welcome."""
    async with open_client(server) as bystander:
        message_id = await bystander.say(tokens=TOKENS, pace=0.003)
        await bystander.wait_for("stream_start")
        yield
        turn = await bystander.turn(message_id)
        assert (turn[-1]["finish_reason"], turn[-1]["total_tokens"]) == ("stop", TOKENS)
    async with open_client(server) as newcomer:
        assert (await newcomer.turn(await newcomer.say()))[-1]["finish_reason"] == "stop"
    assert server.alive


def upgrade() -> bytes:
    return request(chat_path(fresh("s")))


PING_FRAME = frame(b"x", PING)

BEFORE_THE_UPGRADE: dict[str, bytes] = {
    "one byte after the upgrade request": upgrade() + b"x",
    "a frame before the 101": upgrade() + frame(b'{"type":"ping"}'),
    "half a frame before the 101": upgrade() + b"\x81",
    "a close frame before the 101": upgrade() + frame(close_payload(1000), CLOSE),
    "an unmasked frame before the 101": upgrade() + frame(b"x", masked=False),
    "a get with a body": request(chat_path(fresh("s")), {"Content-Length": "5"}) + b"hello",
    "a get with a chunked body": request(chat_path(fresh("s")), {"Transfer-Encoding": "chunked"})
    + b"1\r\nx\r\n0\r\n\r\n",
    "a plain get with a body": b"GET /chat-ws HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "two requests at once": upgrade() + upgrade(),
    "another method": request(chat_path(fresh("s")), method="POST"),
    "a delete": request(chat_path(fresh("s")), method="DELETE"),
    "http/1.0": upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "http/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "http/2's preface and junk": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
    "an upgrade to h2c": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings:\r\n\r\n",
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a line of nothing": b"\r\n\r\n\r\n\r\n",
    "nulls": b"\0" * 1000 + b"\r\n\r\n",
    "a head without an end": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
    "no host": request(chat_path(fresh("s")), {"Host": None}),
    "two keys": upgrade().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: AAAA\r\n\r\n"),
    "a target that is no path": upgrade().replace(b"/chat-ws", b"chat-ws"),
    "a target in latin-1": upgrade().replace(b"/chat-ws", b"/chat-ws\xe9"),
    "a bad percent escape": upgrade().replace(b"session_id=", b"session_id=%zz%"),
    "a thousand query fields": request("/chat-ws?" + "&".join(["a=1"] * 1000)),
    "a subprotocol of commas": request(chat_path(fresh("s")), {"Sec-WebSocket-Protocol": ",,,"}),
    "a bad extension": request(chat_path(fresh("s")), {"Sec-WebSocket-Extensions": "permessage-deflate; x=;;"}),
    "an accept-language of junk": request(chat_path(fresh("s")), {"Accept-Language": ";q=,,en;q=x;q=9"}),
}


@pytest.mark.parametrize("name", BEFORE_THE_UPGRADE)
async def test_bytes_around_the_upgrade_harm_nobody(server: Server, name: str) -> None:
    async with unharmed(server):
        await rudely(server, BEFORE_THE_UPGRADE[name])


@pytest.mark.parametrize("cut", [0, 1, 20, 100])
async def test_a_request_that_is_never_whole_harms_nobody(server: Server, cut: int) -> None:
    async with unharmed(server):
        await rudely(server, upgrade()[:cut])


async def rudely(server: Server, data: bytes) -> None:
    """Send the same on three connections: one stays for a while, one half-closes, one resets."""
    async with open_wire(server) as stays, open_wire(server) as fin, open_wire(server) as resets:
        for wire in (stays, fin, resets):
            await wire.shove(data)
        await fin.half_close()
        resets.reset()
        async with open_client(server) as meanwhile:
            await meanwhile.turn(await meanwhile.say())


async def test_a_request_byte_by_byte_is_served(server: Server) -> None:
    async with unharmed(server), open_wire(server) as wire:
        for byte in upgrade():
            await wire.send(bytes([byte]))
        assert (await wire.head())[0] == 101


BAD_FRAMES: dict[str, bytes] = {
    "unmasked": frame(b'{"type":"ping"}', masked=False),
    "a reserved bit": frame(b"x", reserved=4),
    "a compressed frame": frame(b"\xf2\x48\xcd\xc9\xc9\x07\x00", reserved=4),
    "a reserved opcode": frame(b"x", 3),
    "a reserved control opcode": frame(b"x", 11),
    "a ping of 126 bytes": frame(b"x" * 126, PING),
    "a ping in two": frame(b"x", PING, final=False),
    "a continuation of nothing": frame(b"x", CONTINUATION),
    "a text within a text": frame(b"a", TEXT, final=False) + frame(b"b", TEXT),
    "no utf-8": frame(b"\xff\xfe"),
    "half a letter": frame("가".encode()[:2]),
    "a close of one byte": frame(b"\x03", CLOSE),
    "a close with a bad code": frame(struct.pack("!H", 1005), CLOSE),
    "a close with code 0": frame(struct.pack("!H", 0), CLOSE),
    "a close with a bad reason": frame(struct.pack("!H", 1000) + b"\xff", CLOSE),
    "a length of 2**63": frame(b"x", length=2**63),
    "a length of 2**62": frame(b"x", length=2**62),
    "http": upgrade(),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_a_bad_frame_ends_its_own_connection_and_no_other(server: Server, name: str) -> None:
    data = BAD_FRAMES[name] + (b"x" * 70_000 if "2**" in name else b"")
    async with unharmed(server), open_client(server) as idle, open_client(server) as busy:
        await busy.say(tokens=1000, pace=0.005)
        await busy.wait_for("stream_token")
        await busy.wire.shove(data)
        await busy.end()
        await idle.wire.shove(data)
        await idle.end()


@pytest.mark.parametrize(
    ("name", "code"), [("unmasked", 1002), ("a reserved opcode", 1002), ("no utf-8", 1007), ("half a letter", 1007)]
)
async def test_a_protocol_error_is_answered_with_its_close_code(server: Server, name: str, code: int) -> None:
    async with open_client(server) as client:
        await client.send_frame(b"", PONG)
        await client.wire.send(BAD_FRAMES[name])
        assert (await client.end()).code == code


async def test_half_a_frame_and_a_reset_harm_nobody(server: Server) -> None:
    async with unharmed(server), open_client(server) as client:
        await client.wire.send(frame(b'{"type":"ping"}')[:7])
        await client.vanish("reset")


async def test_an_oversize_frame_with_a_ping_behind_it_harms_nobody(server: Server) -> None:
    async with unharmed(server), open_client(server) as client:
        await client.wire.shove(frame(b"x" * 200_000) + PING_FRAME + frame(b"x" * 200_000, BINARY) + PING_FRAME)
        await client.end()


async def test_a_reset_right_after_an_oversize_frame_harms_nobody(server: Server) -> None:
    async with unharmed(server), open_client(server) as client:
        await client.wire.shove(frame(b"x" * 100_000))
        await client.vanish("reset")


async def test_everything_behind_a_close_frame_is_ignored(server: Server) -> None:
    async with unharmed(server), open_client(server) as client:
        late = frame(b'{"message_id":"late","content":"late","session_id":"%s"}' % client.session_id.encode())
        await client.wire.send(frame(close_payload(1000), CLOSE) + late + PING_FRAME)
        assert (await client.end()).code == 1000
    assert server.record("opened", "late") == []


async def test_a_burst_of_pings_is_answered_and_a_flood_is_abuse(server: Server) -> None:
    async with unharmed(server), open_client(server) as client:
        await client.wire.send(PING_FRAME * 100)
        for _ in range(100):
            with trio.fail_after(5):
                assert await client._frame() == (PONG, b"x")
        await client.wire.shove(PING_FRAME * 1000)
        assert (await client.end()).code == 1008


async def test_ten_thousand_empty_fragments_keep_nobody_waiting(server: Server) -> None:
    async with unharmed(server), open_client(server) as client, open_client(server) as other:
        await client.wire.send(frame(b"", TEXT, final=False) + frame(b"", CONTINUATION, final=False) * 10_000)
        with trio.fail_after(0.5):
            await other.quiet()
        client.gone = True


async def test_many_messages_in_one_write_are_all_obeyed(server: Server) -> None:
    async with unharmed(server), open_client(server) as client:
        text = b'{"message_id":"m%d","content":"c","session_id":"%s","on_busy":"enqueue"}'
        await client.wire.send(b"".join(frame(text % (n, client.session_id.encode())) for n in range(9)))
        assert (await client.turn("m8"))[-1]["finish_reason"] == "stop"


async def test_a_client_that_reads_nothing_harms_nobody(server: Server) -> None:
    async with unharmed(server), open_wire(server) as wire:
        wire.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        session_id = fresh("s")
        await wire.send(request(chat_path(session_id)))
        await wire.head()
        big = '{"at":{"0":["yield",{"event":"chunk","data":"%s"}]},"tokens":0}' % ("x" * 50_000)
        body = '{"message_id":"m%d","content":"c","session_id":"%s","options":%s,"on_busy":"enqueue"}'
        for n in range(8):
            await wire.send(frame((body % (n, session_id, big)).encode()))


async def connect_and_reset(server: Server) -> None:
    async with open_wire(server) as wire:
        await wire.send(upgrade())
        wire.reset()


async def test_a_peer_that_has_gone_without_a_word_gives_its_descriptor_back_at_once(server: Server) -> None:
    held = Path(f"/proc/{server.process.pid}/fd")
    await trio.sleep(0.5)  # for connections of the tests before, which still say goodbye
    before = len(list(held.iterdir()))
    async with open_wire(server), open_wire(server):
        with trio.fail_after(2):
            while len(list(held.iterdir())) < before + 2:
                await trio.sleep(0.01)
    with trio.fail_after(1):
        while len(list(held.iterdir())) > before:
            await trio.sleep(0.01)


async def connect_and_reset_in_mid_turn(server: Server) -> None:
    async with open_client(server) as client:
        await client.say(tokens=1000)
        await client.vanish("reset")


@pytest.mark.parametrize("rude", [connect_and_reset, connect_and_reset_in_mid_turn])
async def test_a_crowd_that_resets_harms_nobody(server: Server, rude: Callable[[Server], Awaitable[None]]) -> None:
    async with unharmed(server), trio.open_nursery() as crowd:
        for _ in range(30):
            crowd.start_soon(rude, server)


async def test_nothing_went_wrong_in_the_server(server: Server) -> None:
    """The last of the module: a guard that catches is no licence for tracebacks of ours."""
    assert '"exception"' not in server.log()
