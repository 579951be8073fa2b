"""At a session's owner: stands for a connection (or an errand) at another node, of which the session knows no more than
of its own. What the session tells it goes by letter, once what caused it is in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Any

from trialogue.core.errors import CloseCode
from trialogue.core.events import Goaway, Reply
from trialogue.core.letters import Dismiss, Letter, Tell
from trialogue.log import Follower
from trialogue.shared_log import SharedLog
from trialogue.store import Key

_numbers = count(1 << 40)
"""Connections count up from 1, errands down from -1; a process never has so many connections."""


class RemoteClient:
    """One client at another node.

    It follows the log like a connection and is always level with what is committed: its node reads the same stream, so
    what is in the store counts as sent. A reader that is slow is slow at its own node.
    """

    __slots__ = ("_away", "_follower", "_here", "_log", "_me", "_send", "key", "node", "number", "start", "traceparent")

    def __init__(
        self, key: Key, log: SharedLog, node: str, away: int, start: int, me: str, send: Callable[[str, Letter], None]
    ) -> None:
        self.key = key
        self.node = node
        self.traceparent = ""
        self.number = next(_numbers)
        self.start = start
        self._away = away
        self._log = log
        self._me = me
        self._send = send
        self._here = True
        self._follower: Follower = log.follow(start, self._poke)
        log.followed_elsewhere(1)
        self._poke(())

    def __repr__(self) -> str:
        return f"<RemoteClient {self.number}, connection {self._away} of {self.node}>"

    def _poke(self, fresh: Any) -> bool:
        if not fresh:
            self._follower.position = self._log.committed
            self._log.advanced(self.start, self._log.committed)
        return bool(fresh)

    def reply(self, reply: Reply) -> None:
        self._log.after(partial(self._tell, reply))

    def _tell(self, reply: Reply) -> None:
        offset, epoch = self._log.committed, self._log.epoch
        self._send(self.node, Tell(self.key, self._me, self._away, epoch, offset, reply))

    def dismiss(self, code: CloseCode, reason: str, goaway: Goaway | None = None) -> None:
        self._log.after(partial(self._dismiss, code, reason, goaway))

    def _dismiss(self, code: CloseCode, reason: str, goaway: Goaway | None) -> None:
        offset, epoch = self._log.committed, self._log.epoch
        self._send(self.node, Dismiss(self.key, self._me, self._away, epoch, offset, code, reason, goaway))

    def swap(self, session: Any) -> None:
        """Its own node finds out who owns the session now."""

    def cut_off(self, message_ids: Iterable[str]) -> None:
        """Its own node finds out that the store is gone, if it is."""

    def leave(self) -> None:
        """It has gone. Idempotent."""
        if self._here:
            self._here = False
            self._log.followed_elsewhere(-1)
            self._follower.close()
