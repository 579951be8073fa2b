"""One WebSocket over an anyio byte stream: RFC 6455 by wsproto, so the same lines run on Trio and on asyncio.

Writing never waits: frames go into one bounded buffer, which `pump` empties. So a server that reads nothing blocks
nobody here; when the buffer is full the connection is given up. Foreign exceptions end at this file.
"""

from __future__ import annotations

import json
import ssl
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import anyio
import anyio.abc
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from trialogue_adapters.client.address import Address
from trialogue_adapters.client.errors import Refused, Unreachable
from trialogue_adapters.client.returning import Closed

MAX_UNSENT = 1024 * 1024
MAX_MESSAGE_CHARS = 16 * 1024 * 1024
"""Of one message from the server; a longer one ends the connection."""
MAX_REFUSAL_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
LOST = 1006
BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class WebSocket:
    """An open connection. One task reads, one pumps; anybody may write. `closed` is how it ended."""

    def __init__(self, stream: anyio.abc.ByteStream, protocol: WSConnection) -> None:
        self.closed: Closed | None = None
        self.heard_at = anyio.current_time()
        self.pumped = anyio.Event()
        self._stream = stream
        self._protocol = protocol
        self._unsent = bytearray()
        self._wake = anyio.Event()
        self._parts: list[str] = []
        self._part_chars = 0
        self._texts: deque[str] = deque()

    def __repr__(self) -> str:
        return f"<WebSocket {self.closed or 'open'}, {len(self._unsent)} bytes unsent>"

    async def receive(self) -> str | None:
        """The next text message; None when the connection has ended (see `closed`). Cancelled: none is lost."""
        while not self._texts and self.closed is None:
            try:
                data: bytes | None = await self._stream.receive(READ_BYTES)
            except BROKEN:
                data = None
            self._feed(data)
        return self._texts.popleft() if self._texts else None

    def write(self, text: str) -> None:
        """Send a text message soon."""
        if self.closed is None:
            self._send(TextMessage(data=text))

    def say_goodbye(self, code: int) -> None:
        """Send a close frame soon; `receive` then ends with the server's."""
        if self.closed is None:
            self._send(CloseConnection(code=code))

    async def pump(self) -> None:
        """Send what was written, until the connection ends and its last word is out; then `pumped` is set.

        Cancelled: half a frame may be out.
        """
        with suppress(*BROKEN):
            while self.closed is None or self._unsent:
                await self._wake.wait()
                self._wake = anyio.Event()
                data, self._unsent = bytes(self._unsent), bytearray()
                await self._stream.send(data)
        self.pumped.set()

    async def give_up(self, reason: str) -> None:
        """End it without a word: whoever reads is told 1006."""
        self._end(LOST, reason)
        await anyio.aclose_forcefully(self._stream)

    def _feed(self, data: bytes | None) -> None:
        if self.closed is not None:
            return
        if not data:
            self._end(LOST, "the connection was lost")
            return
        self.heard_at = anyio.current_time()
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                self._on(event)
        except ProtocolError as error:
            self._end(PROTOCOL_ERROR, str(error))

    def _on(self, event: Event) -> None:
        match event:
            case TextMessage(data=data):
                self._parts.append(data)
                self._part_chars += len(data)
                if self._part_chars > MAX_MESSAGE_CHARS:
                    self._end(PROTOCOL_ERROR, f"a message of more than {MAX_MESSAGE_CHARS} characters")
                elif event.message_finished:
                    self._texts.append("".join(self._parts))
                    self._parts, self._part_chars = [], 0
            case Ping():
                self._send(event.response())
            case CloseConnection(code=code, reason=reason):
                with suppress(ProtocolError):  # the answer to our own needs none
                    self._send(event.response())
                self._end(int(code), reason or "")
            case BytesMessage():
                self._end(PROTOCOL_ERROR, "a binary message")

    def _send(self, event: Event) -> None:
        self._unsent += self._protocol.send(event)
        self._wake.set()
        if len(self._unsent) > MAX_UNSENT:
            self._end(LOST, "the server reads nothing")

    def _end(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = Closed(code, reason)
            self._wake.set()


async def open_websocket(
    address: Address,
    target: str,
    subprotocol: str,
    headers: Sequence[tuple[str, str]] = (),
    tls: ssl.SSLContext | None = None,
) -> WebSocket:
    """Connect and upgrade. Cancelled, or raising: nothing is left open.

    Raises:
        Unreachable: nobody answered, or TLS failed, or it broke off.
        Refused: it was answered with HTTP, or without our subprotocol.
    """
    stream = await _connect(address, tls)
    try:
        protocol = WSConnection(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
        request = Request(address.authority, target, extra_headers=extra, subprotocols=[subprotocol])
        await stream.send(protocol.send(request))
        accepted, rest = await _answer(stream, protocol, address)
        if accepted.subprotocol != subprotocol:
            raise Refused(101, f"{address} does not speak {subprotocol}", code="wrong-subprotocol")
        socket = WebSocket(stream, protocol)
        for event in rest:
            socket._on(event)
        return socket
    except (ProtocolError, *BROKEN) as error:
        await anyio.aclose_forcefully(stream)
        raise Unreachable(f"{address} broke off the handshake: {described(error)}") from error
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


async def _connect(address: Address, tls: ssl.SSLContext | None) -> anyio.abc.ByteStream:
    try:
        if not address.secure:
            return await anyio.connect_tcp(address.host, address.port)
        context = tls or ssl.create_default_context()
        return await anyio.connect_tcp(
            address.host, address.port, tls=True, ssl_context=context, tls_standard_compatible=False
        )
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, UnicodeError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise Unreachable(f"cannot connect to {address}: {described(cause)}") from error


async def _answer(
    stream: anyio.abc.ByteStream, protocol: WSConnection, address: Address
) -> tuple[AcceptConnection, list[Event]]:
    """Wait for the upgrade. Returns the acceptance, and what came in the same read."""
    rejection: RejectConnection | None = None
    body = bytearray()
    while True:
        try:
            protocol.receive_data(await stream.receive(READ_BYTES))
        except anyio.EndOfStream:
            if rejection is None:
                raise
            raise _refusal(rejection, bytes(body), address) from None
        events = list(protocol.events())
        for number, event in enumerate(events):
            match event:
                case AcceptConnection():
                    return event, events[number + 1 :]
                case RejectConnection():
                    rejection = event
                    if not event.has_body:
                        raise _refusal(event, bytes(body), address)
                case RejectData(data=data):
                    body += data
                    if rejection and (event.body_finished or len(body) > MAX_REFUSAL_BYTES):
                        raise _refusal(rejection, bytes(body), address)


def _refusal(rejection: RejectConnection, body: bytes, address: Address) -> Refused:
    """What the answer says of itself, in our server's form or in none."""
    later = {bytes(name).lower(): bytes(value) for name, value in rejection.headers}.get(b"retry-after", b"")
    told: object = None
    with suppress(ValueError, RecursionError):
        told = json.loads(body)
    error = told.get("error") if isinstance(told, dict) else None
    message, code = (error.get("message"), error.get("code")) if isinstance(error, dict) else (None, None)
    status = rejection.status_code
    return Refused(
        status,
        message if isinstance(message, str) else f"{address} answered with HTTP {status}, not with a WebSocket",
        code=code if isinstance(code, str) else None,
        retry_after=float(later) if later.isdigit() else None,
    )


def described(error: BaseException) -> str:
    """What it says, or else what it is."""
    return str(error) or type(error).__name__
