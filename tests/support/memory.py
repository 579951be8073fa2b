"""The engine without sockets: a transport in memory, services that do as they are told, and a hub for one test."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trialogue import (
    Connection,
    Disconnected,
    Done,
    Emit,
    Handshake,
    Hub,
    Limits,
    Position,
    ServiceEvent,
    Turn,
    TurnReceipt,
    dialect_for,
)
from trialogue.core.dialects import DialectName


class MemoryTransport:
    """A client end in memory. `full` makes it take no more; `gone` ends it with a close code."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.writes = 0
        self.full = False
        self.silent = False
        self.probes = 0
        self.broken = False
        self.closed: tuple[int, str] | None = None
        self._ended = False
        self._room = trio.Event()
        self._send, self._receive = trio.open_memory_channel[str | bytes | int](1000)

    async def receive(self) -> str | bytes:
        message = await self._receive.receive()
        if isinstance(message, int):
            raise Disconnected(message)
        return message

    def write(self, frames: Sequence[bytes]) -> bool:
        if self.broken:
            raise RuntimeError("a transport that breaks its contract")
        self.writes += 1
        self.frames += [json.loads(frame) for frame in frames]
        return not self.full

    async def drain(self) -> bool:
        while self.full:
            await self._room.wait()
            if self._ended:
                raise Disconnected(1006)
        return True

    def probe(self) -> bool:
        self.probes += 1
        return not self.silent

    async def close(self, code: int, reason: str) -> None:
        self.closed = (int(code), reason)

    # The test's side.

    def say(self, **frame: Any) -> None:
        self._send.send_nowait(json.dumps(frame))

    def raw(self, message: str | bytes) -> None:
        self._send.send_nowait(message)

    def leave(self, code: int) -> None:
        self._send.send_nowait(code)

    def make_room(self) -> None:
        self.full = False
        self._room.set()
        self._room = trio.Event()

    def end_while_full(self) -> None:
        self._ended = True
        self._room.set()

    def told(self, *kinds: str) -> list[dict[str, Any]]:
        """The frames of these types."""
        return [frame for frame in self.frames if frame["type"] in kinds]

    def types(self, message_id: str | None = None) -> list[str]:
        """The types of all frames (of one turn), tokens in a row told once."""
        kinds: list[str] = []
        for frame in self.frames:
            wanted = message_id is None or frame.get("message_id") == message_id
            if wanted and not (kinds and kinds[-1] == frame["type"] == "stream_token"):
                kinds.append(frame["type"])
        return kinds


class Scripted:
    """A service whose turns wait to be told what to do: `emit`, `finish`, `fail`, each by message id."""

    def __init__(self, *, obeys: bool = True, closes_after: float = 0.0) -> None:
        self.obeys = obeys
        self.closes_after = closes_after
        self.turns: dict[str, Emit] = {}
        self.sessions: list[str] = []
        self.closed: list[str] = []
        self.open = 0
        self.most_open = 0
        self._endings: dict[str, trio.Event] = {}
        self._errors: dict[str, Exception] = {}

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        name = turn.message_id
        self.turns[name] = emit
        self.sessions.append(session_id)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        ending = self._endings.setdefault(name, trio.Event())
        try:
            with trio.CancelScope(shield=not self.obeys):
                await ending.wait()
            if name in self._errors:
                raise self._errors[name]
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.closes_after)
            self.open -= 1
            self.closed.append(name)

    def emit(self, name: str, *batch: ServiceEvent) -> None:
        self.turns[name](batch)

    def finish(self, name: str) -> None:
        self._endings.setdefault(name, trio.Event()).set()

    def let_go(self) -> None:
        """Even those that do not obey end now: the test is over."""
        for name in self.turns:
            self.finish(name)

    def done(self, name: str) -> None:
        self.emit(name, Done())
        self.finish(name)

    def fail(self, name: str, error: Exception) -> None:
        self._errors[name] = error
        self.finish(name)


class Attentive(Scripted):
    """… and that hears how its answers ended."""

    def __init__(self, *, takes: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.heard: list[tuple[TurnReceipt, str]] = []
        self.takes = takes
        self.raises: Exception | None = None

    async def ended(self, receipt: TurnReceipt, text: str) -> None:
        await trio.sleep(self.takes)
        if self.raises:
            raise self.raises
        self.heard.append((receipt, text))


class Bench:
    """A hub, its service, and connections by the dozen."""

    def __init__(self, hub: Hub, service: Any, nursery: trio.Nursery) -> None:
        self.hub = hub
        self.service = service
        self._nursery = nursery

    async def connect(
        self,
        session_id: str = "s",
        dialect: DialectName = "trialogue.v1",
        after: Position | None = None,
        prepare: Callable[[MemoryTransport], None] = lambda transport: None,
        **handshake: Any,
    ) -> MemoryTransport:
        transport = MemoryTransport()
        prepare(transport)
        opened = Handshake(session_id, after=after, **handshake)
        self.start(Connection(self.hub, transport, dialect_for(dialect, "en"), opened))
        await settle()
        return transport

    def start(self, connection: Connection) -> None:
        """Run a connection that the test has made itself."""
        self._nursery.start_soon(connection.run)

    async def ask(self, transport: MemoryTransport, name: str, **fields: Any) -> None:
        frame = {"message_id": name, "content": name, "session_id": "s", **fields}
        transport.say(**frame)
        await settle()


async def settle() -> None:
    """Let everybody do what they can do without time passing."""
    await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def bench(service: Any = None, **limits: Any) -> AsyncGenerator[Bench, None]:
    """A running hub. On leaving, everything is cancelled; nothing may be left over."""
    service = Scripted() if service is None else service
    async with Hub(service, Limits(**limits)).open() as hub, trio.open_nursery() as nursery:
        try:
            yield Bench(hub, service, nursery)
        finally:
            service.let_go()
            nursery.cancel_scope.cancel()
    assert hub.connections == 0
    assert hub.sessions == {}
    assert hub.census.open == 0
