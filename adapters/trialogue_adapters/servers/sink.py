"""One socket's way out: bytes are written at once, without awaiting; what the socket does not take waits in one place.

Everything that leaves a connection goes through its sink, in order: our frames, the server's pings, pongs and closes.
So a half-written frame is always finished before anything else, whoever was cancelled meanwhile. A non-blocking
write(2) costs about 3 µs, an awaited `send_all` behind a lock 13 to 39.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from struct import pack

import trio

_SMALL = tuple(bytes((0x81, n)) for n in range(126))
"""Headers of unmasked, final text frames of up to 125 bytes (RFC 6455, 5.2)."""


def framed(payloads: Sequence[bytes]) -> bytes:
    """WebSocket text frames, from server to client, as one piece. Hot: 0.2 µs per small frame."""
    if len(payloads) == 1 and len(payloads[0]) < 126:
        return _SMALL[len(payloads[0])] + payloads[0]
    pieces: list[bytes] = []
    for payload in payloads:
        size = len(payload)
        if size < 126:
            pieces += (_SMALL[size], payload)
        elif size < 65536:
            pieces += (pack("!BBH", 0x81, 126, size), payload)
        else:
            pieces += (pack("!BBQ", 0x81, 127, size), payload)
    return b"".join(pieces)


PING = b"\x89\x00"
"""A ping without a payload (RFC 6455, 5.5.2), from server to client."""


UNSENT_BYTES = 16 * 1024
"""What the kernel may hold of a connection that it has not put on the network yet. Without this bound it takes up to 4
MiB for a peer that does not read: 45,000 tokens that the service made for nobody, that the log must keep, and that an
interrupt comes too late for. With it, 0.1 MiB (most of it the peer's own window); what is on its way is not bounded, so
a long line is filled all the same."""


class Stalled(Exception):
    """The peer has not taken a byte for too long."""


def _limit_unsent(sock: trio.socket.SocketType) -> None:
    """On Linux and macOS, for what is TCP at all."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT") and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _refuse(data: bytes | memoryview) -> int:
    raise BrokenPipeError


class Sink:
    """The way out of one plain TCP stream. `put` from anywhere in the Trio thread, `flush` from any task.

    `encode` makes of text payloads what is to be put: frames, compressed if that was agreed on.

    The backlog is bounded by its users: a connection that is told False writes no more until it has flushed, and a
    server's reader waits in `flush` after each pong.
    """

    __slots__ = ("_backlog", "_send", "_socket", "_stall_timeout", "_turn", "broken", "encode")

    def __init__(self, stream: trio.SocketStream, stall_timeout: float) -> None:
        self._socket = stream.socket
        _limit_unsent(stream.socket)
        # The standard library's method, without Trio's await around it: non-blocking, and after a close it says so.
        self._send: Callable[[bytes | memoryview], int] = stream.socket._sock.send  # type: ignore[attr-defined]
        self._stall_timeout = stall_timeout
        self._backlog = b""
        self._turn: trio.Lock | None = None
        self.broken = False
        self.encode: Callable[[Sequence[bytes]], bytes] = framed

    def __repr__(self) -> str:
        return f"<Sink {'broken' if self.broken else 'open'}, {len(self._backlog)} bytes waiting>"

    def put(self, data: bytes) -> bool:
        """Send what the socket takes now. False: some of it waits, `flush` before more. Never blocks or raises.

        Into a broken sink it says True: there is no use in waiting, and the reader hears of the end.
        """
        if self._backlog:
            self._backlog += data
            return False
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._break()
            return True
        if sent == len(data):
            return True
        self._backlog = data[sent:]
        return False

    def _break(self) -> None:
        self.broken = True
        self._backlog = b""
        self._send = _refuse

    async def drain(self) -> bool:
        """Wait until some of what waits has left. True: nothing waits any more. No patience of its own.

        Cancelled: what is left goes out before anything else, with the next `drain`.
        """
        if self._backlog:
            if self._turn is None:
                self._turn = trio.Lock()
            async with self._turn:
                try:
                    await trio.lowlevel.wait_writable(self._socket)
                except (OSError, trio.ClosedResourceError):
                    self._break()
                waiting, self._backlog = self._backlog, b""
                if waiting:
                    self.put(waiting)  # nobody runs in between: what is left stays in front
        return not self._backlog

    async def flush(self) -> None:
        """Until nothing waits. Cancelled: as `drain`.

        Raises:
            Stalled: no byte was taken for the stall timeout; the stream is of no more use.
        """
        while self._backlog:
            with trio.move_on_after(self._stall_timeout) as patience:
                await self.drain()
            if patience.cancelled_caught:
                self._break()
                raise Stalled


class TlsSink:
    """The same way out, over TLS, where a write has to be awaited: one task, `run`, does it, in order.

    The backlog is bounded as a sink's: who is told False waits.
    """

    __slots__ = ("_backlog", "_filled", "_left", "_stall_timeout", "_stream", "broken", "encode")

    RECORD = 16 * 1024
    """Bytes of one write: as many as a TLS record holds. So much has to leave within the stall timeout."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], stall_timeout: float) -> None:
        _limit_unsent(stream.transport_stream.socket)
        self._stream = stream
        self._stall_timeout = stall_timeout
        self._backlog = bytearray()
        self._filled = trio.Event()
        self._left = trio.Event()
        self.broken = False
        self.encode: Callable[[Sequence[bytes]], bytes] = framed

    def __repr__(self) -> str:
        return f"<TlsSink {'broken' if self.broken else 'open'}, {len(self._backlog)} bytes waiting>"

    def put(self, data: bytes) -> bool:
        """Have it sent. False: much waits, `flush` before more. Never blocks or raises. Broken: as a sink."""
        if self.broken:
            return True
        self._backlog += data
        self._filled.set()
        return len(self._backlog) <= self.RECORD

    async def run(self) -> None:
        """Send, until the stream is of no more use; a peer that takes nothing makes it so. Cancelled: so it is too."""
        try:
            while True:
                await self._filled.wait()
                self._filled = trio.Event()
                while self._backlog:
                    await self._send(bytes(self._backlog[: self.RECORD]))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.broken = True
            self._backlog.clear()
            self._tell()

    async def _send(self, data: bytes) -> None:
        with trio.move_on_after(self._stall_timeout) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.ClosedResourceError
        del self._backlog[: len(data)]
        self._tell()

    def _tell(self) -> None:
        self._left.set()
        self._left = trio.Event()

    async def drain(self) -> bool:
        """Wait until some of what waits has left. True: nothing waits any more. Cancelled: nothing is lost."""
        if self._backlog:
            await self._left.wait()
        return not self._backlog

    async def flush(self) -> None:
        """Until nothing waits; a peer that takes nothing breaks the sink. Cancelled: as `drain`."""
        while self._backlog:
            await self.drain()
