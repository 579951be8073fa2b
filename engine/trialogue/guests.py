"""At a session's owner: what its clients on other nodes, and those nodes' errands, want of it.

Each such client has a `RemoteClient` here, which makes it one of the session's own; what is written of it comes by
letter. Nothing here decides who owns a session: whoever writes to a node that does not is told so.
"""

from __future__ import annotations

from typing import assert_never

import trio

from trialogue.commons import Commons
from trialogue.core.events import Confirmed, Custom, Presence
from trialogue.core.letters import (
    AskCancel,
    AskSubmit,
    Attach,
    Count,
    Counted,
    Delete,
    Detach,
    ForOwner,
    Hand,
    Inquiry,
    NotMine,
    Postpone,
    Shown,
    Tell,
    Types,
)
from trialogue.core.machine import Cancel, Submit
from trialogue.remote_client import RemoteClient
from trialogue.session import Session
from trialogue.shared_log import SharedLog
from trialogue.store import Key, Store

ERRAND_SECONDS = 5.0
"""How long a cancel of another node may wait for its answer."""

GATHER_SECONDS = 1.0
"""How long after a take-over the session's clients on other nodes may still be on their way: each node looks every
250 ms whether an owner is gone, asks the store who is it now (which is tried again after 0.5 s), and writes to it."""


class Guests:
    """The clients that other nodes have at the sessions of this one."""

    def __init__(self, store: Store, commons: Commons) -> None:
        self._store = store
        self._commons = commons
        self._of: dict[str, dict[tuple[Key, int], RemoteClient]] = {}  # per node
        self._gathering: dict[Key, float] = {}  # sessions taken over a moment ago, and until when nobody is missed

    def __repr__(self) -> str:
        return f"<Guests, {sum(map(len, self._of.values()))} clients of {len(self._of)} nodes>"

    # Their coming and going.

    def gather(self, key: Key) -> None:
        """This node owns the session from now on: its clients on other nodes have yet to find out."""
        until = self._gathering[key] = trio.current_time() + GATHER_SECONDS

        def over() -> None:
            if self._gathering.get(key) == until:
                del self._gathering[key]

        self._commons.alarms.set(until, over)

    def node_gone(self, node: str) -> list[RemoteClient]:
        """Whoever was connected there has gone with it."""
        gone = list(self._of.pop(node, {}).values())
        for guest in gone:
            guest.leave()
        return gone

    def dismiss(self, guest: RemoteClient) -> None:
        """It has left, or its session has another owner."""
        guest.leave()
        guests = self._of.get(guest.node, {})
        for name in [name for name, one in guests.items() if one is guest]:
            del guests[name]

    def _welcome(self, session: Session, letter: Attach) -> None:
        """A client at another node has come; one that is known already has only asked again."""
        guests = self._of.setdefault(letter.sender, {})
        name = (session.key, letter.client)
        log = session.log
        assert isinstance(log, SharedLog)
        if name not in guests:
            self._store.watch(letter.sender)
            guest = RemoteClient(
                session.key, log, letter.sender, letter.client, letter.start, self._store.node, self._store.send
            )
            guests[name] = guest
            session.attach(guest)
        guest = guests[name]
        confirmed = session.confirmed()
        if confirmed != Confirmed(None, session.session_id):
            guest.reply(confirmed)
        if letter.told != session.present:
            guest.reply(Presence(session.present))

    # What they want.

    def obey(self, session: Session, letter: ForOwner) -> None:
        """Do what another node wants of a session that this one owns."""
        match letter:
            case Attach():
                self._welcome(session, letter)
            case Count() | Hand() | Delete():
                self._inquired(session, letter)
            case Shown(message_id=message_id, index=index):
                session.ack(message_id, index)
            case AskCancel(client=number, message_id=message_id) if number < 0:
                self._commons.nursery.start_soon(self._run_errand, session, letter.sender, number, message_id)
            case Detach() | AskSubmit() | AskCancel() | Types() | Postpone():
                guest = self._of.get(letter.sender, {}).get((session.key, letter.client))
                if guest is not None:
                    self._obey_guest(session, guest, letter)
                elif not isinstance(letter, Detach):
                    self._store.send(letter.sender, NotMine(session.key, self._store.node))
            case _:
                assert_never(letter)

    def _obey_guest(
        self, session: Session, guest: RemoteClient, letter: Detach | AskSubmit | AskCancel | Types | Postpone
    ) -> None:
        match letter:
            case Detach(stop=stop):
                self.dismiss(guest)
                session.detach(guest, stop=stop)
            case AskSubmit(turn=turn):
                session.tell(Submit(turn, guest.number))
            case AskCancel(message_id=message_id):
                session.tell(Cancel(message_id, guest.number))
            case Types(active=active):
                session.relay_typing(guest, active)
            case Postpone(message_id=message_id):
                session.postpone(message_id, guest)
            case _:
                assert_never(letter)

    async def _run_errand(self, session: Session, node: str, number: int, message_id: str | None) -> None:
        """An errand of another node: what it is replied goes back, all of it together."""
        with session.errand() as errand, trio.move_on_after(ERRAND_SECONDS):
            session.tell(Cancel(message_id, errand.number))
            replies = await errand.answered()
            log = session.log
            for reply in replies:
                self._store.send(node, Tell(session.key, self._store.node, number, log.epoch, log.committed, reply))

    # What applications want, of this node or of another.

    async def answer(self, session: Session, inquiry: Inquiry) -> int | None:
        """Do it, once all of its clients can be here: returns how many there are. None: this node lost it meanwhile."""
        if (until := self._gathering.get(session.key)) is not None:
            await trio.sleep_until(until)
        return None if session.retired else self._perform(session, inquiry)

    def _perform(self, session: Session, inquiry: Inquiry) -> int:
        clients = tuple(session.clients.values())
        if isinstance(inquiry, Delete):
            session.delete()
        elif isinstance(inquiry, Hand):
            for client in clients:
                client.reply(Custom(inquiry.body))
        return len(clients)

    def _inquired(self, session: Session, inquiry: Inquiry) -> None:
        """From another node. At once if possible: so frames come in the order in which they were handed in."""
        if session.key in self._gathering:
            self._commons.nursery.start_soon(self._answer_later, session, inquiry)
        else:
            self._send_count(inquiry, self._perform(session, inquiry))

    async def _answer_later(self, session: Session, inquiry: Inquiry) -> None:
        self._send_count(inquiry, await self.answer(session, inquiry))

    def _send_count(self, inquiry: Inquiry, connections: int | None) -> None:
        key, me = inquiry.key, self._store.node
        self._store.send(
            inquiry.sender,
            NotMine(key, me) if connections is None else Counted(key, me, inquiry.client, connections),
        )
