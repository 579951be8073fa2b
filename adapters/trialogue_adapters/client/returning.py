"""When to come back after a connection has ended: never, now, or later. Pure: the clock and the dice are arguments."""

from __future__ import annotations

from dataclasses import dataclass

FINAL_CODES = frozenset({1000, 1003, 1008, 1009})
"""Codes after which coming back would only repeat the refusal."""
BACKOFF = 0.5
BACKOFF_MAX = 30.0
STABLE = 5.0
"""Seconds: a connection that lived this long forgives earlier failures."""


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended; 1006 if nobody said goodbye, 1005 if nobody gave a code."""

    code: int
    reason: str = ""


class Returning:
    """The back-off of one chat. All times are in seconds."""

    __slots__ = ("_goaway", "_ready_at", "attempt", "expired")

    def __init__(self) -> None:
        self.attempt = 0
        self.expired = False
        self._goaway: float | None = None
        self._ready_at: float | None = None

    def __repr__(self) -> str:
        return f"<Returning, attempt {self.attempt}>"

    @property
    def leaving(self) -> bool:
        """The server has said that it will close this connection."""
        return self._goaway is not None

    def ready(self, now: float) -> None:
        """A connection is there."""
        self._ready_at, self._goaway, self.expired = now, None, False

    def goaway(self, retry_after: float, reason: str) -> None:
        """The connection will end, and this is when to come back."""
        self._goaway, self.expired = retry_after, reason == "expired"

    def wait(
        self, closed: Closed, now: float, dice: float, *, renewable: bool, told: float | None = None
    ) -> float | None:
        """How long to wait before the next connect; None: do not come back.

        Args:
            dice: a random number from 0 to 1.
            renewable: we can get a fresh credential, so an expired one is not the end.
            told: what a handshake's refusal gave as `Retry-After`.
        """
        if closed.code in FINAL_CODES and not (self.expired and renewable):
            return None
        if self._ready_at is not None and now - self._ready_at > STABLE:
            self.attempt = 0
        seconds = min(BACKOFF_MAX, BACKOFF * 2.0 ** min(self.attempt, 16)) * (0.5 + dice / 2)
        asked = self._goaway if told is None else told
        if asked is not None:
            # Told when to return: not earlier, and a little spread, for everybody else was told the same.
            seconds = asked * (1 + dice / 4)
        self.attempt += 1
        self._ready_at, self._goaway = None, None
        return seconds
