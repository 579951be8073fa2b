"""An asker that is no connection: it puts one input into a session, and what it is replied comes together here.

It is neither announced to the session's connections nor counted as one, and it keeps no turn alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Self

import trio

from trialogue.core.events import Reply

NUMBERS = count(-1, -1)
"""Of askers that are no connections; those count up from 1."""


class Errand:
    """To be replied to under its number, for the length of a `with` block.

    Args:
        errands: those of a session, by number; it is one of them inside the block.
        over: told its number once it is none of them any more.
    """

    __slots__ = ("_errands", "_event", "_over", "_replies", "number")

    def __init__(self, errands: dict[int, Errand], over: Callable[[int], None] = lambda number: None) -> None:
        self.number = next(NUMBERS)
        self._errands = errands
        self._over = over
        self._replies: list[Reply] = []
        self._event = trio.Event()

    def __repr__(self) -> str:
        return f"<Errand {self.number}, {len(self._replies)} replies>"

    def __enter__(self) -> Self:
        self._errands[self.number] = self
        return self

    def __exit__(self, *raised: object) -> None:
        del self._errands[self.number]
        self._over(self.number)

    def reply(self, reply: Reply) -> None:
        """Called by the session. Never blocks or raises."""
        self._replies.append(reply)
        self._event.set()

    async def answered(self) -> Sequence[Reply]:
        """All replies of the step that answered. A step awaits nothing: where there is one reply, all are there."""
        await self._event.wait()
        return self._replies
