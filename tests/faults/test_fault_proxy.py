"""The proxy that the other tests here rely on: each of its faults is what it says, as both ends see it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from support.fault_proxy import Link, fault_proxy

PATIENCE = 10.0
SILENCE = 0.05
"""Long enough for bytes on this machine to have come, had they been sent."""


@dataclass
class Ends:
    """A connection through a proxy, seen from both ends."""

    client: trio.SocketStream
    server: trio.SocketStream
    link: Link


@asynccontextmanager
async def connected() -> AsyncGenerator[Ends]:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]

    class Address:
        host, port = "127.0.0.1", listener.socket.getsockname()[1]

    @dataclass
    class Wire:
        stream: trio.SocketStream

    async with fault_proxy(Address) as proxy, listener:
        client = await trio.open_tcp_stream(proxy.host, proxy.port)
        server = await listener.accept()
        await client.send_all(b"hello")
        assert await server.receive_some() == b"hello"
        yield Ends(client, server, proxy.link(Wire(client)))
        await trio.aclose_forcefully(client)
        await trio.aclose_forcefully(server)


async def silent(stream: trio.SocketStream) -> bool:
    """Does nothing come, not even an end?"""
    with trio.move_on_after(SILENCE):
        await stream.receive_some()
        return False
    return True


async def until_reset(stream: trio.SocketStream) -> bytes:
    received = b""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                data = await stream.receive_some()
            except trio.BrokenResourceError:
                return received
            assert data, "ended without a reset"
            received += data


async def exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    with trio.fail_after(PATIENCE):
        while len(data) < size:
            data += await stream.receive_some(size - len(data)) or pytest.fail(f"ended after {data!r}")
    return data


async def test_both_ways_and_both_ends_pass() -> None:
    async with connected() as ends:
        await ends.server.send_all(b"x" * 100_000)
        assert await exactly(ends.client, 100_000) == b"x" * 100_000
        await ends.client.send_eof()
        assert await ends.server.receive_some() == b""
        await ends.server.send_all(b"still here")
        assert await exactly(ends.client, 10) == b"still here"
        await ends.server.send_eof()
        assert await ends.client.receive_some() == b""


async def test_a_delay_holds_what_comes() -> None:
    async with connected() as ends:
        ends.link.up.delay(0.2)
        before = trio.current_time()
        await ends.client.send_all(b"late")
        assert await exactly(ends.server, 4) == b"late"
        assert 0.2 <= trio.current_time() - before < PATIENCE


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_cut_passes_so_many_bytes_and_resets_both_ends(way: str) -> None:
    async with connected() as ends:
        near, far = (ends.client, ends.server) if way == "up" else (ends.server, ends.client)
        getattr(ends.link, way).cut_after(3)
        await near.send_all(b"abcdef")
        assert await until_reset(far) in (b"", b"abc")  # a reset may overtake what the reader has not fetched yet
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await near.receive_some()


async def test_a_stall_makes_the_senders_writes_block_and_loses_nothing() -> None:
    async with connected() as ends, trio.open_nursery() as nursery:
        size = 5 << 20  # more than the kernel's buffers take
        ends.link.down.stall()
        sent = trio.Event()

        async def send() -> None:
            await ends.server.send_all(b"x" * size)
            sent.set()

        nursery.start_soon(send)
        assert await silent(ends.client)
        assert not sent.is_set()
        ends.link.down.go_on()
        assert len(await exactly(ends.client, size)) == size
        assert sent.is_set()


async def test_a_stall_also_holds_what_was_waited_for_already() -> None:
    async with connected() as ends:
        await silent(ends.server)  # the proxy waits for the client's next bytes
        ends.link.up.stall()
        await ends.client.send_all(b"held")
        assert await silent(ends.server)
        ends.link.up.go_on()
        assert await exactly(ends.server, 4) == b"held"


async def test_who_vanishes_takes_everything_and_answers_nothing_not_even_an_end() -> None:
    async with connected() as ends:
        ends.link.vanish()
        with trio.fail_after(PATIENCE):
            await ends.server.send_all(b"x" * (5 << 20))
        await ends.client.send_all(b"unheard")
        await ends.client.send_eof()
        assert await silent(ends.server)
        assert await silent(ends.client)


async def test_a_half_close_ends_one_way() -> None:
    async with connected() as ends:
        ends.link.up.half_close()
        assert await ends.server.receive_some() == b""
        await ends.server.send_all(b"go on")
        assert await exactly(ends.client, 5) == b"go on"


async def test_a_reset_is_one_for_both() -> None:
    async with connected() as ends:
        ends.link.reset()
        for end in (ends.client, ends.server):
            with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
                await end.receive_some()


async def test_a_finish_is_an_end_of_stream_for_both() -> None:
    async with connected() as ends:
        ends.link.finish()
        for end in (ends.client, ends.server):
            with trio.fail_after(PATIENCE):
                assert await end.receive_some() == b""
