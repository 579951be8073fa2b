"""A scripted server: it sends what a scene says, loses connections when a scene says so, and notes what it hears.

It keeps a log with positions as a real one does, so that a client can resume; and it knows what it has told, so that it
can judge what the client says of it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from trialogue import SUBPROTOCOL
from trialogue.core.protocol import ClientAck, ClientMessage, ClientPing, Invalid, parse
from trialogue_adapters.conformance.report import Failed
from trialogue_adapters.servers.guard import contained

SESSION = "conformance"
MESSAGE_QUEUE = 256
"""Frames of a client that may wait for us to read them: acks come while a scene is talking."""


@dataclass(eq=False, slots=True)
class Visit:
    """One connection of the client under test."""

    socket: WebSocketConnection
    stream: trio.SocketStream
    after: str | None
    came: float
    over: trio.Event = field(default_factory=trio.Event)


class Stage:
    """Where one client is judged. `notes` is what was wrong since somebody last took them."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.notes: list[str] = []
        self.visit: Visit
        self.asked: dict[str, str] = {}
        self._epoch, self._offset = 1_760_000_000_000, 0
        self._base = 0  # the earliest position that a returning client may have: what it had when it came last
        self._log: list[dict[str, Any]] = []
        self._told: dict[str, int] = {}
        self._send, self._arrivals = trio.open_memory_channel[Visit](16)

    def __repr__(self) -> str:
        return f"<Stage at {self.position}>"

    @property
    def position(self) -> str:
        return f"{self._epoch}:{self._offset}"

    def note(self, wrong: str) -> None:
        if wrong not in self.notes:
            self.notes.append(wrong)

    # The client comes and goes.

    @asynccontextmanager
    async def open(self, port: int, tell: Callable[[str], None]) -> AsyncGenerator[None]:
        """Listen on loopback, and say where."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, self._serve, port)
            bound = listeners[0].socket.getsockname()[1]
            tell(f"ws://127.0.0.1:{bound}/chat-ws?session_id={SESSION}")
            yield
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            await contained(lambda: self._receive(stream))
        finally:
            await trio.aclose_forcefully(stream)

    async def _receive(self, stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream, message_queue_size=MESSAGE_QUEUE)
            query = parse_qs(request.path.partition("?")[2])
            speaks = SUBPROTOCOL in request.proposed_subprotocols
            if not speaks:
                self.note(f"the subprotocol {SUBPROTOCOL} is not offered")
            if query.get("session_id") != [SESSION]:
                self.note(f"session_id={query.get('session_id')} in the query")
            socket = await request.accept(subprotocol=SUBPROTOCOL if speaks else None)
            visit = Visit(socket, stream, query.get("after", [None])[-1], trio.current_time())
            self._send.send_nowait(visit)
            await visit.over.wait()
            nursery.cancel_scope.cancel()

    async def arrival(self, within: float) -> Visit | None:
        """Who comes next; None if nobody does."""
        with trio.move_on_after(within):
            return await self._arrivals.receive()
        return None

    async def welcome(
        self, resumed: str = "replayed", running: str | None = None, epoch: int = 0, within: float = 0
    ) -> None:
        """Wait for the client to come (back), look at its `after`, and tell it how it is resumed.

        Args:
            resumed: "replayed" sends it what follows its position; "gap" begins at our position.
            epoch: the log has begun anew, so many later; which is a gap.
            within: other than our patience.
        """
        visit = await self.arrival(within or self.patience)
        if visit is None:
            raise Failed(f"no client came within {within or self.patience:g} s")
        first = not self._log
        self.visit = visit
        self._check_after(visit.after, first=first)
        if epoch:
            self._epoch, self._offset, self._log, resumed = self._epoch + epoch, 0, [], "gap"
        start = self._offset
        if resumed == "replayed" and visit.after in self._possible():
            start = int(str(visit.after).partition(":")[2])
        self._base = start
        await self.reply(
            "session_ready",
            session_id=SESSION,
            position=f"{self._epoch}:{start}",
            resumed="new" if first and resumed == "replayed" else resumed,
            running=running,
            queued=[],
            connections=1,
            limits={"content_chars": 10_000, "frame_bytes": 65_536, "queue": 8},
            heartbeat_s=20.0,
        )
        for entry in self._log:
            if entry["offset"] > start:
                await self._transmit(entry)

    def _check_after(self, after: str | None, *, first: bool) -> None:
        """A drop may lose what was on its way: any position since the last welcome is true."""
        if first:
            return
        if after not in self._possible():
            self.note(f"came back with after={after}, not {self._epoch}:{self._base} to {self.position}")

    def _possible(self) -> set[str]:
        return {f"{self._epoch}:{offset}" for offset in range(self._base, self._offset + 1)}

    async def drop(self) -> None:
        """End the connection as a lost network does: no close frame."""
        await trio.aclose_forcefully(self.visit.stream)
        self.visit.over.set()

    async def close(self, code: int) -> None:
        """With a close frame; nothing on a connection that has ended."""
        with trio.move_on_after(self.patience):
            await self.visit.socket.aclose(code)
        await self.drop()

    # Telling.

    async def raw(self, text: str) -> None:
        """Whatever it is. One that has gone just does not hear it: how it comes back is what is judged."""
        with suppress(ConnectionClosed), trio.move_on_after(self.patience):
            await self.visit.socket.send_message(text)

    async def _transmit(self, frame: dict[str, Any]) -> None:
        await self.raw(json.dumps(frame, ensure_ascii=False, separators=(",", ":")))

    async def reply(self, kind: str, **fields: Any) -> None:
        await self._transmit({"type": kind, **fields})

    async def entry(self, kind: str, message_id: str, **fields: Any) -> None:
        """Into the log, and to the client."""
        self._offset += 1
        frame = {"type": kind, "message_id": message_id, **fields, "offset": self._offset}
        self._log.append(frame)
        await self._transmit(frame)

    async def begin(self, message_id: str, answer: int = 1) -> None:
        """A turn's question, start, phase and sources. `answer`: which one it is of its question."""
        await self.entry("user_message", message_id, content=self.asked.get(message_id, "?"), on_busy="interrupt")
        started = {"session_id": SESSION, "timestamp": f"2026-01-16T10:00:0{answer}Z"}
        await self.entry("stream_start", message_id, **started)
        await self.entry("stream_status", message_id, phase="retrieving")
        await self.entry("stream_sources", message_id, sources=[{"title": "a", "score": 1.0, "content_preview": ""}])

    async def tokens(self, message_id: str, *texts: str, first: int = 0) -> None:
        for index, token in enumerate(texts, first):
            self._told[message_id] = max(self._told.get(message_id, 0), index)
            await self.entry("stream_token", message_id, token=token, index=index)

    async def end(self, message_id: str, total: int, reason: str = "stop") -> None:
        await self.entry("stream_end", message_id, total_tokens=total, processing_time_ms=1, finish_reason=reason)

    # Hearing.

    async def message(self) -> ClientMessage:
        """The next message of the client; what else it says is judged on the way. Raises Failed if none comes."""
        with trio.move_on_after(self.patience):
            while True:
                try:
                    heard = await self.visit.socket.get_message()
                except ConnectionClosed as closed:
                    code = closed.reason.code if closed.reason else 1006
                    raise Failed(f"the client left ({code}) where it should have sent a message") from None
                command = self._hear(heard)
                if isinstance(command, ClientPing):
                    await self.reply("pong", id=command.id)
                if isinstance(command, ClientMessage):
                    return command
        raise Failed(f"the client sent no message within {self.patience:g} s")

    def _hear(self, heard: str | bytes) -> Any:
        if isinstance(heard, bytes):
            self.note("a binary frame")
            return None
        command = parse(heard)
        if isinstance(command, Invalid):
            self.note(f"a frame that is not valid, {command.describe('en')} {heard[:100]!r}")
        elif command.session_id not in (None, SESSION):
            self.note(f"a frame with the session_id {command.session_id!r}")
        elif isinstance(command, ClientAck) and command.index > self._told.get(command.message_id, -1):
            self.note(f"an ack of token {command.index}, of which it has not been told")
        elif isinstance(command, ClientMessage):
            first = self.asked.setdefault(command.message_id, command.content)
            if command.content != first:
                self.note(f"the id {command.message_id!r} for two different messages")
        return command
