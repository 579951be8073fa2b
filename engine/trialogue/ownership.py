"""Who owns a session: finding it, claiming it, taking it over, losing it, giving it back.

A session is here as a `Session` (this node owns it) or as a `RemoteSession` (another does, or it is not known who). All
that changes which of them it is goes through `_resolve`, one task per session at a time: it asks the store for the
session, and believes its answer. So a lost owner, a lost lease, a lost store and a letter to the wrong node are one
case: this node does not know who owns the session, and finds out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from functools import partial
from typing import assert_never

import trio

from trialogue.commons import Commons
from trialogue.core.errors import CloseCode, Fault
from trialogue.core.events import Event, Goaway, UserMessage
from trialogue.core.letters import NotMine
from trialogue.guests import Guests
from trialogue.history import History
from trialogue.log import Position
from trialogue.remote_client import RemoteClient
from trialogue.remote_session import RemoteSession
from trialogue.session import Session
from trialogue.shared_log import Durability, SharedLog
from trialogue.store import Claim, Key, Store, Stored, StoreGone, Verdict

logger = logging.getLogger(__name__)

AnySession = Session | RemoteSession

RETRY_SECONDS = 0.5
"""Between two attempts to find out who owns a session, while the store fails or the owner does not know it."""

PATIENCE = 4
"""Such attempts until clients are told that the store is gone, which takes two seconds."""

MAX_CLAIMS = 8
"""Owners that may be found gone, one after the other, in one attempt."""


class Ownership:
    """Which sessions are whose. `supervise` runs a session's actor; `settled` hears of each that was being settled."""

    def __init__(
        self,
        store: Store,
        commons: Commons,
        sessions: MutableMapping[Key, AnySession],
        guests: Guests,
        *,
        supervise: Callable[[Session], None],
        settled: Callable[[Key], None],
        first_epoch: Callable[[], int],
        durability: Durability,
    ) -> None:
        self.store = store
        self.takeovers = 0
        self._commons = commons
        self._sessions = sessions
        self._guests = guests
        self._supervise = supervise
        self._settled = settled
        self._first_epoch = first_epoch
        self._durability = durability
        self._settling: dict[Key, trio.Event] = {}
        self._unsent: list[tuple[str, NotMine]] = []  # while the store cannot be reached
        self.closed = False

    def __repr__(self) -> str:
        owned = sum(isinstance(session, Session) for session in self._sessions.values())
        return f"<Ownership, {owned} owned, {len(self._sessions) - owned} remote, {len(self._settling)} being settled>"

    def settling(self, key: Key) -> bool:
        """Is it not known just now whose it is?"""
        return key in self._settling

    def close(self) -> None:
        """The hub has ended: what is still being loaded has come too late."""
        self.closed = True

    # Finding a session.

    async def load(self, key: Key) -> AnySession:
        """The session: this node's own, if nobody owned it. Raises StoreGone. Those who come together share the work.

        Cancelled: the next one to come does it.
        """
        while True:
            current = (session := self._sessions.get(key)) is not None and not await self._outdated(session)
            if self.closed:
                raise StoreGone("this node has left in the meantime")
            if session is not None and current:
                return session
            if (settling := self._settling.get(key)) is not None:
                await settling.wait()
                continue
            self._settling[key] = trio.Event()
            try:
                await self._resolve(key, None)
            finally:
                self._end_settling(key)

    async def _outdated(self, session: AnySession) -> bool:
        """Has it gone meanwhile? Nobody tells that of one that has no client here: it was loaded to be looked at."""
        if isinstance(session, Session) or not session.idle or await self.store.owner(session.key) == session.owner:
            return self._sessions.get(session.key) is not session
        self.unused(session)
        return True

    async def _settle(self, remote: RemoteSession, pause: float = 0.0) -> None:
        """Find out who owns it, for as long as somebody here needs it; a task of its own."""
        key = remote.key
        if key in self._settling:
            return
        self._settling[key] = trio.Event()
        try:
            await trio.sleep(pause)
            patience = PATIENCE
            if remote.closing is not None:
                await remote.closing.wait()
            while self._sessions.get(key) is remote:
                try:
                    await self._resolve(key, remote)
                    return
                except StoreGone:
                    patience -= 1
                    if self.store.reachable or patience < 0:  # else somebody else may own it, and end what runs
                        remote.cut_off()
                    await trio.sleep(RETRY_SECONDS)
        except Exception:
            logger.exception("a session cannot be settled")
            self.unfit(remote)
        finally:
            self._end_settling(key)

    def _end_settling(self, key: Key) -> None:
        self._settling.pop(key).set()
        self._settled(key)

    def seek(self, remote: RemoteSession, pause: float = 0.0) -> None:
        """Nobody is known to own it."""
        remote.owner = None
        self._commons.nursery.start_soon(self._settle, remote, pause)

    async def _resolve(self, key: Key, remote: RemoteSession | None) -> None:
        """One attempt, which ends with the session in its place."""
        known = remote.log.position(remote.log.end) if remote else Position(self._first_epoch(), 0)
        expected: str | None = None
        for _ in range(MAX_CLAIMS):
            claim = await self.store.claim(key, expected, known)
            if claim.fence is not None:
                await self._own(key, claim, remote)
                return
            if await self.store.alive(claim.owner):
                await self._mirror(key, claim.owner, remote)
                return
            expected = claim.owner
        raise StoreGone(f"{MAX_CLAIMS} owners of a session were gone, one after the other")

    async def _read(self, key: Key, remote: RemoteSession | None) -> RemoteSession | None:
        """The session with all that the store holds of it by now; None if it does not fit what was here."""
        if remote is None:
            return self._fill(key, await self.store.read(key))
        self.store.unfollow(key)
        stored = await self.store.read(key, remote.log.position(remote.log.end))
        if self._sessions.get(key) is not remote:
            return None
        entries = remote.log.fit(stored)
        if entries is None:
            self.unfit(remote)
            return None
        remote.absorb(entries)
        return remote

    def _fill(self, key: Key, stored: Sequence[Stored]) -> RemoteSession:
        if not stored:
            raise StoreGone("the session's stream is empty")
        first = Position(stored[0].epoch, stored[0].offset)
        commons = self._commons
        log = SharedLog(key, self.store, first, commons.limits.log_bytes, commons.shelf.count, self._durability)
        remote = RemoteSession(key, log, History(log), self.store, self, commons.limits.remembered_ids)
        entries = log.fit(stored)
        if entries is None:
            raise StoreGone("the session's stream has a hole")
        remote.absorb(entries)
        return remote

    async def _own(self, key: Key, claim: Claim, remote: RemoteSession | None) -> None:
        """This node has claimed it: what the stream holds is final, and what follows is ours to say."""
        assert claim.fence
        here = await self._read(key, remote)
        if here is None:
            self.store.release(key)
            return
        if self.closed:
            raise StoreGone("this node has left in the meantime")
        if claim.owner != self.store.node:
            raise StoreGone("this node has lost its lease in the meantime: who has claimed it is gone")
        if not claim.made:
            self._guests.gather(key)
            self.takeovers += remote is not None or bool(here.history.unended[0])
        session = Session(key, here.log, self._commons)
        here.log.own(partial(self._lost, session))
        self._sessions[key] = session
        here.hand_to(session)
        try:
            session.resume(here.history, here.fault, here.cut)
        except Exception:
            logger.exception("a session cannot be taken over")
            session.give_up()
        for asked in here.asked():
            session.tell(asked)
        session.reserve()  # for whom it was loaded; if nobody comes, it expires as any other
        self._supervise(session)

    async def _mirror(self, key: Key, owner: str, remote: RemoteSession | None) -> None:
        here = await self._read(key, remote)
        if here is None:
            return
        self._sessions[key] = here
        self.store.watch(owner)
        self.store.follow(key, here.log.position(here.log.end), here.take)
        here.closing = None
        here.serve(owner)
        if remote is not None and here.idle:
            self.unused(here)

    # Losing a session.

    def _lost(self, session: Session, verdict: Verdict, events: Sequence[Event]) -> None:
        """The store did not take what this node appended as its owner."""
        if self._sessions.get(session.key) is not session:
            return
        guests = self.nodes_of_guests(session)
        remote = self.demote(session)
        match verdict:
            case Verdict.STALE:
                logger.warning("a session is owned by another node by now")
                self._refuse_lost(remote, events)
            case Verdict.WIPED:
                logger.warning("a session's stream is gone")
                remote.fault = Fault("WS-009")
                remote.cut_off()
                self._refuse_lost(remote, events)
            case Verdict.UNREACHABLE:
                remote.fault = Fault("WS-009")
                self._refuse_lost(remote, events)
            case Verdict.WRITTEN:
                raise AssertionError("it was written")
            case _:
                assert_never(verdict)
        self.renounce(session.key, guests)
        self.seek(remote)

    def demote(self, session: Session) -> RemoteSession:
        """This node does not own it any more, for what it knows: fence all, and wait for what the store says."""
        key, log = session.key, session.log
        assert isinstance(log, SharedLog)
        log.disown()
        history = History(log)
        history.take([(log.start, session.history.snapshot(session.confirmed_id))])
        history.take(log.read(log.start, log.committed))
        log.settle(history.floor)
        remote = RemoteSession(key, log, history, self.store, self, self._commons.limits.remembered_ids)
        remote.cut = {turn.message_id for turn in history.unended[0] if turn.message_id in session.cut}
        self._sessions[key] = remote
        remote.closing = session.retire()
        for number, client in list(session.clients.items()):
            if isinstance(client, RemoteClient):
                self._guests.dismiss(client)
            else:
                remote.clients[number] = client
                client.swap(remote)
        remote.present = len(remote.clients)
        session.clients.clear()
        if self._durability == "behind":  # they may have been sent what is in no log
            self._send_away(remote.clients.values())
        return remote

    def _refuse_lost(self, remote: RemoteSession, events: Iterable[Event]) -> None:
        """Messages that were accepted and never came into the log: they may be tried again, under the same id."""
        for event in events:
            if isinstance(event, UserMessage) and event.message_id not in remote.cut:
                remote.refuse(event.message_id)

    def _send_away(self, clients: Iterable[object]) -> None:
        for client in tuple(clients):
            client.dismiss(CloseCode.RESTART, "restart", Goaway("restart", 0))  # type: ignore[attr-defined]

    def unfit(self, remote: RemoteSession) -> None:
        """What the store holds is another log: whoever is here comes back, and is told so."""
        if self._sessions.get(remote.key) is remote:
            del self._sessions[remote.key]
            self.store.unfollow(remote.key)
            remote.log.close()
        self._send_away(remote.clients.values())

    def unused(self, remote: RemoteSession) -> None:
        if self._sessions.get(remote.key) is remote and remote.idle:
            del self._sessions[remote.key]
            self.store.unfollow(remote.key)
            remote.log.close()

    def over(self, session: Session) -> None:
        """An owned session has ended: it has expired, or was deleted."""
        if isinstance(session.log, SharedLog) and session.log.owned:
            session.log.disown()
            self.store.delete(session.key)

    def release(self, session: Session) -> None:
        """Give a drained session back, to whoever wants it: its clients at other nodes are to find out."""
        log = session.log
        if self._sessions.get(session.key) is not session or not isinstance(log, SharedLog) or not log.owned:
            return
        guests = self.nodes_of_guests(session)
        remote = self.demote(session)
        self.store.release(session.key)
        self.renounce(session.key, guests)
        self.unused(remote)

    @staticmethod
    def nodes_of_guests(session: Session) -> list[str]:
        return list(dict.fromkeys(guest.node for guest in session.clients.values() if isinstance(guest, RemoteClient)))

    def renounce(self, key: Key, nodes: Iterable[str]) -> None:
        """Those nodes find out who owns it now, and ask again what they have no answer to; this one, maybe."""
        self._unsent += [(node, NotMine(key, self.store.node)) for node in nodes]
        self.send_unsent()

    def send_unsent(self) -> None:
        if self.store.reachable:
            unsent, self._unsent = self._unsent, []
            for node, letter in unsent:
                self.store.send(node, letter)
