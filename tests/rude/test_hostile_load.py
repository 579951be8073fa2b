"""What a hostile client costs: the growth of the server's memory, and how long a bystander waits meanwhile.

Run with `-n 0 -s` to see the figures: `pytest -n 0 -s tests/rude/test_hostile_load.py`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Awaitable, Callable, Generator
from functools import cache

import pytest
import trio

from support.raw_client import CONTINUATION, PING, PONG, TEXT, Client, frame, fresh, open_client
from support.server import LISTENERS, Server, running

pytestmark = pytest.mark.slow

MIB = 1 << 20
GROWTH = 2 * MIB
P99_SECONDS = 0.05
ROUNDS = 40
"""Of each attack, one after the other. Of hundreds, what each leaves to the collector (10 KB) would count."""
TRIES = 3
"""A neighbour's load on the machine makes figures worse, never better: one good run of so many is the truth."""
DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}


@cache
def bomb() -> bytes:
    """63 KiB that inflate to 64 MiB, as one compressed message."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = packer.compress(b" " * 64 * MIB) + packer.flush(zlib.Z_SYNC_FLUSH)
    return frame(payload[:-4], reserved=4)


async def until_closed(client: Client, data: bytes) -> int:
    """Send as much as the server takes. Returns the code it closes with."""
    client.gone = True
    await client.wire.shove(data)
    return (await client.end()).code


TEBIBYTE = frame(b"x" * 8 * MIB, length=1 << 40)
FRAGMENTS = frame(b"", TEXT, final=False) + frame(b"", CONTINUATION, final=False) * 100_000
PINGS, PONGS = frame(b"", PING) * 10_000, frame(b"", PONG) * 10_000


async def one_tebibyte(client: Client) -> int:
    return await until_closed(client, TEBIBYTE)


async def dripping(client: Client) -> int:
    """A tebibyte again, after as much as is allowed, in small segments."""
    await client.wire.send(frame(b"x", TEXT, final=False, length=60_000))
    for _ in range(59):
        await client.wire.send(b"x" * 1000)
    return await until_closed(client, b"x" * 999 + frame(b"x" * MIB, CONTINUATION, length=1 << 40))


async def empty_fragments(client: Client) -> int:
    return await until_closed(client, FRAGMENTS)


async def compressed_bomb(client: Client) -> int:
    return await until_closed(client, bomb())


async def pings(client: Client) -> int:
    return await until_closed(client, PINGS)


async def pongs(client: Client) -> int:
    return await until_closed(client, PONGS)


ATTACKS: dict[str, tuple[Callable[[Client], Awaitable[int]], bool, int]] = {
    "one frame of 1 TiB": (one_tebibyte, False, 1009),
    "a message that grows to 1 TiB": (dripping, False, 1009),
    "100,000 empty fragments": (empty_fragments, False, 1008),
    "10,000 pings": (pings, False, 1008),
    "10,000 pongs": (pongs, False, 1008),
    "a bomb, without --deflate": (compressed_bomb, False, 1002),
    "a bomb, with --deflate": (compressed_bomb, True, 1009),
}


@pytest.fixture(scope="module", params=[(name, deflate) for name in LISTENERS for deflate in (False, True)], ids=str)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    listener, deflate = request.param
    flags = ("--messages-per-minute", "0", *(["--deflate"] if deflate else []))
    with running(tmp_path_factory.mktemp("server"), listener, flags) as server:
        server.deflate = deflate  # type: ignore[attr-defined]
        yield server


async def warm_up(server: Server) -> None:
    """What any first clients cost, once."""
    for _ in range(40):
        async with open_client(server, "warm") as client:
            await client.turn(await client.say(tokens=20))


async def measure(server: Server, attack: Callable[[], Awaitable[None]]) -> tuple[float, float, int]:
    """Memory's growth in bytes, a bystander's p99 in seconds, and of how many pings, while the attack runs."""
    server.forget_peak()
    before = server.peak()
    waits: list[float] = []
    async with open_client(server) as bystander, trio.open_nursery() as nursery:

        async def watch() -> None:
            while True:
                asked = time.perf_counter()
                await bystander.quiet()
                waits.append(time.perf_counter() - asked)
                await trio.sleep(0.002)

        nursery.start_soon(watch)
        await attack()
        nursery.cancel_scope.cancel()
        bystander.gone = True
    waits.sort()
    return server.peak() - before, waits[int(len(waits) * 0.99)], len(waits)


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_hostile_client_costs_little_and_keeps_nobody_waiting(server: Server, name: str) -> None:
    client_attack, deflate, code = ATTACKS[name]
    bomb()
    if deflate is not server.deflate:  # type: ignore[attr-defined]
        pytest.skip("this one is for the other kind of server")
    session_id = fresh("hostile")  # one session: what sessions cost is not the question here

    async def attack() -> None:
        for _ in range(ROUNDS):
            async with open_client(server, session_id, headers=DEFLATE) as client:
                assert ("sec-websocket-extensions" in client.headers) is deflate
                assert await client_attack(client) == code

    await warm_up(server)
    for _ in range(TRIES):
        growth, p99, count = await measure(server, attack)
        print(
            f"\n{server.listener}, {name}, {ROUNDS} times: memory +{growth / MIB:.2f} MiB, "
            f"a bystander's p99 {p99 * 1000:.1f} ms of {count} pings"
        )
        if growth <= GROWTH and p99 <= P99_SECONDS:
            break
    else:
        pytest.fail("too much memory, or too long a wait, in every try")
    assert server.alive


async def test_a_compressed_conversation_works(server: Server) -> None:
    """The flag is for something: a client that offers it may compress, and is sent compressed frames."""
    async with open_client(server, headers=DEFLATE) as client:
        if not server.deflate:  # type: ignore[attr-defined]
            assert "sec-websocket-extensions" not in client.headers
            return
        assert "client_no_context_takeover" in client.headers["sec-websocket-extensions"]
        packer, unpacker = zlib.compressobj(9, zlib.DEFLATED, -15), zlib.decompressobj(-15)
        text = b'{"message_id":"m","content":"c","session_id":"%s"}' % client.session_id.encode()
        await client.wire.send(frame((packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4], reserved=4))
        seen = b""
        with trio.fail_after(5):
            while b"stream_end" not in seen:
                first, second = await client.wire.exactly(2)
                assert first == 0xC1  # final, compressed, text
                size = second if second < 126 else int.from_bytes(await client.wire.exactly(2), "big")
                seen += unpacker.decompress(await client.wire.exactly(size) + b"\x00\x00\xff\xff")
        assert b"stream_start" in seen
        assert b"stream_token" in seen
        client.gone = True
