"""A TCP proxy between a client and a server that does to their connection what networks do, when a test says so.

`fault_proxy(server)` listens on 127.0.0.1 and has a `host` and a `port`, so a client is opened on it as on the server.
`proxy.link(client)` is that client's connection; its two directions, `up` (client to server) and `down`, are commanded
one by one. A command acts at once, also on a direction that waits for data. What a direction has read and may not pass
on, it holds (at most one read); so nothing is lost when it goes on.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import trio

READ_BYTES = 4096
BUFFER_BYTES = 16 * 1024
"""Of its sockets: small, so that a stall is felt at the other end soon."""


class Direction:
    """One way through the proxy."""

    def __init__(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        self.passed = 0
        self._source, self._sink = source, sink
        self._delay = 0.0
        self._left: int | None = None
        self._cut = trio.Event()
        self._swallowing = False
        self._going = trio.Event()
        self._going.set()

    def __repr__(self) -> str:
        phase = "stalled" if not self._going.is_set() else "swallowing" if self._swallowing else "open"
        return f"<Direction {phase}, {self.passed} bytes passed>"

    def delay(self, seconds: float) -> None:
        """Hold every read for so long."""
        self._delay = seconds

    def cut_after(self, size: int) -> None:
        """Pass so many more bytes, then end the whole link as when a host dies: with a reset to both sides."""
        self._left = size
        if not size:
            self._cut.set()

    def stall(self) -> None:
        """Stop reading: the sender's kernel is told that there is no room, and after a while its writes block."""
        self._going = trio.Event()

    def swallow(self) -> None:
        """Read and throw away, the sender's end too: its kernel sees every byte acknowledged."""
        self._swallowing = True

    def go_on(self) -> None:
        """End a stall, a delay or a swallowing."""
        self._delay, self._swallowing = 0.0, False
        self._going.set()

    def half_close(self) -> None:
        """Tell the sink that nothing more comes (a FIN); the other direction goes on."""
        with suppress(OSError):
            self._sink.socket.shutdown(socket.SHUT_WR)

    async def pump(self) -> None:
        """Until the source has ended (its FIN is passed on). Cancelled: both streams are as they are."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self._going.wait()
                data = await self._source.receive_some(READ_BYTES)
                await self._going.wait()
                await trio.sleep(self._delay)
                if self._swallowing and data:
                    continue
                if self._swallowing:
                    await trio.sleep_forever()
                if not data:
                    await self._sink.send_eof()
                    return
                if self._left is not None:
                    data = data[: self._left]
                    self._left -= len(data)
                last = self._left == 0
                await self._sink.send_all(data)
                self.passed += len(data)
                if last:
                    self._cut.set()

    async def cut(self) -> None:
        """Until the bytes that `cut_after` allowed have passed."""
        await self._cut.wait()


class Link:
    """One connection through the proxy: a socket to the client, one to the server."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self._client, self._server = client, server
        self.up = Direction(client, server)
        self.down = Direction(server, client)

    def __repr__(self) -> str:
        return f"<Link up {self.up}, down {self.down}>"

    def vanish(self) -> None:
        """Both sides hear nothing more of each other, and neither is told."""
        self.up.swallow()
        self.down.swallow()

    def reset(self) -> None:
        """End both sockets with a RST."""
        for stream in (self._client, self._server):
            with suppress(OSError):
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.socket.close()

    def finish(self) -> None:
        """Close both sockets: a FIN, and a RST to whoever goes on sending."""
        for stream in (self._client, self._server):
            stream.socket.close()

    async def run(self) -> None:
        """Until both directions have ended or one has cut the link."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reset_on_cut, self.up)
            nursery.start_soon(self._reset_on_cut, self.down)
            async with trio.open_nursery() as pumps:
                pumps.start_soon(self.up.pump)
                pumps.start_soon(self.down.pump)
            nursery.cancel_scope.cancel()

    async def _reset_on_cut(self, direction: Direction) -> None:
        await direction.cut()
        self.reset()


class FaultProxy:
    """Where clients connect instead of at the server."""

    def __init__(self, server: Any, port: int) -> None:
        self.host, self.port = "127.0.0.1", port
        self.tls = getattr(server, "tls", None)
        self._server = server
        self._links: dict[int, Link] = {}

    def __repr__(self) -> str:
        return f"<FaultProxy on port {self.port}, {len(self._links)} links>"

    @property
    def links(self) -> list[Link]:
        """All that are open now."""
        return list(self._links.values())

    def link(self, client: Any) -> Link:
        """The link of an open `Client` (or `Wire`)."""
        wire = getattr(client, "wire", client)
        return self._links[wire.stream.socket.getsockname()[1]]

    def cut(self) -> None:
        """End every link as when a host dies."""
        for link in self._links.values():
            link.reset()

    async def serve(self, stream: trio.SocketStream) -> None:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        far = trio.socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        await far.connect((self._server.host, self._server.port))
        server, port = trio.SocketStream(far), stream.socket.getpeername()[1]
        self._links[port] = link = Link(stream, server)
        try:
            await link.run()
        finally:
            del self._links[port]
            await trio.aclose_forcefully(server)
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def fault_proxy(server: Any) -> AsyncGenerator[FaultProxy]:
    """A proxy to a server, for the length of the block; its links end with it."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = FaultProxy(server, listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()


@contextmanager
def cuttable(server: Any) -> Generator[tuple[int, Callable[[], None]]]:
    """For tests that do not run on Trio: a port that leads to the server, and what cuts everybody who came that way."""
    started: queue.SimpleQueue[tuple[trio.lowlevel.TrioToken, FaultProxy, trio.CancelScope]] = queue.SimpleQueue()

    async def run() -> None:
        async with fault_proxy(server) as proxy:
            with trio.CancelScope() as scope:
                started.put((trio.lowlevel.current_trio_token(), proxy, scope))
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    token, proxy, scope = started.get(timeout=10)
    try:
        yield proxy.port, lambda: token.run_sync_soon(proxy.cut)
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join(10)
