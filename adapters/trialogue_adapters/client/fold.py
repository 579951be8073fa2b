"""One turn as its frames tell it: a fold, so that a live answer, a replay and a second device's view are the same.

It must not touch a socket, a task or a clock. Words and rules are those of the page's `turns.js`, with one more: tokens
are kept one by one, for whoever iterates them, and an answer that a new server begins anew is a new *edition*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Frame = Mapping[str, Any]
Source = Mapping[str, Any]
Phase = Literal["sending", "queued", "waiting", "retrieving", "generating"]
Ending = Literal["stop", "length", "cancelled", "interrupted", "retracted", "failed", "rejected", "lost"]
Outcome = Literal["cancelled", "already_ended", "unknown"]

FINISHED = frozenset({"stop", "length", "cancelled", "interrupted", "retracted"})
PHASES = frozenset(get_args(Phase)) - {"sending"}
MAKES_A_TURN = frozenset({"user_message", "stream_start", "stream_token"})
"""Frames that make a turn when they are the first that we see of it; the others alone say too little."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A `stream_error`, as it was told."""

    code: str
    message: str
    solutions: tuple[str, ...]
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """How many tokens were generated, sent and acknowledged, in how many characters; is the upstream `closed`?"""

    generated: int
    sent: int
    acked: int | None
    chars: int
    upstream: str


@dataclass(slots=True)
class TurnState:
    """`apply` is the only way to change it, but for `ending` "lost" and for what the client itself decides.

    Attributes:
        ending: None while the turn is unfinished; else a finish_reason, or "failed" (a `stream_error`), "rejected"
            (refused before it became a turn), "lost" (it ended while we were away and nobody can say how).
        next: the index of the token to come.
        holes: tokens that were skipped.
        edition: how often the answer was begun anew after tokens had come.
        epoch: of the log that the turn was started in.
    """

    message_id: str
    own: bool = False
    question: str | None = None
    accepted: bool = False
    tokens: list[str] = field(default_factory=list)
    chars: int = 0
    next: int = 0
    holes: int = 0
    edition: int = 0
    epoch: int | None = None
    phase: Phase = "sending"
    place: int | None = None
    sources: Sequence[Source] = ()
    ending: Ending | None = None
    failure: Failure | None = None
    total_tokens: int = 0
    processing_time_ms: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    receipt: Receipt | None = None
    outcome: Outcome | None = None

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def whole(self) -> bool:
        """Nothing is missing of what the server has said so far."""
        return not self.holes and self.ending != "lost" and len(self.tokens) >= self.total_tokens

    def apply(self, frame: Frame, epoch: int | None) -> bool:
        """Fold a frame of this turn in. Says whether anything has changed; a frame of an odd form changes nothing."""
        match frame:
            case {"type": "stream_token", "token": str(token), "index": int(index)}:
                return self._token(token, index)
            case {"type": "stream_start"}:
                self._start(epoch)
            case {"type": "user_message", "content": str(content)}:
                self.accepted, self.question = True, content
            case {"type": "stream_sources", "sources": list(sources)}:
                self.sources = tuple(source for source in sources if isinstance(source, dict))
            case {"type": "stream_status", "phase": str(phase)}:
                self._status(phase, frame.get("place"))
            case {"type": "stream_end", "finish_reason": str(reason)}:
                self._end(reason, frame)
            case {"type": "stream_error"}:
                self.ending = "failed" if self.accepted else "rejected"
                self.failure = read_failure(frame)
            case {"type": "stream_receipt", "generated": int(), "sent": int()}:
                self.receipt = Receipt(*(frame.get(name) for name in Receipt.__dataclass_fields__))  # type: ignore[arg-type]
            case {"type": "cancel_result", "outcome": "cancelled" | "already_ended" | "unknown" as outcome}:
                self.outcome = outcome
            case _:
                return False
        return True

    def _start(self, epoch: int | None) -> None:
        self.accepted = True
        if self.epoch == epoch and self.epoch is not None:
            return  # the same log tells it again: its tokens are told by their index
        self.epoch = epoch
        self.edition += bool(self.tokens)
        self.tokens, self.chars, self.next, self.holes, self.total_tokens = [], 0, 0, 0, 0
        self.sources, self.ending, self.failure, self.receipt = (), None, None, None
        self.phase, self.place = "retrieving", None

    def _token(self, token: str, index: int) -> bool:
        if index < self.next:
            return False  # sent again
        self.holes += index - self.next
        self.tokens.append(token)
        self.chars += len(token)
        self.next = index + 1
        self.phase = "generating"
        return True

    def _status(self, phase: str, place: Any) -> None:
        self.accepted = True
        if self.ending is not None or phase not in PHASES:
            return  # "duplicate", "pipeline"
        # Tokens have come: an older phase that arrives late must not turn the answer back into waiting.
        if not self.next or phase == "generating":
            self.phase = phase  # type: ignore[assignment]
        self.place = place if phase == "queued" and isinstance(place, int) else None

    def _end(self, reason: str, frame: Frame) -> None:
        self.ending = reason if reason in FINISHED else "stop"  # type: ignore[assignment]
        self.total_tokens = _number(frame.get("total_tokens"))
        self.processing_time_ms = _number(frame.get("processing_time_ms"))
        meta = frame.get("meta")
        self.meta = meta if isinstance(meta, dict) else {}


def read_failure(frame: Frame) -> Failure:
    """What a `stream_error` tells."""
    solutions = frame.get("solutions")
    later = frame.get("retry_after_ms")
    return Failure(
        str(frame.get("error_code", "")),
        str(frame.get("message", "")),
        tuple(map(str, solutions)) if isinstance(solutions, list) else (),
        later / 1000 if isinstance(later, int | float) else None,
    )


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
