"""What the frames of one WebSocket may ask for, judged at each frame's head, before its payload has come. Sans-IO.

wsproto shows every head, and every piece of payload, to its extensions: so the limits are extensions of it, the same on
every listener. What is too much ends the connection as a protocol error does, with the code that says why; the library
parses nothing after it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason, Opcode, ParseFailed, RsvBits

from trialogue import Limits

MAX_MESSAGE_BYTES = Limits().max_frame_bytes
MAX_FRAGMENTS = 1024
"""Of one message. Empty ones cost us 20 µs each and their sender nothing; a full message in pieces of 64 bytes fits."""
MAX_CONTROLS = 100
"""Pings and pongs of a second: nobody needs more, and each ping makes us send a pong."""
FRAMES_PER_STEP = 32
"""Frames of one read that are obeyed before others have their turn: 1 ms of pings."""

_NO_BITS = RsvBits(rsv1=False, rsv2=False, rsv3=False)
_TAIL = b"\x00\x00\xff\xff"
"""What a sender leaves away at the end of a compressed message (RFC 7692, 7.2.2)."""


class FrameGuard(Extension):
    """Counts what a message announces: a frame of 1 TiB is refused when its ten bytes of head are there."""

    name = "trialogue-limits"  # never negotiated: nobody offers it, and an offer would be declined

    __slots__ = ("_bytes", "_controls", "_fragments", "_now", "_since")

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._bytes = 0
        self._fragments = 0
        self._controls = 0
        self._now = now
        self._since = now()

    def __repr__(self) -> str:
        return f"<FrameGuard {self._bytes} bytes in {self._fragments} fragments>"

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(self, proto: Any, opcode: Opcode, rsv: RsvBits, payload_length: int) -> RsvBits:
        """Raises ParseFailed: 1009 for a message of too many bytes, 1008 for too many fragments or control frames."""
        if opcode.iscontrol():
            self._count_control()
        else:
            if opcode is not Opcode.CONTINUATION:
                self._bytes = self._fragments = 0
            self._bytes += payload_length
            self._fragments += 1
            if self._bytes > MAX_MESSAGE_BYTES:
                raise _too_big()
            if self._fragments > MAX_FRAGMENTS:
                raise ParseFailed(f"more than {MAX_FRAGMENTS} fragments", CloseReason.POLICY_VIOLATION)
        return _NO_BITS

    def _count_control(self) -> None:
        now = self._now()
        if now - self._since >= 1:
            self._since, self._controls = now, 0
        self._controls += 1
        if self._controls > MAX_CONTROLS:
            raise ParseFailed(f"more than {MAX_CONTROLS} pings a second", CloseReason.POLICY_VIOLATION)


class BoundedDeflate(PerMessageDeflate):
    """permessage-deflate that counts inflated bytes, as they are inflated: a bomb stops at the first one too much.

    The client is told not to keep its window from message to message, so that an idle connection keeps none for it.
    """

    def __init__(self) -> None:
        super().__init__(client_no_context_takeover=True)
        self._inflated = 0

    def accept(self, offer: str) -> bool | str | None:
        try:
            return super().accept(offer)
        except ValueError:  # a window size that is no number
            return None

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> bytes | CloseReason:
        return self._inflate(data) if self._is_compressed() else data

    def frame_inbound_complete(self, proto: Any, fin: bool) -> bytes | CloseReason | None:
        if not fin or not self._inbound_is_compressible:
            return None
        rest = self._inflate(_TAIL) if self._is_compressed() else None
        self._decompressor = self._inbound_compressed = None
        self._inflated = 0
        return rest

    def _is_compressed(self) -> bool:
        return bool(self._inbound_compressed and self._inbound_is_compressible)

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        assert self._decompressor is not None
        try:
            inflated = self._decompressor.decompress(data, MAX_MESSAGE_BYTES - self._inflated + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._inflated += len(inflated)
        if self._inflated > MAX_MESSAGE_BYTES:
            raise _too_big()
        return inflated


def _too_big() -> ParseFailed:
    return ParseFailed(f"more than {MAX_MESSAGE_BYTES} bytes", CloseReason.MESSAGE_TOO_BIG)


def _closed() -> Connection:
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(None)
    for _ in connection.events():
        pass
    return connection


CLOSED = _closed()
"""Takes the place of a connection that has ended. What its peer had sent, up to a whole message and a read, is let go
at once: a dead connection lies in reference cycles until the collector comes, which we have told to come rarely."""


def extensions(*, deflate: bool) -> list[Extension]:
    """What a server's side of a new connection is made with; compression is used if the client offers it."""
    return [FrameGuard(), BoundedDeflate()] if deflate else [FrameGuard()]


def deflated(connection: Connection) -> Callable[[Sequence[bytes]], bytes]:
    """As `framed`, for a connection that has agreed to compress: its window is the connection's, so is the function."""
    return lambda payloads: b"".join(connection.send(TextMessage(data=payload.decode())) for payload in payloads)
