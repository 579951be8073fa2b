"""A hub among other hubs: what the store tells this node, and where each letter goes.

Who owns a session is `Ownership`'s to find out, what other nodes want of this one's sessions is `Guests`', what this
node has asked of others is in `Inquiries`. Here they meet: nothing is decided, everything finds its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import trio

from trialogue.announcements import Announcements
from trialogue.commons import Commons
from trialogue.core.errors import Fault
from trialogue.core.events import Custom
from trialogue.core.letters import Counted, Detach, Dismiss, Inquiry, Letter, NotMine, Postpone, Shown, Tell, Types
from trialogue.guests import Guests
from trialogue.inquiries import Inquiries
from trialogue.ownership import RETRY_SECONDS, AnySession, Ownership
from trialogue.remote_client import RemoteClient
from trialogue.remote_session import RemoteSession
from trialogue.session import Session
from trialogue.shared_log import Durability
from trialogue.store import Key, Store, StoreGone

ASK_AGAIN_SECONDS = RETRY_SECONDS / 10
"""After a node has said that it does not own a session: the next owner is already at it."""

INQUIRY_SECONDS = 8.0
"""How long an inquiry may take. An owner that is lost is found out when its lease ends, five seconds later at most; who
owns the session then waits a second for its clients."""

VISIT_SECONDS = 5.0
"""How long a session that was loaded to be looked at stays here: its next page is asked for, or its client comes."""


class Nodes:
    """The sessions of this node among others. `supervise` runs a session's actor."""

    def __init__(
        self,
        store: Store,
        commons: Commons,
        sessions: MutableMapping[Key, AnySession],
        supervise: Callable[[Session], None],
        first_epoch: Callable[[], int],
        durability: Durability,
    ) -> None:
        self.store = store
        self._commons = commons
        self._sessions = sessions
        self._guests = Guests(store, commons)
        self._inquiries = Inquiries(store)
        self._announcements = Announcements(store, self._tell_everybody)
        self._ownership = Ownership(
            store,
            commons,
            sessions,
            self._guests,
            supervise=supervise,
            settled=self._settled,
            first_epoch=first_epoch,
            durability=durability,
        )
        self.load, self.over, self.release = self._ownership.load, self._ownership.over, self._ownership.release
        self._letters: dict[Key, list[Letter]] = {}  # that came while it was not known whose the session is
        self._leaving = False

    def __repr__(self) -> str:
        return f"<Nodes {self.store.node!r}, {self._ownership!r}, {self._guests!r}>"

    @property
    def takeovers(self) -> int:
        return self._ownership.takeovers

    # What the store tells (its `Heed`).

    def node_gone(self, node: str) -> None:
        for guest in self._guests.node_gone(node):
            session = self._sessions.get(guest.key)
            if isinstance(session, Session):
                session.detach(guest, stop=False)
        for session in tuple(self._sessions.values()):
            if isinstance(session, RemoteSession) and session.owner == node:
                self._ownership.seek(session)
        self._inquiries.node_gone(node)

    def store_gone(self) -> None:
        for session in self._sessions.values():
            if isinstance(session, Session):
                self._ownership.renounce(session.key, self._ownership.nodes_of_guests(session))
        for remote in self._give_all_up():
            remote.fault = Fault("WS-009")
            remote.cut_off()
        self._inquiries.lose()

    def lease_lost(self) -> None:
        for remote in self._give_all_up():
            if not remote.cut:
                remote.fault = Fault("WS-008")
        self._inquiries.lose()

    def _give_all_up(self) -> list[RemoteSession]:
        """All sessions; what this node owned it does not own any more."""
        return [
            self._ownership.demote(session) if isinstance(session, Session) else session
            for session in tuple(self._sessions.values())
        ]

    def store_back(self) -> None:
        self._ownership.send_unsent()
        for session in tuple(self._sessions.values()):
            if isinstance(session, RemoteSession):
                self._ownership.seek(session)

    def received(self, letter: Letter) -> None:
        key = letter.key
        session = self._sessions.get(key)
        if isinstance(letter, Counted | NotMine):
            self._inquiries.received(letter)
        match letter:
            case Counted():
                pass
            case Tell() | Dismiss():
                if isinstance(session, RemoteSession) and session.owner == letter.sender:
                    session.received(letter)
            case NotMine():
                if isinstance(session, RemoteSession) and session.owner == letter.sender:
                    self._ownership.seek(session, ASK_AGAIN_SECONDS)
            case _ if self._ownership.settling(key):
                self._letters.setdefault(key, []).append(letter)
            case _ if isinstance(session, Session):
                self._guests.obey(session, letter)
            case Detach() | Shown() | Types() | Postpone():
                pass  # it was for an owner that is none any more
            case _ if session is None and not self._leaving:
                self._commons.nursery.start_soon(self._load_for, letter)
            case _:
                self.store.send(letter.sender, NotMine(key, self.store.node))

    def _settled(self, key: Key) -> None:
        for letter in self._letters.pop(key, ()):
            self.received(letter)

    async def _load_for(self, letter: Letter) -> None:
        """The store says that this node owns it, says the sender: so it may, if nobody else does."""
        session, me = None, self.store.node
        while session is None:
            try:
                session = await self.load(letter.key)
            except StoreGone:
                if self._ownership.closed or self._leaving or self.store.node != me:
                    return  # the sender finds out by itself that the node that it wrote to is gone
                await trio.sleep(RETRY_SECONDS)
        if isinstance(session, Session):
            self.received(letter)
        else:
            self.store.send(letter.sender, NotMine(letter.key, self.store.node))
            self._ownership.unused(session)

    # For the hub, of sessions wherever they are.

    async def find(self, key: Key) -> AnySession | None:
        """The session, if there is one; one that is of no use here afterwards is let go of. Raises StoreGone."""
        session = self._sessions.get(key)
        looked_at = isinstance(session, RemoteSession) and session.idle
        if (session is None or looked_at) and not await self._exists(key):
            return None
        session = await self.load(key)
        if isinstance(session, RemoteSession):
            self._commons.alarms.set(trio.current_time() + VISIT_SECONDS, session.reserve)
        return session

    async def _exists(self, key: Key) -> bool:
        """Does anybody own it, or did, and the store has it still?"""
        return await self.store.owner(key) is not None or bool(await self.store.read(key))

    async def inquire(self, inquiry: Inquiry) -> int | None:
        """Have the session's owner do it, whichever node that is, and be it this one.

        A session that is in the store and whose owner is lost is taken over. An owner that is lost in the very instant
        may have done it, and the next one does it again. Returns how many connections the session had; None: there is
        no such session. Raises StoreGone: nobody has answered in time; it may have been done, or may be done yet.
        """
        with trio.move_on_after(INQUIRY_SECONDS):
            while True:
                session = self._sessions.get(inquiry.key)
                if isinstance(session, Session):
                    connections = await self._guests.answer(session, inquiry)
                elif (owner := await self.store.owner(inquiry.key)) is None and not await self.store.read(inquiry.key):
                    return None
                else:
                    connections = await self._ask(owner, inquiry)
                if connections is not None:
                    return connections
        raise StoreGone("the session's owner has not answered in time")

    async def _ask(self, owner: str | None, inquiry: Inquiry) -> int | None:
        """Ask the node that the store says owns the session, or find one. None: it has to be looked for again."""
        if owner is not None and owner != self.store.node and await self.store.alive(owner):
            connections = await self._inquiries.put(owner, inquiry)
            if connections is not None:
                return connections
        elif inquiry.key not in self._sessions and not self._leaving:
            session = await self.load(inquiry.key)
            if isinstance(session, RemoteSession):
                self._ownership.unused(session)
            return None
        await trio.sleep(ASK_AGAIN_SECONDS)
        return None

    async def announce(self, body: Mapping[str, Any]) -> None:
        """Tell everybody who is connected to any node. Raises StoreGone: it is not known whether they will be told."""
        with trio.move_on_after(INQUIRY_SECONDS):
            await self._announcements.announce(body)
            return
        raise StoreGone("the store has not taken it in time")

    def _tell_everybody(self, body: Mapping[str, Any]) -> None:
        """Everybody who is connected to this node."""
        for session in tuple(self._sessions.values()):
            for client in tuple(session.clients.values()):
                if not isinstance(client, RemoteClient):
                    client.reply(Custom(body))

    @property
    def owning(self) -> bool:
        """Is there a session that this node owns?"""
        return any(isinstance(session, Session) for session in self._sessions.values())

    def touch(self, ttl: float) -> None:
        for key, session in self._sessions.items():
            if isinstance(session, Session):
                self.store.touch(key, ttl)

    def begin(self) -> None:
        """The store is open."""
        self._commons.nursery.start_soon(self._announcements.begin)

    def leave(self) -> None:
        """No session is taken over any more."""
        self._leaving = True

    def close(self) -> None:
        """The hub has ended: what is still being loaded has come too late."""
        self._ownership.close()
