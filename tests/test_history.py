"""`history.py`: entries folded into what is promised, what has ended, where a newcomer begins and what must be kept."""

from __future__ import annotations

from collections.abc import Container

import pytest

from trialogue import Ending, Fault, Position
from trialogue.core.events import (
    Ended,
    Event,
    Failed,
    Fenced,
    Receipt,
    Remembered,
    Snapshot,
    Sources,
    Started,
    Status,
    Tokens,
    UserMessage,
)
from trialogue.core.machine import Known, Outcome, Policy, Turn, digest_of
from trialogue.history import History, PastTurn, outcome_of
from trialogue.memory_log import MemoryLog

EPOCH = 7


class Told:
    """A log and the history of what is in it. `begin` is how far `tell` has come."""

    def __init__(self, *events: Event, held: Container[str] = ()) -> None:
        self.log = MemoryLog(EPOCH, 1 << 20)
        self.history = History(self.log, held)
        self.tell(*events)

    def tell(self, *events: Event) -> int:
        """Append and fold. Returns the first one's offset."""
        first = self.log.extend(events)
        self.history.take(self.log.read(first, self.log.end))
        return first


def asked(name: str, **fields: object) -> UserMessage:
    return UserMessage(name, f"what is {name}?", Policy.ENQUEUE, fields, "2026")


def begun(name: str) -> Started:
    return Started(name, "s", "2026")


def ended(name: str, reason: str = "stop") -> Ended:
    return Ended(name, reason, 1, 1)


def whole(name: str) -> list[Event]:
    """A turn of five offsets: 0 asked, 1 begun, 2 and 3 tokens, 4 ended."""
    return [asked(name), begun(name), Tokens(name, 0, ["x", "y"]), ended(name)]


# ── What is promised ─────────────────────────────────────────────────────────────────────────────────────────────


def test_unended_turns_are_the_begun_one_and_the_others_as_they_were_accepted() -> None:
    told = Told(asked("a"), begun("a"), asked("b"), asked("c", top_k=3), ended("a"))
    assert [turn.message_id for turn in told.history.unended[0]] == ["b", "c"]
    assert told.history.unended[1] is False
    told.tell(begun("c"))  # an interrupting message overtakes
    turns, running = told.history.unended
    assert running
    assert turns == (
        Turn("c", "what is c?", Policy.ENQUEUE, {"top_k": 3}),
        Turn("b", "what is b?", Policy.ENQUEUE, {}),
    )


def test_the_ledger_knows_ended_and_unended_messages_by_their_digests() -> None:
    fault = Fault("WS-008")
    told = Told(*whole("a"), asked("b"), begun("b"), Failed("b", fault), asked("c"))
    ledger = told.history.ledger
    assert ledger == type(ledger)(
        {
            "a": Known(digest_of("what is a?"), Outcome(Ending.COMPLETED, "stop")),
            "b": Known(digest_of("what is b?"), outcome_of(Failed("b", fault))),
            "c": Known(digest_of("what is c?")),
        }
    )


@pytest.mark.parametrize("ending", [Ending.CANCELLED, Ending.INTERRUPTED, Ending.RETRACTED])
def test_an_end_is_read_as_what_it_was(ending: Ending) -> None:
    assert outcome_of(ended("a", ending.value)) == Outcome(ending, ending.value)


def test_a_pipelines_own_reason_is_a_completed_turn_and_a_fault_is_a_failed_one() -> None:
    assert outcome_of(ended("a", "length")) == Outcome(Ending.COMPLETED, "length")
    assert outcome_of(Failed("a", Fault("WS-006"))).ending is Ending.FAILED


def test_an_end_of_a_turn_that_was_never_asked_is_remembered_without_a_digest() -> None:
    """One that was refused before it was accepted, or whose beginning is not in what was read."""
    told = Told(asked("x"), ended("a"))
    assert told.history.past["a"] == PastTurn(1, 2, ended("a"), b"")


@pytest.mark.parametrize(
    ("told", "silent"),
    [
        ([], True),
        ([Status("a", "retrieving")], True),
        ([Tokens("a", 0, ["x"])], False),
        ([Sources("a", [])], False),
        ([Status("a", "generating")], False),
        ([Status("a", "pipeline", {"data": 1})], False),
        ([Status("a", "retrieving", {"session_id": "theirs"})], False),
    ],
)
def test_a_begun_turn_is_silent_until_something_of_it_was_told(told: list[Event], silent: bool) -> None:
    assert Told(asked("a"), begun("a"), *told).history.silent is silent


def test_without_a_begun_turn_nothing_is_silent_and_an_earlier_turn_speaks_for_no_other() -> None:
    assert not Told(asked("a")).history.silent
    assert Told(*whole("a"), asked("b"), begun("b")).history.silent


def test_the_services_id_is_the_last_that_was_told() -> None:
    told = Told(asked("a"), begun("a"))
    assert told.history.confirmed_id is None
    told.tell(Status("a", "retrieving", {"session_id": "one"}), Status("a", "retrieving", {"session_id": "two"}))
    assert told.history.confirmed_id == "two"
    told.tell(Snapshot([], None))  # one that knows of none takes none away
    assert told.history.confirmed_id == "two"
    told.tell(Snapshot([], "three"))
    assert told.history.confirmed_id == "three"


# ── What has ended ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_past_turn_stands_from_its_message_to_behind_its_end() -> None:
    told = Told(*whole("a"), *whole("b"))
    assert told.history.past == {
        "a": PastTurn(0, 5, ended("a"), digest_of("what is a?")),
        "b": PastTurn(5, 10, ended("b"), digest_of("what is b?")),
    }
    assert told.history.began == {}


def test_a_snapshot_stands_for_turns_that_are_trimmed_and_changes_no_others() -> None:
    gone = Remembered(digest_of("old"), ended("old", "cancelled"))
    told = Told(ended("cut"), *whole("a"))  # of `cut`, the message is trimmed already
    told.tell(Snapshot([gone, Remembered(digest_of("cut?"), ended("cut"))], None))
    past = told.history.past
    assert list(past) == ["old", "cut", "a"]  # the oldest first: these are forgotten first
    assert past["old"] == PastTurn(-1, -1, ended("old", "cancelled"), digest_of("old"))
    assert past["cut"] == PastTurn(0, 1, ended("cut"), digest_of("cut?"))
    assert past["a"].start == 1


def test_an_end_that_comes_behind_a_snapshot_keeps_the_digest_that_it_told() -> None:
    told = Told(Snapshot([Remembered(digest_of("a?"), ended("a"))]), ended("a"))
    assert told.history.past["a"] == PastTurn(1, 2, ended("a"), digest_of("a?"))


def test_a_snapshot_says_the_ended_turns_whose_end_is_committed() -> None:
    told = Told(*whole("a"), asked("b"))
    assert told.history.snapshot("id") == Snapshot([Remembered(digest_of("what is a?"), ended("a"))], "id")
    told.history.take([(told.log.end, ended("b"))])  # appended, and not in the store yet
    assert [turn.ending.message_id for turn in told.history.snapshot(None).turns] == ["a"]


def test_a_history_made_of_a_snapshot_knows_the_same_ids() -> None:
    told = Told(*whole("a"), *whole("b"))
    assert Told(told.history.snapshot(None)).history.ledger == told.history.ledger


def test_the_oldest_past_turns_are_forgotten() -> None:
    told = Told(*whole("a"), *whole("b"), *whole("c"))
    told.history.keep(5)
    assert len(told.history.past) == 3
    told.history.keep(2)
    assert list(told.history.past) == ["b", "c"]


# ── What must be kept ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_before_the_first_turn_that_is_not_settled_may_go() -> None:
    told = Told(held={"b"})
    assert told.history.floor is None
    told.tell(*whole("a"))
    assert told.history.floor is None
    told.tell(asked("b"), begun("b"))
    assert told.history.floor == 5
    told.tell(ended("b"))
    assert told.history.floor == 5  # it is held: its receipt is to come
    told.tell(Receipt("b", 0, 0, None, 0, "closed"), asked("c"))
    assert told.history.floor == 5
    told.history.settle("b", known={"a", "b", "c"})
    assert told.history.floor == 9
    assert list(told.history.past) == ["a", "b"]


def test_settling_forgets_the_oldest_turns_that_the_ledger_has_forgotten() -> None:
    told = Told(*whole("a"), *whole("b"), *whole("c"))
    told.history.settle("c", known={"b", "c"})
    assert list(told.history.past) == ["b", "c"]


# ── Where somebody begins ────────────────────────────────────────────────────────────────────────────────────────


def test_a_newcomer_begins_at_the_running_turn_or_at_the_end() -> None:
    assert Told().history.place(None) == (0, "new")
    assert Told(Fenced(EPOCH, "here", fresh=True)).history.place(None) == (1, "new")  # nobody has asked anything
    told = Told(*whole("a"))
    assert told.history.place(None) == (5, "attached")
    told.tell(asked("b"), begun("b"), Tokens("b", 0, ["x"]))
    assert told.history.place(None) == (6, "attached")


def test_who_comes_back_goes_on_where_he_was() -> None:
    told = Told(*whole("a"))
    assert told.history.place(Position(EPOCH, 3)) == (3, "replayed")
    assert told.history.place(Position(EPOCH, 5)) == (5, "replayed")


def test_a_position_of_another_log_or_of_what_is_trimmed_is_a_gap() -> None:
    told = Told(*whole("a"), asked("b"), begun("b"))
    assert told.history.place(Position(EPOCH - 1, 3)) == (6, "gap")
    assert told.history.place(Position(EPOCH, 99)) == (6, "gap")
    told.log.settle(told.history.floor)
    told.log.shed()
    assert told.history.place(Position(EPOCH, 0)) == (6, "gap")


def test_who_comes_for_one_turn_begins_inside_it() -> None:
    told = Told(*whole("a"), *whole("b"), asked("c"))
    assert told.history.place(None, "a") == (0, "attached")
    assert told.history.place(Position(EPOCH, 2), "a") == (2, "replayed")
    assert told.history.place(Position(EPOCH, 9), "a") == (4, "replayed")  # its end is told, also to one who was past
    assert told.history.place(None, "c") == (10, "attached")
    assert told.history.place(None, "to come") == (11, "attached")
    told.log.settle(told.history.floor)
    told.log.shed()
    assert told.history.place(None, "a") == (11, "attached")
    assert told.history.place(Position(EPOCH, 11), "a") == (11, "replayed")


def test_questions_that_stand_before_where_somebody_begins_are_told_to_him() -> None:
    told = Told(asked("a"), begun("a"), asked("b", secret=1), asked("c"))
    assert told.history.unanswered(3) == [
        UserMessage("a", "what is a?", Policy.ENQUEUE),
        UserMessage("b", "what is b?", Policy.ENQUEUE),
    ]
    assert told.history.unanswered(0) == []
    told.tell(ended("a"))
    assert [message.message_id for message in told.history.unanswered(9)] == ["b", "c"]
