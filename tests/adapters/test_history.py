from __future__ import annotations

from trialogue_adapters.history import ANSWER_CHARS, QUESTION_CHARS, TURNS, History, Turn


def test_a_turn_is_kept_with_its_ending() -> None:
    history = History()
    history.asked("s", "why?")
    assert history.turns("s") == ()
    history.ended("s", "interrupted", "Because")
    assert history.turns("s") == (Turn("why?", "Because", "interrupted"),)
    assert history.turns("other") == ()


def test_retracted_and_unsent_turns_leave_nothing() -> None:
    history = History()
    history.asked("s", "one")
    history.ended("s", "retracted", "text")
    history.asked("s", "two")
    history.ended("s", "cancelled", "")
    assert history.turns("s") == ()


def test_an_ending_without_text_does_not_take_the_question_of_the_running_turn() -> None:
    history = History()
    history.asked("s", "running")
    history.ended("s", "cancelled", "")  # of a turn that was still queued
    history.ended("s", "completed", "done")
    assert history.turns("s") == (Turn("running", "done", "completed"),)
    history.ended("s", "completed", "nobody asked")
    assert len(history.turns("s")) == 1


def test_turns_and_lengths_are_bounded() -> None:
    history = History()
    for n in range(TURNS + 3):
        history.asked("s", f"{n}" * 1_000)
        history.ended("s", "completed", "y" * 10_000)
    turns = history.turns("s")
    assert len(turns) == TURNS
    assert turns[-1].question == f"{TURNS + 2}" * QUESTION_CHARS
    assert {len(turn.answer) for turn in turns} == {ANSWER_CHARS}


def test_the_session_that_was_silent_longest_is_forgotten() -> None:
    history = History(sessions=2)
    for session in ("a", "b", "a", "c"):
        history.asked(session, "q")
        history.ended(session, "completed", "x")
    assert [bool(history.turns(session)) for session in "abc"] == [True, False, True]
    assert repr(history) == "<History of 2 sessions>"
