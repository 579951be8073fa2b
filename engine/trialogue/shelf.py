"""What sessions may keep while nobody looks: so many sessions without a connection, so many bytes of log in all.

Past the first bound, the session that has been alone longest is let go, with its log and its ids. Past the second,
ended turns are, those of vacant sessions first. What running turns hold stays; while that alone is too much, nobody may
add to it (`full`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Protocol


class Shedding(Protocol):
    """What the shelf knows of a session. It may neither block nor raise."""

    def shed(self) -> None:
        """Let go of ended turns."""


class Kept(Shedding, Protocol):
    """What it knows of a vacant one. No method may block or raise."""

    def expire(self) -> None:
        """Go now, or as soon as what runs has been stopped."""


class Shelf:
    """The vacant sessions of a hub, oldest first, and the size of all its logs. A bound of 0 is none."""

    def __init__(self, max_vacant: int, max_bytes: int, everybody: Callable[[], Iterable[Shedding]]) -> None:
        self.bytes = 0
        self._max_vacant = max_vacant
        self._max_bytes = max_bytes
        self._everybody = everybody
        self._vacant: dict[Kept, None] = {}
        self._relieving = False

    def __repr__(self) -> str:
        return f"<Shelf {self.vacant} vacant sessions, {self.bytes} bytes>"

    @property
    def vacant(self) -> int:
        return len(self._vacant)

    @property
    def full(self) -> bool:
        """Is there more in the logs than there may be?"""
        return 0 < self._max_bytes < self.bytes

    def put(self, session: Kept) -> None:
        """Nobody is attached to it any more."""
        self._vacant[session] = None
        if 0 < self._max_vacant < self.vacant:
            self._expire_oldest()

    def take(self, session: Kept) -> None:
        """Somebody is again, or it has gone. Idempotent."""
        self._vacant.pop(session, None)

    def count(self, more: int) -> None:
        """The logs have grown by so many bytes (or shrunk)."""
        self.bytes += more
        if self.full and not self._relieving:
            self._relieving = True
            try:
                self._relieve()
            finally:
                self._relieving = False

    def _relieve(self) -> None:
        """Down to three quarters of the bound, if what has ended allows it: not at each append, then."""
        enough = self._max_bytes * 3 // 4
        for session in chain(tuple(self._vacant), tuple(self._everybody())):
            if self.bytes <= enough:
                return
            session.shed()

    def _expire_oldest(self) -> None:
        oldest = next(iter(self._vacant))
        self.take(oldest)
        oldest.expire()
