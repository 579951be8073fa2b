"""Registry and supervisor of the sessions: finds or spawns them, restarts those that crash.

One for one: a session's crash is its own. Sessions are keyed by (principal, session id), so nobody can meet somebody
else's. Generations run in the hub's nursery, not in their session's, because an upstream that refuses to close may
outlive the session that it was opened for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import trio

from trialogue.admission import Admission
from trialogue.alarms import Alarm, Alarms
from trialogue.commons import Census, Commons
from trialogue.core.errors import Fault
from trialogue.core.events import CancelResult, Custom
from trialogue.core.limits import Limits
from trialogue.core.machine import Cancel, Drain, HandOver, State, Turn, refusal
from trialogue.farewell import Farewell
from trialogue.log import Log
from trialogue.memory_log import MemoryLog
from trialogue.metrics import Meter, NullMeter
from trialogue.nodes import INQUIRY_SECONDS, Nodes
from trialogue.ownership import AnySession
from trialogue.service import Service
from trialogue.session import Session
from trialogue.shared_log import Durability
from trialogue.shelf import Shelf
from trialogue.slots import Slots
from trialogue.stay import Client
from trialogue.store import Store, StoreGone
from trialogue.tracing import NullTracer, Tracer, session_fields

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""How long an actor, which waits for nobody, may take to answer; longer means that it has crashed or gone."""

MAX_CRASHES = 3
CRASH_WINDOW = 30.0
"""More than `MAX_CRASHES` crashes of a session's actor within this many seconds, and it is closed with 1011."""


class Hub:
    """All sessions of a process. Set `service` whenever it is ready; until then messages are refused with WS-002."""

    def __init__(
        self,
        service: Service | None = None,
        limits: Limits | None = None,
        meter: Meter | None = None,
        *,
        tracer: Tracer | None = None,
        store: Store | None = None,
        durability: Durability = "ahead",
        make_log: Callable[[int, int, Callable[[int], None]], Log] = MemoryLog,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.limits = limits or Limits()
        self.meter = meter or NullMeter()
        self.tracer = tracer or NullTracer()
        self.store = store
        self.sessions: dict[tuple[str, str], AnySession] = {}
        self.census = Census()
        self.admission = Admission(self.limits, trio.current_time)
        self.slots = Slots(self.limits.max_generations)
        self.shelf = Shelf(self.limits.max_vacant, self.limits.log_bytes_in_all, self.sessions.values)
        self.draining = False
        self.connections = 0
        self.service = service
        self._make_log = make_log
        self._now_ms = now_ms
        self._epoch = 0
        self._durability = durability
        self.nodes: Nodes | None = None
        """The other nodes, once it runs and if there is a `store`."""
        self._commons: Commons | None = None
        self._waiting = trio.lowlevel.ParkingLot()
        self._farewell = Farewell(self, self._waiting)

    def __repr__(self) -> str:
        phase = "draining" if self.draining else "open" if self._commons else "closed"
        return f"<Hub {phase}, {len(self.sessions)} sessions, {self.connections} connections>"

    @property
    def service(self) -> Service | None:
        return self._service

    @service.setter
    def service(self, service: Service | None) -> None:
        self._service = service
        if service is None:
            self.slots.shut = True
        else:
            self.slots.open()

    @property
    def running(self) -> bool:
        """Can connections attach?"""
        return self._commons is not None

    @property
    def ready(self) -> bool:
        """Would a message be accepted now?"""
        reachable = self.store is None or self.store.reachable
        return self.running and self.service is not None and reachable and not self.draining

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self, None]:
        """Supervise for the length of the block. At its end all is cancelled: `drain` before, to be kind."""
        self.admission = Admission(self.limits, trio.current_time)  # another run of Trio has another clock
        async with trio.open_nursery() as nursery:
            alarms = Alarms()
            nursery.start_soon(alarms.run)
            self._commons = Commons(
                self.limits,
                self.meter,
                self.tracer,
                self.census,
                self.slots,
                self.shelf,
                alarms,
                nursery,
                service=lambda: self.service,
                changed=self._changed,
                goodbye=self._farewell.say_goodbye,
            )
            try:
                async with self._among_nodes(self._commons):
                    yield self
            finally:
                self._commons = None
                nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def _among_nodes(self, commons: Commons) -> AsyncGenerator[None]:
        """Share the sessions with other nodes, if there is a store for that. Raises StoreGone, at the start only."""
        if self.store is None:
            yield
            return

        def supervise(session: Session) -> None:
            commons.nursery.start_soon(self._supervise, session)

        self.nodes = Nodes(self.store, commons, self.sessions, supervise, self._new_epoch, self._durability)
        async with self.store.open(self.nodes):
            self.nodes.begin()
            commons.alarms.set(trio.current_time() + self._touch_seconds, self._touch)
            try:
                yield
            finally:
                self.nodes.close()

    @property
    def _touch_seconds(self) -> float:
        return max(1.0, self.limits.session_ttl / 4)

    def _touch(self) -> None:
        """What this node owns is to live in the store for as long as here; and a while longer, should the node go."""
        assert self.nodes
        self.nodes.touch(2 * self.limits.session_ttl)
        self.alarm(self._touch_seconds, self._touch)

    def _new_epoch(self) -> int:
        self._epoch = max(self._epoch + 1, self._now_ms())
        return self._epoch

    # For connections.

    async def session(self, principal: str, session_id: str) -> AnySession:
        """The session with that id, spawned if there is none. Raises RuntimeError when the hub does not run.

        No checkpoint without a store. With one, it may have to be read: raises StoreGone if it can't be.
        """
        commons = self._commons
        if commons is None:
            raise RuntimeError("the hub is not running: enter `open()` (or the app's lifespan) before connections come")
        key = (principal, session_id)
        if self.nodes is not None:
            loaded = await self.nodes.load(key)
            if self.draining:
                loaded.tell(HandOver())
            return loaded
        session = self.sessions.get(key)
        if session is None:
            log = self._make_log(self._new_epoch(), self.limits.log_bytes, self.shelf.count)
            session = self.sessions[key] = Session(key, log, commons)
            commons.nursery.start_soon(self._supervise, session)
            if self.draining:
                session.tell(Drain(now=False))
        return session

    def alarm(self, seconds: float, call: Callable[[], None]) -> Alarm:
        """Call a function that many seconds from now; see `Alarms`."""
        assert self._commons
        return self._commons.alarms.set(trio.current_time() + seconds, call)

    async def find(self, principal: str, session_id: str) -> AnySession | None:
        """The session with that id, if there is one on any node. Raises StoreGone."""
        key = (principal, session_id)
        return await self.nodes.find(key) if self.nodes else self.sessions.get(key)

    def attached(self, client: Client, session: AnySession) -> None:
        self.connections += 1
        self.meter.attached()
        session.attach(client)

    def detached(self, client: Client, session: AnySession, *, stop: bool) -> None:
        self.connections -= 1
        session.detach(client, stop=stop)
        self._changed()

    def refusal(self) -> Fault | None:
        """Why no new turn can be taken now, whoever asks; None if one can."""
        limits = self.limits
        if self.draining and self.store is None:  # with a store, a session that was not told to leave yet goes on
            return Fault("WS-006")
        if self.store is not None and not self.store.reachable:
            return Fault("WS-009")
        if self.service is None:
            return Fault("WS-002")
        if limits.max_abandoned and self.census.abandoned >= limits.max_abandoned:
            return Fault("WS-010")
        if self.shelf.full or (limits.max_waiting and self.slots.waiting >= limits.max_waiting):
            return Fault("WS-010")
        return None

    async def foresee(self, principal: str, session_id: str, turn: Turn) -> Fault | None:
        """Why that session would refuse this turn as things are; None if it would not. It is the actor that decides,
        of the owner's node. No checkpoint without a store; with one, the session is kept here for the client to come.
        """
        try:
            session = await self.find(principal, session_id)
        except StoreGone:
            return Fault("WS-009")
        state = session.state if session else State(draining=self.draining)
        fault = refusal(state, turn, self.limits)
        return fault if fault or turn.message_id in state.ledger else self.refusal()

    async def cancel(self, principal: str, session_id: str, message_id: str | None) -> list[CancelResult]:
        """Stop a turn of a session, or all of them (None), for somebody who has no connection to it.

        One result per turn that was stopped, the running one first, or one that says why none was. None at all: the
        session's actor did not answer in time. Raises StoreGone. Cancelled: the turns are stopped all the same.
        """
        session = await self.find(principal, session_id)
        if session is None:
            return [CancelResult(message_id, "unknown")]
        patience = INQUIRY_SECONDS if self.nodes else ANSWER_SECONDS
        with session.errand() as errand, trio.move_on_after(patience):
            session.tell(Cancel(message_id, errand.number))
            return [reply for reply in await errand.answered() if isinstance(reply, CancelResult)]
        return []

    def delete(self, principal: str, session_id: str) -> bool:
        """Forget a session: its turns are stopped, its clients closed with 1000, its log goes. False: there is none.

        Who attaches with that id from now on attaches to a new one.
        """
        self._be_alone()
        session = self.sessions.pop((principal, session_id), None)
        if session is None:
            return False
        assert isinstance(session, Session)
        session.delete()
        return True

    # For applications. These answer at once, so they are for a hub that has its sessions for itself: where there is a
    # store they raise RuntimeError, and `Everywhere` has them for both.

    def is_connected(self, session_id: str, *, principal: str = "") -> bool:
        """Has that session a connection now?"""
        self._be_alone()
        session = self.sessions.get((principal, session_id))
        return bool(session and session.clients)

    def send_json(self, session_id: str, body: Mapping[str, Any], *, principal: str = "") -> int:
        """Hand a JSON object to all connections of a session. Returns to how many; a broken one hurts no other."""
        self._be_alone()
        session = self.sessions.get((principal, session_id))
        return self._hand(session, body) if session else 0

    def broadcast(self, body: Mapping[str, Any]) -> int:
        """Hand a JSON object to all connections of all sessions. Returns to how many."""
        self._be_alone()
        return sum(self._hand(session, body) for session in tuple(self.sessions.values()))

    def _hand(self, session: AnySession, body: Mapping[str, Any]) -> int:
        clients = tuple(session.clients.values())
        for client in clients:
            client.reply(Custom(body))
        return len(clients)

    def _be_alone(self) -> None:
        if self.store is not None:
            raise RuntimeError("other nodes share these sessions and have to be asked: use `await Everywhere(hub)...`")

    # Supervision.

    async def _supervise(self, session: Session) -> None:
        """Run a session's actor, restart it when it crashes, give it up when it does so too often."""
        crashes: list[float] = []
        try:
            while True:
                try:
                    if crashes:
                        session.recover()
                    await session.run()
                    if self.nodes:
                        self.nodes.over(session)
                    return
                except Exception:
                    logger.exception("a session's actor crashed", extra=session_fields(*session.key))
                    self.meter.crashed()
                if session.retired:
                    return  # it owes nothing to anybody any more
                now = trio.current_time()
                crashes = [*(crash for crash in crashes if now - crash <= CRASH_WINDOW), now]
                if len(crashes) > MAX_CRASHES:
                    session.give_up()
                    if self.nodes:
                        self.nodes.release(session)
                    return
        except Exception:
            logger.exception("a session cannot even be given up", extra=session_fields(*session.key))
        finally:
            if self.sessions.get(session.key) is session:
                del self.sessions[session.key]
            session.close()
            self._changed()

    def _changed(self) -> None:
        if self._waiting:
            self._waiting.unpark_all()

    async def drain(self, timeout: float, farewell: float = 1.0) -> None:
        """Leave without dropping anyone: no new turns, running ones get `timeout` seconds, then WS-006; close 1012.

        A session's connections are let go when it has nothing left to do; those that have nothing to do now leave in
        batches. With a store nobody need wait for what runs, which is in the log that any node follows: all leave, and
        what they send until their batch is up is taken as ever.

        Returns when every connection has gone, at the latest `timeout + farewell` seconds from now (and a little more
        if there are thousands of turns to end). Cancelled: no new turns are taken all the same.
        """
        self.draining = True
        if self.nodes:
            self.nodes.leave()
        await self._farewell.bid(timeout, farewell)
