"""The border of one ASGI connection: the host's `receive` and `send` on this side, an application on Trio on that one.

Two small tasks of the host's, a reader and a writer, call what belongs to its loop. Both worlds share a thread, so a
frame is handed over by appending it to a list; Trio is woken for what a client says, never for a token that it is
sent. ASGI wants one awaited send per frame: that is what a host's server costs more than ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any

import trio

from trialogue import Disconnected
from trialogue_adapters.mounting.guest import Errand

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INBOX_MESSAGES = 10
"""Messages that may wait for Trio; then the host's server is not asked for more, and stops reading its socket."""

PARKED_BYTES = 16 * 1024
"""Of frames that wait for the host's server; beyond it the transport is full. As much as one TLS record of our own
server holds; uvicorn has 64 KiB of its own behind it, and the kernel its own."""

CLOSE_SECONDS = 5.0
"""As long as a plain ASGI connection's close may take."""

LOST = 1006
NO_CODE = 1005


class Parcel:
    """A message whose sender waits until the host's server has taken it."""

    __slots__ = ("delivered", "error", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.delivered = trio.Event()
        self.error: Exception | None = None


class Border:
    """One connection's crossing. `serve` runs on the host's loop; `receive` and `send` are what Trio sees.

    `kind` is the ASGI scope's type, `http` or `websocket`.
    """

    def __init__(self, kind: str, receive: Receive, send: Send) -> None:
        self.broken = False
        """The host's server takes no more frames: its client has gone."""
        self._disconnect = f"{kind}.disconnect"
        self._host_receive = receive
        self._host_send = send
        self._loop = asyncio.get_running_loop()
        self._errand: Errand
        self._carriers: list[asyncio.Task[None]] = []
        self._reading = False
        self._inbox: deque[Message] = deque()
        self._arrived: trio.Event | None = None
        self._taken: asyncio.Event | None = None
        self._outbox: deque[bytes | Parcel] = deque()
        self._parked = 0
        self._wanted: asyncio.Future[None] | None = None
        self._left: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<Border {'broken' if self.broken else 'open'}, {len(self._inbox)} in, {self._parked} bytes out>"

    # The host's side.

    async def serve(self, errand: Errand) -> None:
        """Carry messages to and fro until the application on Trio has ended. Cancelled: it is cancelled, too."""
        self._errand = errand
        self._carry(self._write())
        try:
            await errand.wait()
        finally:
            for task in self._carriers:
                task.cancel()
            await asyncio.wait(self._carriers)

    def _carry(self, work: Coroutine[Any, Any, None]) -> None:
        carrier = self._loop.create_task(work)
        carrier.add_done_callback(self._carried)
        self._carriers.append(carrier)

    def _carried(self, carrier: asyncio.Task[None]) -> None:
        """Without both of its carriers a connection would hang: a bug of ours ends it."""
        if not carrier.cancelled() and (error := carrier.exception()):
            logger.error("%r: a carrier has failed", self, exc_info=error)
            self._errand.cancel()

    async def _read(self) -> None:
        while True:
            try:
                message = await self._host_receive()
            except Exception as error:  # noqa: BLE001 - servers differ in what they raise for a peer that has gone
                logger.debug("receiving: %r", error)
                message = {"type": self._disconnect, "code": LOST}
            self._inbox.append(message)
            if self._arrived is not None:
                self._arrived.set()
            if message["type"] == self._disconnect:
                return
            while len(self._inbox) >= INBOX_MESSAGES:
                self._taken = asyncio.Event()
                await self._taken.wait()

    async def _write(self) -> None:
        while True:
            while self._outbox:
                await self._deliver(self._outbox.popleft())
            self._wanted = self._loop.create_future()
            await self._wanted
            self._wanted = None

    async def _deliver(self, item: bytes | Parcel) -> None:
        if isinstance(item, Parcel):
            try:
                await self._host_send(item.message)
            except Exception as error:  # noqa: BLE001 - carried over, and raised on the other side
                item.error = error
            item.delivered.set()
            return
        try:
            if not self.broken:
                await self._host_send({"type": "websocket.send", "text": item.decode()})
        except Exception as error:  # noqa: BLE001 - servers differ in what they raise for a peer that has gone
            logger.debug("sending: %r", error)
            self.broken = True
        self._parked -= len(item)
        if self._left is not None:
            self._left.set()

    # Trio's side.

    async def receive(self) -> Message:
        """ASGI's `receive`. Always a checkpoint. Cancelled: no message is lost."""
        if not self._reading:  # most HTTP requests are never read
            self._reading = True
            self._carry(self._read())
        await trio.lowlevel.checkpoint()
        while not self._inbox:
            self._arrived = trio.Event()
            await self._arrived.wait()
        self._arrived = None
        if self._taken:
            self._taken.set()
        return self._inbox.popleft()

    async def send(self, message: Message) -> None:
        """ASGI's `send`, after everything that is parked. Cancelled: it may be sent all the same."""
        parcel = Parcel(message)
        self._post(parcel)
        await parcel.delivered.wait()
        if parcel.error is not None:
            raise parcel.error

    def park(self, frames: Sequence[bytes]) -> bool:
        """Have text frames sent, in order. False: much waits. Never blocks or raises. Hot: once per batch of tokens."""
        if self.broken:
            return True
        self._outbox += frames
        self._parked += sum(map(len, frames))
        self._wake()
        return self._parked <= PARKED_BYTES

    async def room(self) -> bool:
        """Wait until some of what is parked has left. True: there is room again."""
        if self._parked > PARKED_BYTES:
            self._left = trio.Event()
            await self._left.wait()
            self._left = None
        else:
            await trio.lowlevel.checkpoint()
        return self._parked <= PARKED_BYTES

    def _post(self, parcel: Parcel) -> None:
        self._outbox.append(parcel)
        self._wake()

    def _wake(self) -> None:
        if self._wanted and not self._wanted.done():
            self._wanted.set_result(None)


class HostTransport:
    """The engine's way to a client of the host's server."""

    __slots__ = ("_border", "_gone")

    def __init__(self, border: Border) -> None:
        self._border = border
        self._gone = False

    def __repr__(self) -> str:
        return f"<HostTransport {'closed' if self._gone else 'open'}, {self._border!r}>"

    async def receive(self) -> str | bytes:
        message = await self._border.receive()
        if message["type"] == "websocket.disconnect":
            self._gone = True
            raise Disconnected(close_code(message))
        text: str | None = message.get("text")
        if text is not None:
            return text
        data: bytes = message.get("bytes") or b""
        return data

    def write(self, frames: Sequence[bytes]) -> bool:
        return self._border.park(frames)

    async def drain(self) -> bool:
        room = await self._border.room()
        if self._border.broken:
            raise Disconnected(LOST)
        return room

    def probe(self) -> bool:
        return True  # ASGI has no pings: the host's server has to send them

    async def close(self, code: int, reason: str) -> None:
        if self._gone:
            return
        self._gone = True
        with trio.move_on_after(CLOSE_SECONDS):
            try:
                await self._border.send({"type": "websocket.close", "code": int(code), "reason": reason})
            except Exception as error:  # noqa: BLE001 - servers differ in what they raise for a peer that has gone
                logger.debug("closing a connection: %r", error)


def close_code(message: Message) -> int:
    """How the client left: 1005 says a close frame without a code, 1006 a connection that was lost.

    uvicorn calls both 1005, but only a frame has a reason, be it empty; to stop a turn because a phone went into a
    tunnel would be the worse mistake, so without a reason it is a loss. (Seen with 0.54, on both of its protocols.)
    """
    code: int = message.get("code") or LOST
    return LOST if code == NO_CODE and message.get("reason") is None else code
