"""The facts that are counted, as a port: the engine reports them, an adapter turns them into somebody's metrics."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Where facts go. Every method is synchronous, cheap and must not raise. Times are seconds."""

    def accepted(self) -> None:
        """A message became a turn."""

    def ended(self, ending: str, code: str, tokens: int, seconds: float) -> None:
        """A turn got its one ending. `code`: the error code of a failed one, else empty."""

    def refused(self, code: str) -> None:
        """A frame was refused."""

    def first_token(self, seconds: float) -> None:
        """From a turn's start to its first token."""

    def upstream_closed(self, seconds: float) -> None:
        """From the stop of a generation to the end of its upstream."""

    def abandoned(self) -> None:
        """An upstream did not close within the stop grace."""

    def wasted(self, tokens: int) -> None:
        """Tokens that came after their turn was stopped, and were dropped."""

    def crashed(self) -> None:
        """A session's actor crashed and was restarted, or gave up."""


class NullMeter:
    """Counts nothing."""

    def accepted(self) -> None: ...
    def ended(self, ending: str, code: str, tokens: int, seconds: float) -> None: ...
    def refused(self, code: str) -> None: ...
    def first_token(self, seconds: float) -> None: ...
    def upstream_closed(self, seconds: float) -> None: ...
    def abandoned(self) -> None: ...
    def wasted(self, tokens: int) -> None: ...
    def crashed(self) -> None: ...
