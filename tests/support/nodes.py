"""Several nodes in one Trio run: hubs on one store in memory, each with its own connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from support.memory import MemoryTransport, Scripted, settle
from support.memory_store import MemoryStore, Server
from trialogue import Connection, Everywhere, Handshake, Hub, Limits, Position, dialect_for
from trialogue.core.dialects import DialectName
from trialogue.ownership import AnySession
from trialogue.session import Session


class Node:
    """One server process, as far as the engine goes."""

    def __init__(self, hub: Hub, store: MemoryStore, service: Any) -> None:
        self.hub = hub
        self.store = store
        self.service = service
        self.scope = trio.CancelScope()
        self._nursery: trio.Nursery

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            async with self.hub.open(), trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()

    async def connect(
        self,
        session_id: str = "s",
        dialect: DialectName = "trialogue.v1",
        after: Position | None = None,
        **handshake: Any,
    ) -> MemoryTransport:
        transport = MemoryTransport()
        opened = Handshake(session_id, after=after, **handshake)
        self._nursery.start_soon(Connection(self.hub, transport, dialect_for(dialect, "en"), opened).run)
        await a_while()
        return transport

    def kill(self) -> None:
        """As SIGKILL: nothing is written any more, and its clients' connections are cut."""
        self.store.kill()
        self.scope.cancel()

    def session(self, session_id: str = "s") -> AnySession:
        return self.hub.sessions["", session_id]

    @property
    def owns(self) -> bool:
        return any(isinstance(session, Session) for session in self.hub.sessions.values())


class Cluster:
    """`it.a`, `it.b`, `it.c` …"""

    def __init__(self, nodes: dict[str, Node], server: Server, service: Any) -> None:
        self.nodes = nodes
        self.server = server
        self.service = service

    def __getattr__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def owner(self) -> Node:
        (owner,) = (node for node in self.nodes.values() if node.owns and not node.store.dead)
        return owner

    def events(self, session_id: str = "s") -> list[Any]:
        """What the store holds of a session."""
        return [one.event for one in self.server.streams.get(("", session_id), [])]

    async def ask(self, transport: MemoryTransport, name: str, **fields: Any) -> None:
        transport.say(**{"message_id": name, "content": name, "session_id": "s", **fields})
        await a_while()


async def a_while(seconds: float = 0.05) -> None:
    """So long that letters and entries have arrived, and no lease has ended."""
    await trio.sleep(seconds)
    await settle()


@asynccontextmanager
async def cluster(
    names: str = "abc",
    service: Callable[[], Any] = Scripted,
    durability: Any = "ahead",
    trusting: bool = False,
    **limits: Any,
) -> AsyncGenerator[Cluster]:
    """Running nodes that share one scripted service (each message id is known to one of them at a time)."""
    server, scripted = Server(), service()
    nodes = {}
    async with trio.open_nursery() as nursery:
        for name in names:
            store = MemoryStore(server, name, trusting=trusting)
            hub = Hub(
                scripted,
                Limits(**limits),
                store=store,
                durability=durability,
                now_ms=lambda: int(trio.current_time() * 1000),
            )
            nodes[name] = Node(hub, store, scripted)
            await nursery.start(nodes[name].run)
        try:
            yield Cluster(nodes, server, scripted)
        finally:
            scripted.let_go()
            nursery.cancel_scope.cancel()


# What clients were told.


def ends(transport: MemoryTransport) -> list[tuple[str, str]]:
    return [
        (frame["message_id"], frame.get("finish_reason") or frame["error_code"])
        for frame in transport.told("stream_end", "stream_error")
    ]


def tokens(transport: MemoryTransport, name: str) -> str:
    return "".join(frame["token"] for frame in transport.told("stream_token") if frame["message_id"] == name)


def position(transport: MemoryTransport) -> Position:
    """Where a good client would resume."""
    at = Position.parse(transport.frames[0]["position"])
    for frame in transport.frames[1:]:
        if "offset" in frame:
            at = Position(frame.get("epoch", at.epoch), frame["offset"])
    return at


async def two(it: Cluster, **options: Any) -> tuple[MemoryTransport, MemoryTransport]:
    """A client at the owner `a`, another at `b`."""
    return await it.a.connect(**options), await it.b.connect(**options)


# What applications call.

NEWS = {"type": "news", "n": 1}


def at(node: Node) -> Everywhere:
    return Everywhere(node.hub)


def news(*transports: MemoryTransport) -> list[list[int]]:
    return [[frame["n"] for frame in transport.told("news")] for transport in transports]


def left(it: Cluster) -> tuple[Any, ...]:
    """What there still is of any session, but for the floor of its epochs."""
    return (
        [node.hub.sessions for node in it.nodes.values() if node.hub.sessions and not node.store.dead],
        list(it.server.streams),
        list(it.server.owners),
    )
