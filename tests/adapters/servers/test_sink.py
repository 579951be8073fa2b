"""`servers/sink.py`: on real sockets, against readers that are slow, stuck or gone."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from trialogue_adapters.servers.sink import Sink, Stalled, TlsSink, framed


@given(st.lists(st.text(max_size=200) | st.sampled_from(["x" * 125, "x" * 126, "x" * 65535, "x" * 65536]), max_size=6))
def test_frames_are_what_a_websocket_library_reads(texts: list[str]) -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(framed([text.encode() for text in texts]))
    read = [event for event in client.events() if isinstance(event, TextMessage)]
    whole: list[str] = []
    part = ""
    for event in read:
        part += event.data
        if event.message_finished:
            whole.append(part)
            part = ""
    assert whole == texts


@asynccontextmanager
async def pair(buffer: int = 4096) -> AsyncGenerator[tuple[trio.SocketStream, trio.SocketStream]]:
    one, two = socket.socketpair()
    for end in (one, two):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        end.setblocking(False)  # noqa: FBT003 - the standard library's signature
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (one, two))
    async with ours, theirs:
        yield ours, theirs


async def read(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive_some(1000)
    return data


async def test_what_the_socket_takes_is_sent_at_once() -> None:
    async with pair() as (ours, theirs):
        sink = Sink(ours, 10)
        assert sink.put(b"hello")
        assert await theirs.receive_some(100) == b"hello"


async def test_what_waits_goes_out_in_order() -> None:
    async with pair() as (ours, theirs):
        sink = Sink(ours, 10)
        pieces = [bytes([n]) * 10_000 for n in range(50)]
        assert not all([sink.put(piece) for piece in pieces])  # noqa: C419 - every one is put
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.flush)
            assert await read(theirs, 500_000) == b"".join(pieces)
        assert sink.put(b"x")


async def test_a_cancelled_flush_loses_and_repeats_nothing() -> None:
    async with pair() as (ours, theirs):
        sink = Sink(ours, 10)
        data = bytes(range(256)) * 1000
        sink.put(data)
        with trio.move_on_after(0.02):
            await sink.flush()
        sink.put(b"END")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.flush)
            nursery.start_soon(sink.flush)  # a second one waits its turn
            assert await read(theirs, len(data) + 3) == data + b"END"


async def test_a_peer_that_takes_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async with pair() as (ours, _):
        sink = Sink(ours, 10)
        sink.put(b"x" * 500_000)
        started = trio.current_time()
        with pytest.raises(Stalled):
            await sink.flush()
        assert trio.current_time() - started == pytest.approx(10)
        assert sink.broken
        assert sink.put(b"more")
        assert repr(sink) == "<Sink broken, 0 bytes waiting>"


async def test_a_peer_that_has_gone_breaks_it_quietly() -> None:
    async with pair() as (ours, theirs):
        sink = Sink(ours, 10)
        await theirs.aclose()
        while not sink.broken:
            assert sink.put(b"x" * 1000)
        await sink.flush()


async def test_a_closed_stream_is_never_written_to() -> None:
    async with pair() as (ours, _):
        sink = Sink(ours, 10)
        await ours.aclose()
        assert sink.put(b"x")
        assert sink.broken


async def test_the_kernel_holds_little_for_a_peer_that_does_not_read() -> None:
    """Over TCP, where it would take 4 MiB: all that was sent and not read is what a service has made for nobody."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    client = await trio.open_tcp_stream(*listener.socket.getsockname())
    async with listener, client, await listener.accept() as stream:
        sink, taken, frame = Sink(stream, 10.0), 0, framed([b"x" * 85])
        while sink.put(frame):
            taken += len(frame)
        assert taken < 256 * 1024
        assert len(await client.receive_some(1000)) == 1000


# Over TLS.


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)
    return ours, theirs


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
TlsStream = trio.SSLStream[trio.SocketStream]


@asynccontextmanager
async def tls_sink(contexts: Contexts, patience: float = 10) -> AsyncGenerator[tuple[TlsSink, TlsStream, TlsStream]]:
    """A sink that runs, its stream, and the peer's."""
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        server = trio.SSLStream(ours, contexts[0], server_side=True, https_compatible=True)
        client = trio.SSLStream(theirs, contexts[1], server_hostname="localhost", https_compatible=True)
        async with trio.open_nursery() as greeting:
            greeting.start_soon(server.do_handshake)
            await client.do_handshake()
        sink = TlsSink(server, patience)
        nursery.start_soon(sink.run)
        yield sink, server, client
        nursery.cancel_scope.cancel()


async def read_tls(stream: TlsStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive_some(1000)
    return data


async def test_tls_what_is_put_leaves_without_anybody_waiting_for_it(contexts: Contexts) -> None:
    async with tls_sink(contexts) as (sink, _, client):
        assert sink.put(b"hello")
        assert await client.receive_some(100) == b"hello"
        await wait_all_tasks_blocked()
        assert repr(sink) == "<TlsSink open, 0 bytes waiting>"


async def test_tls_what_waits_goes_out_in_order(contexts: Contexts) -> None:
    async with tls_sink(contexts) as (sink, _, client):
        pieces = [bytes([n]) * 10_000 for n in range(50)]
        assert not all([sink.put(piece) for piece in pieces])  # noqa: C419 - every one is put
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.flush)
            assert await read_tls(client, 500_000) == b"".join(pieces)
        assert sink.put(b"x")


async def test_tls_a_cancelled_drain_loses_and_repeats_nothing(contexts: Contexts) -> None:
    async with tls_sink(contexts) as (sink, _, client):
        data = bytes(range(256)) * 1000
        sink.put(data)
        with trio.move_on_after(0.02):
            await sink.flush()
        sink.put(b"END")
        assert await read_tls(client, len(data) + 3) == data + b"END"


async def test_tls_a_peer_that_takes_nothing_is_given_up(contexts: Contexts, autojump_clock: MockClock) -> None:
    async with tls_sink(contexts) as (sink, server, _):
        began = trio.current_time()
        assert not sink.put(b"x" * 500_000)
        await sink.flush()
        assert trio.current_time() - began == pytest.approx(10)
        assert sink.broken
        assert sink.put(b"more")
        with pytest.raises(trio.ClosedResourceError):
            await server.receive_some(1)


async def test_tls_a_peer_that_has_gone_breaks_it_quietly(contexts: Contexts) -> None:
    async with tls_sink(contexts) as (sink, _, client):
        await trio.aclose_forcefully(client)
        sink.put(b"x" * 500_000)
        await sink.flush()
        assert sink.broken
        assert await sink.drain()
