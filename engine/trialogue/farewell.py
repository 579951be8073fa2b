"""How a hub's sessions and clients are let go: in batches, each client with a time of its own to come back.

Which session has nothing left to do is its own to say (`drained`), and it says goodbye to its clients by itself then;
here it is only told to leave, and waited for. Nobody is closed before what it has been promised is told, but for the
deadline: a drain ends, whatever sessions, readers and upstreams do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import randrange
from typing import Protocol

import trio

from trialogue.core.errors import CloseCode
from trialogue.core.events import Goaway
from trialogue.core.machine import Drain, HandOver
from trialogue.nodes import Nodes
from trialogue.ownership import AnySession
from trialogue.remote_client import RemoteClient
from trialogue.session import Session
from trialogue.stay import Client
from trialogue.store import Key

DRAIN_BATCH = 100
DRAIN_PAUSE = 0.02
"""Sessions that a drain tells at once, and the seconds between two such batches: a goodbye takes about 0.1 ms, so that
whoever still streams waits for 10 ms, and 10,000 connections are closed in two seconds."""

RETURNS_PER_SECOND = 500
"""How fast clients are asked to come back after a drain: half of what a listener was seen to accept."""
MIN_RETURN_MS = 1000


class Leaving(Protocol):
    """The hub, as it is now."""

    connections: int

    @property
    def sessions(self) -> Mapping[Key, AnySession]: ...

    @property
    def nodes(self) -> Nodes | None: ...


class Farewell:
    """A hub's. `changed`: where who waits for it to change is parked."""

    def __init__(self, hub: Leaving, changed: trio.lowlevel.ParkingLot) -> None:
        self._hub = hub
        self._changed = changed

    def __repr__(self) -> str:
        return f"<Farewell of {self._hub!r}>"

    async def bid(self, timeout: float, farewell: float) -> None:
        """See `Hub.drain`; no turns are taken any more."""
        hub = self._hub
        with trio.move_on_after(timeout):
            busy_first = sorted(hub.sessions.values(), key=lambda session: session.state.idle)
            leave = self._hand_over if hub.nodes else lambda session: session.tell(Drain(now=False))
            await self._in_batches(busy_first, leave, timeout / 2)
            await self._until_drained()
        unfinished = [session for session in hub.sessions.values() if not session.drained]
        await self._in_batches(unfinished, lambda session: session.tell(Drain(now=True)), farewell / 4)
        with trio.move_on_after(farewell / 4):  # for upstreams to close, so that receipts and services tell the truth
            await self._until_drained()
        for session in tuple(hub.sessions.values()):
            self.say_goodbye(session)
        with trio.move_on_after(farewell / 2):
            while hub.connections or (hub.nodes and hub.nodes.owning):
                await self._changed.park()

    def say_goodbye(self, session: AnySession) -> None:
        """Close its connections with 1012; and with a store, let another node have it."""
        self._send_away(session)
        nodes = self._hub.nodes
        if nodes and isinstance(session, Session):
            session.log.after(partial(nodes.release, session))

    def _hand_over(self, session: AnySession) -> None:
        session = self._hub.sessions.get(session.key, session)  # its owner may have changed since its batch was made up
        self._send_away(session)
        session.tell(HandOver())

    def _send_away(self, session: AnySession) -> None:
        """Close its connections to this node."""
        for client in tuple(session.clients.values()):
            if not isinstance(client, RemoteClient):
                self._dismiss(client)

    def _dismiss(self, client: Client) -> None:
        """Each is told its own time to come back, so that they do not come as one."""
        spread_ms = 1000 * self._hub.connections // RETURNS_PER_SECOND
        goaway = Goaway("drain", MIN_RETURN_MS + randrange(spread_ms + 1))  # noqa: S311 - no secret
        client.dismiss(CloseCode.RESTART, "restart", goaway)

    async def _in_batches(
        self, sessions: Sequence[AnySession], leave: Callable[[AnySession], None], within: float
    ) -> None:
        """All of them, in that order, in `within` seconds at most."""
        pause = min(DRAIN_PAUSE, within * DRAIN_BATCH / max(1, len(sessions)))
        for start in range(0, len(sessions), DRAIN_BATCH):
            if start:
                await trio.sleep(pause)
            for session in sessions[start : start + DRAIN_BATCH]:
                leave(session)

    async def _until_drained(self) -> None:
        sessions = self._hub.sessions
        while undrained := [session for session in sessions.values() if not session.drained]:
            for session in undrained:  # one after the other: not all of them again whenever anything changes
                while not session.drained and sessions.get(session.key) is session:
                    await self._changed.park()
