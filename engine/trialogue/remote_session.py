"""Stands for a session that another node owns, or nobody for the moment: the same face for connections and the hub.

What it shows is the fold of the entries that come from the store. What clients want goes to the owner by letter; a
submit or a cancel is kept until it is answered, and written again to whoever owns the session next: ids make that one.
It decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import trio

from trialogue.core.errors import Fault
from trialogue.core.events import (
    CancelResult,
    Confirmed,
    Duplicate,
    Ended,
    Failed,
    Fenced,
    Presence,
    Reply,
    UserMessage,
)
from trialogue.core.letters import (
    AskCancel,
    AskSubmit,
    Attach,
    Detach,
    Dismiss,
    Letter,
    Postpone,
    Shown,
    Tell,
    Types,
)
from trialogue.core.machine import Cancel, Input, State, Submit
from trialogue.errand import Errand
from trialogue.history import History, Resumed
from trialogue.log import Entry, Position
from trialogue.session import Crash, Session
from trialogue.shared_log import SharedLog
from trialogue.stay import Client, Wake
from trialogue.store import Key, Store, Stored


class Home(Protocol):
    """Who looks after remote sessions."""

    def unfit(self, remote: RemoteSession) -> None:
        """What the store holds does not go on where this one's log ends."""

    def unused(self, remote: RemoteSession) -> None:
        """Nobody needs it any more."""


class RemoteSession:
    """One session as seen from a node that does not own it. `owner`: the node that does, None while that is sought."""

    __slots__ = (
        "_asked",
        "_home",
        "_remembered",
        "_returns",
        "_store",
        "_told",
        "clients",
        "closing",
        "cut",
        "errands",
        "fault",
        "history",
        "key",
        "log",
        "owner",
        "present",
    )

    def __init__(self, key: Key, log: SharedLog, history: History, store: Store, home: Home, remembered: int) -> None:
        self.key = key
        self.log = log
        self.history = history
        self.clients: dict[int, Client] = {}
        self.errands: dict[int, Errand] = {}
        self.owner: str | None = None
        self.present = 0
        """Its connections, on all nodes, as far as the owner has told."""
        self.cut: set[str] = set()
        """Turns of which our clients have been told that they are lost with the store."""
        self.fault = Fault("WS-008")
        """How a turn that is under way ends, if this node takes over."""
        self.closing: trio.Event | None = None
        """Set when nothing is open any more of the session that this node owned before."""
        self._store = store
        self._home = home
        self._remembered = remembered
        self._asked: dict[tuple[int, type, str | None], AskSubmit | AskCancel] = {}
        self._told: list[Tell | Dismiss] = []  # not yet: entries that come before are under way
        self._returns = ("", 0)

    def __repr__(self) -> str:
        return f"<RemoteSession {self.key[1]!r} {len(self.clients)} connections, owner {self.owner!r}>"

    # What it shows.

    @property
    def state(self) -> State:
        turns, begun = self.history.unended
        return State(turns[0] if begun else None, None, turns[begun:], self.history.ledger)

    @property
    def session_id(self) -> str:
        return self.history.confirmed_id or self.key[1]

    @property
    def drained(self) -> bool:
        return True

    @property
    def idle(self) -> bool:
        return not self.clients and not self.errands

    def owns(self, session_id: str) -> bool:
        return session_id in (self.key[1], self.history.confirmed_id)

    def place(self, after: Position | None, message_id: str | None = None) -> tuple[int, Resumed]:
        return self.history.place(after, message_id)

    def unanswered(self, before: int) -> list[UserMessage]:
        return self.history.unanswered(before)

    def rejoin(self) -> tuple[str, int] | None:
        """As the session's; counted by each node for itself."""
        running = next(iter(self.history.began), None)
        if running is None:
            return None
        message_id, times = self._returns
        self._returns = (running, times + 1 if running == message_id else 1)
        return self._returns

    def confirmed(self) -> Confirmed:
        """Only the owner knows whether metadata has come; it tells each client that attaches."""
        return Confirmed(None, self.session_id)

    # What clients do.

    def attach(self, client: Client) -> None:
        self.clients[client.number] = client
        self.present += 1
        self._write(self._attach_letter(client))

    def _attach_letter(self, client: Client) -> Attach:
        return Attach(self.key, self._store.node, client.number, client.start, self.present)

    def detach(self, client: Client, *, stop: bool) -> None:
        if self.clients.pop(client.number, None) is None:
            return
        self.present = max(len(self.clients), self.present - 1)
        self._forget_asked(client.number)
        self._write(Detach(self.key, self._store.node, client.number, stop))
        self._rest()

    def tell(self, happened: Input | Crash | Wake) -> None:
        match happened:
            case Submit(turn, int(asker)):
                self._ask(AskSubmit(self.key, self._store.node, asker, turn), turn.message_id)
            case Cancel(message_id, int(asker)):
                self._ask(AskCancel(self.key, self._store.node, asker, message_id), message_id)

    def _ask(self, letter: AskSubmit | AskCancel, message_id: str | None) -> None:
        self._asked[letter.client, type(letter), message_id] = letter
        self._write(letter)

    def _forget_asked(self, number: int) -> None:
        for asked in [asked for asked in self._asked if asked[0] == number]:
            del self._asked[asked]

    def ack(self, message_id: str, index: int) -> None:
        if message_id in self.history.began:
            self._write(Shown(self.key, self._store.node, 0, message_id, index))

    def relay_typing(self, origin: Client, active: bool) -> None:
        self._write(Types(self.key, self._store.node, origin.number, active))

    def postpone(self, message_id: str, client: Client) -> None:
        self._write(Postpone(self.key, self._store.node, client.number, message_id))

    def errand(self) -> Errand:
        return Errand(self.errands, self._errand_over)

    def _errand_over(self, number: int) -> None:
        self._forget_asked(number)
        self._rest()

    def reserve(self) -> None:
        """The owner keeps it; here it may go, if nobody has come."""
        self._rest()

    def shed(self) -> None:
        self.log.shed()

    def _write(self, letter: Letter) -> None:
        if self.owner is not None:
            self._store.send(self.owner, letter)

    def _rest(self) -> None:
        if self.idle:
            self._home.unused(self)

    # What the store brings.

    def take(self, stored: Sequence[Stored]) -> None:
        """Entries of the stream, in order."""
        entries = self.log.fit(stored)
        if entries is None:
            self._home.unfit(self)
        else:
            self.absorb(entries)

    def absorb(self, entries: Sequence[Entry]) -> None:
        """Entries that fit."""
        if any(type(event) is Fenced and event.fresh for _, event in entries):
            self._cut_turns()  # what runs or waits is in no stream any more
        self.history.take(entries)
        self.history.keep(self._remembered)
        self.log.settle(self.history.floor)
        self.log.absorb(entries)
        self.cut -= {event.message_id for _, event in entries if isinstance(event, Ended | Failed)}
        self._hear_of({event.message_id for _, event in entries if isinstance(event, UserMessage)})
        self._deliver()

    def _hear_of(self, accepted: set[str]) -> None:
        if accepted:
            for asked in [asked for asked in self._asked if asked[1] is AskSubmit and asked[2] in accepted]:
                del self._asked[asked]

    def received(self, letter: Tell | Dismiss) -> None:
        """From the owner, for one of our clients."""
        self._told.append(letter)
        self._deliver()

    def _deliver(self) -> None:
        """What the owner told, each in its place: after the entries that caused it, or never if these never came."""
        waiting, self._told = self._told, []
        for letter in waiting:
            late = letter.epoch < self.log.epoch and not self.log.covers(Position(letter.epoch, letter.offset))
            if letter.epoch > self.log.epoch or (letter.offset > self.log.committed and not late):
                self._told.append(letter)
            elif not late:
                self._hand_over(letter)

    def _hand_over(self, letter: Tell | Dismiss) -> None:
        client = self.clients.get(letter.client)
        if isinstance(letter, Dismiss):
            if client:
                client.dismiss(letter.code, letter.reason, letter.goaway)
            return
        self._answered(letter.client, letter.reply)
        if isinstance(letter.reply, Presence):
            self.present = letter.reply.connections
        if client:
            client.reply(letter.reply)
        elif letter.client in self.errands:
            self.errands[letter.client].reply(letter.reply)

    def _answered(self, client: int, reply: Reply) -> None:
        match reply:
            case Failed(message_id) | Duplicate(message_id):
                self._asked.pop((client, AskSubmit, message_id), None)
            case CancelResult(message_id):
                self._asked.pop((client, AskCancel, message_id), None)
                self._asked.pop((client, AskCancel, None), None)

    # What the nodes decide.

    def serve(self, owner: str) -> None:
        """That node owns it (again): it has to know our clients, and what they still want."""
        self.owner = owner
        for client in self.clients.values():
            self._write(self._attach_letter(client))
        for asked in self._asked.values():
            self._write(replace(asked, sender=self._store.node))

    def cut_off(self) -> None:
        """The store is gone: what runs, waits or was asked is ended to our clients, by replies. Idempotent."""
        self._cut_turns()
        for number, kind, message_id in list(self._asked):
            if kind is AskSubmit and message_id is not None:
                del self._asked[number, kind, message_id]
                if number in self.clients and message_id not in self.cut:
                    self.clients[number].cut_off({message_id})

    def _cut_turns(self) -> None:
        lost = [turn.message_id for turn in self.history.unended[0] if turn.message_id not in self.cut]
        self.cut.update(lost)
        for client in tuple(self.clients.values()):
            client.cut_off(lost)

    def refuse(self, message_id: str) -> None:
        """A message that never came into the log; nobody knows any more which of our clients had sent it."""
        for client in tuple(self.clients.values()):
            client.reply(Failed(message_id, self.fault))

    def hand_to(self, session: Session) -> None:
        """This node owns it now: the session takes our clients."""
        session.clients.update(self.clients)
        session.errands = self.errands
        for client in self.clients.values():
            client.swap(session)

    def asked(self) -> list[Input]:
        """What is not answered, for a session that takes this one's place."""
        return [
            Submit(letter.turn, letter.client)
            if isinstance(letter, AskSubmit)
            else Cancel(letter.message_id, letter.client)
            for letter in self._asked.values()
        ]
