"""What a client can meet, as one tree: each error has a code, a text, remedies, and says whether to try again.

Foreign exceptions (sockets, TLS, HTTP, JSON) are translated into these at the border, once. Codes of the wire (WS-001,
RAG-002, a pipeline's own) are passed on as they are; codes of ours are lower-case words.
"""

from __future__ import annotations

from collections.abc import Sequence

from trialogue.core.errors import ERRORS


class ChatError(Exception):
    """Base of everything that this package raises on purpose.

    Attributes:
        code: of the wire's error table, or a word of ours.
        message: for people.
        solutions: what to do about it; may be empty.
        retryable: is it worth trying the same again?
        retry_after: seconds to wait before that, if the server has said so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        solutions: Sequence[str] = (),
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.solutions = tuple(solutions)
        self.retryable = retryable
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.code}{', retryable' if self.retryable else ''}>"


class LinkError(ChatError):
    """There is no connection. What had been asked may still be answered: come back with the session's position."""


class Unreachable(LinkError):
    """No server answered: the name, the network, TLS, or a deadline. Worth another try."""

    def __init__(self, message: str) -> None:
        super().__init__("unreachable", message, retryable=True)


class Refused(LinkError):
    """The handshake was answered with HTTP, or not with `trialogue.v1`. `status` is the HTTP status."""

    def __init__(self, status: int, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        passing = status == 429 or status >= 500
        super().__init__(code or f"http-{status}", message, retryable=passing, retry_after=retry_after)
        self.status = status


class ClosedByServer(LinkError):
    """The server closed the connection with a code after which coming back is of no use. `close_code` is that code."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(f"close-{close_code}", reason or f"the server closed the connection with {close_code}")
        self.close_code = close_code


class Left(LinkError):
    """We have left this chat: `close()`, or the end of its block."""

    def __init__(self) -> None:
        super().__init__("left", "this chat has been left")


class TurnError(ChatError):
    """One turn did not come to a good end; the chat goes on. `message_id` says which."""

    def __init__(
        self,
        message_id: str,
        code: str,
        message: str,
        *,
        solutions: Sequence[str] = (),
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, solutions=solutions, retryable=retryable, retry_after=retry_after)
        self.message_id = message_id


class TurnFailed(TurnError):
    """The answer ended with an error; what has come of it stays valid. To try again, send it as a new message."""


class TurnRejected(TurnError):
    """The message was refused before it became a turn: it did nothing."""


class TurnIncomplete(TurnError):
    """The turn has ended, but a part of its answer is gone: it was said while we were away for too long."""

    def __init__(self, message_id: str) -> None:
        super().__init__(message_id, "incomplete", "a part of this answer is gone from the server", retryable=True)


class TurnRestarted(TurnError):
    """The server lost this answer and has begun it anew: iterate the turn again to read it from its first token."""

    def __init__(self, message_id: str) -> None:
        super().__init__(message_id, "restarted", "the server lost this answer and has begun it anew", retryable=True)


class TooMuch(ChatError):
    """A bound of this client was reached; nothing was sent."""


def is_retryable(code: str) -> bool:
    """Of a `stream_error`; only its service knows about a code of its own."""
    return code in ERRORS and ERRORS[code].retryable
