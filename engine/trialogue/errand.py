"""An asker that is no connection: it puts one input into a session, and what it is replied comes together here.

It is neither announced to the session's connections nor counted as one, and it keeps no turn alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import trio

from trialogue.core.events import Reply

_numbers = count(-1, -1)
"""Connections count up from 1."""


class Errand:
    """To be replied to under its number."""

    __slots__ = ("_event", "_replies", "number")

    def __init__(self) -> None:
        self.number = next(_numbers)
        self._replies: list[Reply] = []
        self._event = trio.Event()

    def __repr__(self) -> str:
        return f"<Errand {self.number}, {len(self._replies)} replies>"

    def reply(self, reply: Reply) -> None:
        """Called by the session. Never blocks or raises."""
        self._replies.append(reply)
        self._event.set()

    async def answered(self) -> Sequence[Reply]:
        """All replies of the step that answered. A step awaits nothing: where there is one reply, all are there."""
        await self._event.wait()
        return self._replies
