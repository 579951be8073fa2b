"""Who is with a session, and how long it stays when nobody is.

Turns go on for `linger` seconds after the last client was lost, and stop at once when it left on purpose; the session
is kept for `session_ttl`, or until the shelf is full. Nothing is decided of a turn here: the actor is told through its
inbox, to stop them all or to look whether it is over. What stays knows the inbox and the log, not the session, so that
no cycle keeps a session's log in memory once it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import inf
from typing import Any, Protocol

import trio

from trialogue.alarms import Alarm
from trialogue.commons import Commons
from trialogue.core.errors import CloseCode
from trialogue.core.events import Goaway, Presence, Reply
from trialogue.core.machine import Cancel
from trialogue.log import Log

FORGET_MS = 1000
"""When who comes to a session that is being deleted is to come again: what ran there has closed by then, mostly."""


class Client(Protocol):
    """What a session knows of a connection. No method may block or raise."""

    number: int
    start: int
    """The offset from which this connection follows the log."""
    traceparent: str
    """The trace that it came with, if any; see `Tracer`."""

    def reply(self, reply: Reply) -> None:
        """Hand it something, after every entry that is in the log now."""

    def dismiss(self, code: CloseCode, reason: str, goaway: Goaway | None = None) -> None:
        """Close it, after everything that it has been handed."""

    def swap(self, session: Any) -> None:
        """Its session is another object from now on, with the same log: the owner has changed."""

    def cut_off(self, message_ids: Iterable[str]) -> None:
        """These turns are lost with the store. It is told so, each once, and no entry of them, up to their ends."""


class Wake:
    """Look whether the session has expired."""


Inbox = trio.MemorySendChannel[tuple[float, Cancel | Wake]]
"""Of a session's actor: what it is told, and when it was told (in seconds of Trio's clock)."""


class Stay:
    """A session's clients, and the end of its time. `deleted`: it is to go as soon as it can; `ended`: it has gone."""

    __slots__ = ("_commons", "_expires_at", "_expiry", "_inbox", "_linger", "_log", "clients", "deleted", "ended")

    def __init__(self, log: Log, inbox: Inbox, commons: Commons) -> None:
        self.clients: dict[int, Client] = {}
        self.deleted = False
        self.ended = False
        self._log = log
        self._inbox = inbox
        self._commons = commons
        self._linger: Alarm | None = None
        self._expiry: Alarm | None = None
        self._expires_at = inf

    def __repr__(self) -> str:
        return f"<Stay of {len(self.clients)} clients{', deleted' if self.deleted else ''}>"

    @property
    def over(self) -> bool:
        """Has its time come? Then it goes, if nobody is here and nothing runs."""
        return trio.current_time() >= self._expires_at

    def attach(self, client: Client) -> None:
        """It has come. The others hear of it. To what is being deleted it has come too late: it is to come again, to
        the next of that name."""
        self.clients[client.number] = client
        self._vacate(None)
        self._announce(client)
        if self.deleted:
            again = partial(client.dismiss, CloseCode.RESTART, "restart", Goaway("restart", FORGET_MS))
            self._commons.alarms.set(trio.current_time(), again)  # when it has been greeted

    def detach(self, client: Client, *, stop: bool) -> None:
        """It has gone: on purpose (`stop`), or lost. The last one's way decides what becomes of the turns."""
        if self.clients.pop(client.number, None) is None:
            return
        self._announce(client)
        if self.clients or self.ended:
            return
        limits = self._commons.limits
        self._vacate(0 if self.deleted else limits.session_ttl)
        if stop:
            _tell(self._inbox, Cancel(None, None))
        else:
            self._linger = self._set_alarm(limits.linger, Cancel(None, None))

    def reserve(self) -> None:
        """It is to be there for a client that has not come yet: it lives as long as one whose last client has left."""
        if not self.clients:
            self._vacate(self._commons.limits.session_ttl)

    def delete(self) -> None:
        """Once nobody is here, its time is over; whoever comes from now on is sent away."""
        self.deleted = True
        if not self.clients:
            self._vacate(0)

    def end(self) -> None:
        """Off the shelf, and its alarms off: the actor has ended, or the session has another owner. Idempotent."""
        self.ended = True
        self._commons.shelf.take(self)
        self._clear_alarms()

    def tell_others(self, cause: Client, reply: Reply) -> None:
        for client in tuple(self.clients.values()):
            if client is not cause:
                client.reply(reply)

    def dismiss(self, code: CloseCode, reason: str) -> None:
        """Close all connections."""
        for client in tuple(self.clients.values()):
            client.dismiss(code, reason)

    # For the shelf.

    def expire(self) -> None:
        """Go now, or as soon as what runs has been stopped, unless somebody attaches before."""
        self._expires_at = trio.current_time()
        _tell(self._inbox, Cancel(None, None))
        _tell(self._inbox, Wake())

    def shed(self) -> None:
        """Let go of ended turns."""
        self._log.shed()

    def _vacate(self, ttl: float | None) -> None:
        """Nobody is here (for `ttl` seconds, then the session may go), or somebody is here again (None)."""
        self._clear_alarms()
        if ttl is None:
            self._commons.shelf.take(self)
        else:
            self._commons.shelf.put(self)
        self._expiry = None if ttl is None else self._set_alarm(ttl, Wake())
        self._expires_at = inf if ttl is None else trio.current_time() + ttl

    def _set_alarm(self, seconds: float, message: Cancel | Wake) -> Alarm:
        return self._commons.alarms.set(trio.current_time() + seconds, partial(_tell, self._inbox, message))

    def _clear_alarms(self) -> None:
        for alarm in (self._linger, self._expiry):
            if alarm:
                alarm.cancel()
        self._linger = self._expiry = None

    def _announce(self, cause: Client) -> None:
        self.tell_others(cause, Presence(len(self.clients)))


def _tell(inbox: Inbox, message: Cancel | Wake) -> None:
    inbox.send_nowait((trio.current_time(), message))
