"""One question and its answer, as a program holds it: iterate it, look at it, cancel it.

A handle on a TurnState, which the chat's reader fills. Nothing here is a queue, so a turn that nobody iterates costs
its text and blocks nobody. Each `async for` begins at the first token; what has been iterated counts as seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from anyio.lowlevel import checkpoint

from trialogue_adapters.client.errors import (
    ChatError,
    LinkError,
    TurnFailed,
    TurnIncomplete,
    TurnRejected,
    TurnRestarted,
    is_retryable,
)
from trialogue_adapters.client.fold import Ending, Outcome, Phase, Receipt, Source, TurnState

FAIR_TOKENS = 32
"""So many tokens that are there already may be taken before others get a turn."""


class Owner(Protocol):
    """What a turn needs of its chat."""

    @property
    def error(self) -> LinkError | None: ...
    def stop_turn(self, message_id: str) -> None: ...
    def shown(self, message_id: str, index: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of a cancel.

    Attributes:
        outcome: "cancelled", "already_ended", or "unknown" if the session has never heard of the turn.
        seen: the text of the tokens that had been iterated.
        text: all that has come of the answer, seen or not.
        ending: how the turn ended; None if the session does not know it.
    """

    outcome: Outcome
    seen: str
    text: str
    ending: Ending | None


class Turn:
    """Made by `Chat.send`, or found in `Asked`. Its properties are what is known now."""

    def __init__(self, owner: Owner, state: TurnState) -> None:
        self._owner = owner
        self._state = state
        self._seen = (0, 0)  # of which edition, and how many tokens of it
        self._news = anyio.Event()

    def __repr__(self) -> str:
        state = self._state
        return f"<Turn {state.message_id!r}, {len(state.tokens)} tokens, {state.ending or state.phase}>"

    # What is so.

    @property
    def message_id(self) -> str:
        return self._state.message_id

    @property
    def own(self) -> bool:
        """Was it asked here?"""
        return self._state.own

    @property
    def question(self) -> str | None:
        """None: we came in the middle and have not been told."""
        return self._state.question

    @property
    def text(self) -> str:
        """All that has come of the answer."""
        return self._state.text

    @property
    def tokens(self) -> Sequence[str]:
        """The same, as it was cut by the server."""
        return tuple(self._state.tokens)

    @property
    def phase(self) -> Phase:
        return self._state.phase

    @property
    def place(self) -> int | None:
        """In the queue, while it is queued."""
        return self._state.place

    @property
    def sources(self) -> Sequence[Source]:
        """What the answer rests on; each has at least `title`, `score` and `content_preview`."""
        return self._state.sources

    @property
    def ending(self) -> Ending | None:
        """None while it is unfinished."""
        return self._state.ending

    @property
    def whole(self) -> bool:
        """Nothing is missing of what the server has said of it so far."""
        return self._state.whole

    @property
    def edition(self) -> int:
        """How often a server has begun this answer anew, after it had lost what it had said of it."""
        return self._state.edition

    @property
    def receipt(self) -> Receipt | None:
        """How much was generated, sent and acknowledged; it comes a little after the ending."""
        return self._state.receipt

    @property
    def total_tokens(self) -> int:
        """As the server counts them, once the turn has ended."""
        return self._state.total_tokens

    @property
    def processing_time_ms(self) -> int:
        return self._state.processing_time_ms

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the service told at the end: usage, model and the like."""
        return self._state.meta

    @property
    def error(self) -> ChatError | None:
        """What iterating it would raise at its end; None while it is unfinished, or if all is well."""
        state, failure = self._state, self._state.failure
        if failure is not None:
            kind = TurnRejected if state.ending == "rejected" else TurnFailed
            return kind(
                state.message_id,
                failure.code,
                failure.message,
                solutions=failure.solutions,
                retryable=is_retryable(failure.code),
                retry_after=failure.retry_after,
            )
        if state.ending is not None:
            return None if state.whole else TurnIncomplete(state.message_id)
        return self._owner.error

    # What to do.

    def __aiter__(self) -> AsyncIterator[str]:
        """Each token once, from the first one on, until the turn ends, however it ends: see `ending`.

        The iterator's `__anext__`, when cancelled, takes no token.

        Raises:
            TurnRejected, TurnFailed: the server's error. TurnIncomplete: a part is gone.
            TurnRestarted: what was iterated is void; iterate again to read the new answer.
            LinkError: the chat has ended, and nobody can say how this turn did.
        """
        return _Tokens(self, self._state)

    async def changed(self) -> None:
        """Wait until anything about this turn changes. Raises LinkError if the chat ends, or has ended."""
        if self._owner.error is None:
            await self._news.wait()
        if self._owner.error is not None:
            raise self._owner.error

    async def ended(self) -> Ending:
        """Wait for the turn's end. Raises LinkError if the chat ends first."""
        while self._state.ending is None:
            await self.changed()
        return self._state.ending

    async def cancel(self) -> Cancelled:
        """Stop this turn, running or queued, and wait until the server has; ended turns stay as they are.

        A message that has never left for the server is withdrawn at once. While the connection is away this waits for
        the next one. Cancelled: the turn is stopped nevertheless.

        Raises:
            LinkError: the chat has ended.
        """
        state = self._state
        state.outcome = None if state.ending is None else "already_ended"
        if state.outcome is None:
            self._owner.stop_turn(self.message_id)
        while state.outcome is None:
            await self.changed()
        edition, count = self._seen
        seen = "".join(state.tokens[:count]) if edition == state.edition else ""
        return Cancelled(state.outcome, seen, self.text, self.ending)

    # For the chat and the iterator.

    def poke(self) -> None:
        """Something has changed: wake who waits."""
        self._news.set()
        self._news = anyio.Event()

    async def wait(self) -> None:
        await self._news.wait()

    def see(self, edition: int, count: int) -> None:
        """So many tokens of that edition have been iterated."""
        if edition == self._state.edition and (edition, count) > self._seen:
            self._seen = (edition, count)
            self._owner.shown(self.message_id, count - 1)


class _Tokens:
    """One iteration: a place in one edition of the answer."""

    def __init__(self, turn: Turn, state: TurnState) -> None:
        self._turn = turn
        self._state = state
        self._edition = state.edition
        self._next = 0

    def __aiter__(self) -> _Tokens:
        return self

    async def __anext__(self) -> str:
        state = self._state
        if self._next % FAIR_TOKENS == 0:
            await checkpoint()
        while True:
            if self._edition != state.edition:
                if self._next:
                    raise TurnRestarted(state.message_id)
                self._edition = state.edition
            if self._next < len(state.tokens):
                self._next += 1
                self._turn.see(self._edition, self._next)
                return state.tokens[self._next - 1]
            if error := self._turn.error:
                raise error
            if state.ending is not None:
                raise StopAsyncIteration
            await self._turn.wait()
