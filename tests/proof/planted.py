"""Bugs to be planted in the engine, each a plausible mistake: what finds none of them proves nothing.

Each is a function that plants itself with pytest's monkeypatch, and says in its name what it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from trialogue import Position
from trialogue.core import machine
from trialogue.core.machine import Begin, Effect, End, Finished, Input, Ledger, Start, State, Turn
from trialogue.generation import Generation
from trialogue.log import Entry
from trialogue.memory_log import _PackedRun
from trialogue.session import Session
from trialogue.stay import Stay

Plant = Callable[[pytest.MonkeyPatch], None]
Steps = tuple[State, list[Effect]]


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """A stopped generation may go on emitting."""
    stop = Generation.stop

    def without(self: Generation) -> None:
        stop(self)
        self.fenced = False

    patch.setattr(Generation, "stop", without)


def no_join(patch: pytest.MonkeyPatch) -> None:
    """The next generation starts at once, not when the last one's upstream has closed."""

    def without(state: State, turn: Turn) -> Steps:
        return state._replace(running=turn, slot=turn.message_id), [Begin(turn, waiting=False), Start(turn)]

    patch.setattr(machine, "_begin", without)


def epoch_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A position of a former log is taken for one of this log."""
    place = Session.place

    def without(self: Session, after: Position | None, *more: Any) -> tuple[int, Any]:
        return place(self, after and Position(self.log.epoch, after.offset), *more)

    patch.setattr(Session, "place", without)


def ended_twice(patch: pytest.MonkeyPatch) -> None:
    """A generation's outcome is told even if its turn was stopped in the meantime."""
    step = machine.step

    def twice(state: State, happened: Input, limits: Any) -> Steps:
        state, effects = step(state, happened, limits)
        if isinstance(happened, Finished) and not effects:
            effects = [End(happened.message_id, happened.outcome)]
        return state, effects

    patch.setattr("trialogue.session.step", twice)


def repeat_generates(patch: pytest.MonkeyPatch) -> None:
    """The id of an ended turn is forgotten."""
    submit = machine._submit

    def forgetful(state: State, turn: Turn, asker: Any, limits: Any) -> Steps:
        known = {key: value for key, value in state.ledger.items() if key != turn.message_id or not value.outcome}
        return submit(state._replace(ledger=Ledger(known)), turn, asker, limits)

    patch.setattr(machine, "_submit", forgetful)


def trimmed_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """Who resumes from before the log's start gets what is left, as if that were all."""
    place = Session.place

    def silent(self: Session, after: Position | None, *more: Any) -> tuple[int, Any]:
        if after and after.epoch == self.log.epoch and after.offset < self.log.start:
            return self.log.start, "replayed"
        return place(self, after, *more)

    patch.setattr(Session, "place", silent)


def settled_turns_lose_a_token(patch: pytest.MonkeyPatch) -> None:
    """Reading a compact turn from its middle is off by one."""
    part = _PackedRun.part

    def off(self: _PackedRun, start: int, end: int) -> Entry:
        return part(self, start + 1 if self.offset < start < end - 1 else start, end)

    patch.setattr(_PackedRun, "part", off)


def receipts_flatter(patch: pytest.MonkeyPatch) -> None:
    """What was generated passes for sent."""
    sent = Generation._sent

    def all_of_it(self: Generation, ending: Any) -> tuple[int, int, str]:
        _, chars, text = sent(self, ending)
        return self.tokens, chars, text

    patch.setattr(Generation, "_sent", all_of_it)


def crash_forgets_the_queue(patch: pytest.MonkeyPatch) -> None:
    """What was queued is not found again after a crash of the actor."""
    unended = Session._unended

    def first_only(self: Session) -> tuple[tuple[Turn, ...], bool]:
        turns, begun = unended(self)
        return turns[:1], begun

    patch.setattr(Session, "_unended", first_only)


def linger_goes_on(patch: pytest.MonkeyPatch) -> None:
    """Who comes back does not stop the clock that was set when the last one left."""
    attach = Stay.attach

    def with_the_clock_running(self: Stay, client: Any) -> None:
        linger, self._linger = self._linger, None
        attach(self, client)
        self._linger = linger

    patch.setattr(Stay, "attach", with_the_clock_running)


def hook_is_not_awaited(patch: pytest.MonkeyPatch) -> None:
    """The next turn begins while the service still hears of the last."""
    tell_service = Generation._tell_service

    async def hasty(self: Generation, *told: Any) -> None:
        self._finish()
        await tell_service(self, *told)

    patch.setattr(Generation, "_tell_service", hasty)


PLANTED: Sequence[Plant] = (
    no_fence,
    no_join,
    epoch_forgotten,
    ended_twice,
    repeat_generates,
    trimmed_without_a_word,
    settled_turns_lose_a_token,
    receipts_flatter,
    crash_forgets_the_queue,
    linger_goes_on,
    hook_is_not_awaited,
)
