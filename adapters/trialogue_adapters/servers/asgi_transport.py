"""A connection over plain ASGI sends, for a server on Trio that offers no transport which writes without awaiting."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import trio

from trialogue import Disconnected

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLOSE_SECONDS = 5.0

FRAMES_PER_DRAIN = 16
"""Frames that a stalled peer may hold up together: what the connection's patience is measured over."""


class AsgiTransport:
    """The plain way: frames are parked, and `drain` sends them one by one, as ASGI wants it."""

    __slots__ = ("_gone", "_parked", "_receive", "_send")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._parked: list[bytes] = []
        self._gone = False

    def __repr__(self) -> str:
        return f"<AsgiTransport {'closed' if self._gone else 'open'}, {len(self._parked)} parked>"

    async def receive(self) -> str | bytes:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._gone = True
            raise Disconnected(message.get("code") or 1005)
        text: str | None = message.get("text")
        if text is not None:
            return text
        data: bytes = message.get("bytes") or b""
        return data

    def write(self, frames: Sequence[bytes]) -> bool:
        self._parked += frames
        return False

    async def drain(self) -> bool:
        frames, self._parked = self._parked[:FRAMES_PER_DRAIN], self._parked[FRAMES_PER_DRAIN:]
        for frame in frames:
            await self._send({"type": "websocket.send", "text": frame.decode()})
        return not self._parked

    def probe(self) -> bool:
        return True  # ASGI has no pings: the server below has to send them

    async def close(self, code: int, reason: str) -> None:
        if self._gone:
            return
        self._gone = True
        with trio.move_on_after(CLOSE_SECONDS):
            try:
                while not await self.drain():
                    pass
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
            except Exception as error:  # noqa: BLE001 - servers differ in what they raise for a peer that has gone
                logger.debug("closing a connection: %r", error)
