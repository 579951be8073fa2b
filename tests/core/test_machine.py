"""`core/machine.py`: walked through in every order, its mutants killed, and a few orders told as stories."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from support.machine_check import LIMITS, Violation, check
from support.mutants import MUTANTS
from trialogue.core import machine
from trialogue.core.limits import Limits
from trialogue.core.machine import (
    Accept,
    Begin,
    Cancel,
    Closed,
    End,
    Finished,
    Input,
    Known,
    Ledger,
    Outcome,
    Policy,
    Start,
    State,
    Stop,
    Submit,
    Turn,
    step,
)

SOURCE = Path(machine.__file__).read_text(encoding="utf-8")


def test_every_order_of_three_messages_keeps_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    stats = check(machine, 3)
    with capsys.disabled():
        print(f"\nmachine, 3 messages, every order: {stats.states} states, {stats.transitions} transitions")
    assert stats.states > 5_000


def test_every_order_of_five_messages_keeps_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    stats = check(machine, 5, by_shape=True)
    with capsys.disabled():
        print(f"\nmachine, 5 messages, by shape: {stats.states} states, {stats.transitions} transitions")
    assert stats.states > 500


@contextmanager
def mutated(old: str, new: str) -> Iterator[ModuleType]:
    assert SOURCE.count(old) == 1, f"the mutant is void: {old!r} stands {SOURCE.count(old)} times in the machine"
    mutant = ModuleType("mutant")
    sys.modules["mutant"] = mutant  # dataclasses look their module up
    try:
        exec(compile(SOURCE.replace(old, new), "mutant", "exec"), mutant.__dict__)
        yield mutant
    finally:
        del sys.modules["mutant"]


@pytest.mark.parametrize(("breaks", "old", "new"), MUTANTS, ids=[breaks for breaks, _, _ in MUTANTS])
def test_the_check_kills_the_mutant(breaks: str, old: str, new: str) -> None:
    with mutated(old, new) as mutant, pytest.raises(Violation) as caught:
        check(mutant, 4, by_shape=True)
    assert caught.value.rule


def test_the_unmutated_text_passes_the_same_way() -> None:
    with mutated("Rule 4: a repeated message id", "Rule 4: a repeated  message id") as same:
        check(same, 3, by_shape=True)


# ── Stories ──────────────────────────────────────────────────────────────────────────────────────────────────────


def message(name: str, policy: Policy = Policy.INTERRUPT) -> Submit:
    return Submit(Turn(name, name, policy), 1)


def after(*inputs: Input, limits: Limits = LIMITS) -> tuple[State, list[machine.Effect]]:
    state, effects = State(), []
    for happened in inputs:
        state, effects = step(state, happened, limits)
    return state, effects


def test_an_interrupt_fences_ends_and_begins_in_this_order() -> None:
    state, effects = after(message("a"), message("b"))
    assert [type(effect) for effect in effects] == [Accept, Stop, End, Begin]
    assert state.running is not None
    assert state.running.message_id == "b"
    assert state.slot == "a"
    assert not state.generating


def test_the_waiting_turn_starts_when_the_old_upstream_has_closed() -> None:
    _, effects = after(message("a"), message("b"), Closed("a", "closed"))
    assert isinstance(effects[-1], Start)
    assert effects[-1].turn.message_id == "b"


def test_a_turn_that_waited_and_was_interrupted_was_never_generated() -> None:
    state, _ = after(message("a"), message("b"), message("c"), Closed("a", "closed"))
    assert state.slot == "c"
    assert state.ledger["b"].outcome == Outcome(machine.Ending.INTERRUPTED, "interrupted")


def test_an_interrupt_goes_ahead_of_the_queue() -> None:
    state, _ = after(message("a"), message("q", Policy.ENQUEUE), message("b"))
    assert state.running is not None
    assert state.running.message_id == "b"
    assert [turn.message_id for turn in state.queue] == ["q"]


def test_a_failed_turn_is_remembered() -> None:
    fault = machine.failed(machine.Fault("RAG-001"))
    state, effects = after(message("a"), Finished("a", fault), Closed("a", "closed"), message("a"))
    assert effects == [machine.Repeat(1, "a")]
    assert state.idle


def test_a_refused_id_may_be_tried_again() -> None:
    state, _ = after(message("a"), message("b", Policy.REJECT))
    assert "b" not in state.ledger
    state, effects = step(state, Cancel(None, 1), LIMITS)
    state, effects = step(state, message("b", Policy.REJECT), LIMITS)
    assert any(isinstance(effect, Begin) for effect in effects)


def test_the_ledger_forgets_the_oldest_ended_ids_and_no_unended_one() -> None:
    limits = Limits(remembered_ids=100, queue_size=1_000)
    state, _ = step(State(), message("keeps"), limits)
    for n in range(500):
        state, _ = step(state, message(f"m{n}", Policy.ENQUEUE), limits)
        if n != 7:
            state, _ = step(state, Cancel(f"m{n}", 1), limits)
        assert "keeps" in state.ledger
        assert "m7" in state.ledger or n < 7
        assert all(f"m{k}" in state.ledger for k in range(max(0, n - 98), n + 1))
        assert len(state.ledger) <= 100 + 2 * Ledger.BLOCK + 2
        assert len(list(state.ledger)) == len(state.ledger)
    assert "m0" not in state.ledger
    with pytest.raises(KeyError):
        state.ledger["m0"]


def test_ledgers_are_values() -> None:
    one = Ledger({"a": Known(b"1")})
    assert one == Ledger({"a": Known(b"1")})
    assert hash(one) == hash(Ledger({"a": Known(b"1")}))
    assert one != {"a": Known(b"1")}
    assert repr(one) == "<Ledger 1 ids>"
