"""The facts that are counted, as a port: the engine reports them, an adapter turns them into somebody's metrics.

Nothing is reported per token: a turn's tokens are counted once, when what became of them is known.
"""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Where facts go. Every method is synchronous, cheap and must not raise. Times are seconds."""

    def accepted(self) -> None:
        """A message became a turn."""

    def ended(self, ending: str, code: str, seconds: float) -> None:
        """A turn got its one ending. `code`: the error code of a failed one, else empty; a service may invent codes.

        `seconds` from its `stream_start`; of a turn that had none, 0.
        """

    def refused(self, code: str) -> None:
        """A frame was refused."""

    def first_token(self, seconds: float) -> None:
        """From a turn's `stream_start` to its first token."""

    def stopped(self, seconds: float) -> None:
        """From a cancel, or from the message that interrupts, in the session's inbox to the turn's end in the log.

        That is also when the end has been handed to every connection that keeps up.
        """

    def upstream_closed(self, seconds: float) -> None:
        """From the stop of a generation to the end of its upstream."""

    def abandoned(self) -> None:
        """An upstream did not close within the stop grace."""

    def settled(self, generated: int, sent: int) -> None:
        """A generation's tokens, and those of them that some connection had been handed when it was settled."""

    def wasted(self, tokens: int) -> None:
        """Tokens that came after their turn was stopped, and were dropped: none of them counts as generated."""

    def crashed(self) -> None:
        """A session's actor crashed and was restarted, or gave up."""

    def attached(self) -> None:
        """A connection came."""

    def dismissed(self, code: int) -> None:
        """The server closes a connection, with that close code."""


class NullMeter:
    """Counts nothing."""

    def accepted(self) -> None: ...
    def ended(self, ending: str, code: str, seconds: float) -> None: ...
    def refused(self, code: str) -> None: ...
    def first_token(self, seconds: float) -> None: ...
    def stopped(self, seconds: float) -> None: ...
    def upstream_closed(self, seconds: float) -> None: ...
    def abandoned(self) -> None: ...
    def settled(self, generated: int, sent: int) -> None: ...
    def wasted(self, tokens: int) -> None: ...
    def crashed(self) -> None: ...
    def attached(self) -> None: ...
    def dismissed(self, code: int) -> None: ...
