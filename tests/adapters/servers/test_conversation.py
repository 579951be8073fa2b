"""`servers/conversation.py`: a log, read as what was asked and answered."""

from __future__ import annotations

import time

import pytest

from trialogue.core.errors import Fault
from trialogue.core.events import Ended, Event, Failed, Receipt, Sources, Started, Status, Tokens, UserMessage
from trialogue.core.machine import Policy
from trialogue.memory_log import MemoryLog
from trialogue_adapters.servers.conversation import exchanges, messages


def asked(name: str) -> UserMessage:
    return UserMessage(name, f"{name}?", Policy.INTERRUPT, timestamp="at")


def begun(name: str) -> Started:
    return Started(name, "s", "then")


def told(*events: Event, furthest: int = 1000) -> list[tuple[str, str]]:
    offset, entries = 0, list[tuple[int, Event]]()
    for event in events:
        entries.append((offset, event))
        offset += len(event.texts) if isinstance(event, Tokens) else 1
    return [(said["role"][0], said["content"]) for said in messages(exchanges(entries), lambda offset: furthest)]


def test_a_complete_answer_is_whole_whatever_was_sent() -> None:
    turn = (asked("a"), begun("a"), Tokens("a", 0, ["x", "y"]), Tokens("a", 2, ["z"]))
    for reason in ("stop", "length"):
        assert told(*turn, Ended("a", reason, 3, 1), furthest=0) == [("u", "a?"), ("a", "xyz")]


@pytest.mark.parametrize("reason", ["cancelled", "interrupted", "failed"])
def test_another_answer_is_what_was_sent_of_it(reason: str) -> None:
    end = Failed("a", Fault("RAG-001")) if reason == "failed" else Ended("a", reason, 3, 1)
    turn = (asked("a"), begun("a"), Tokens("a", 0, ["x", "y"]), Tokens("a", 2, ["z"]), end)
    for furthest, text in ((2, ""), (3, "x"), (4, "xy"), (5, "xyz"), (9, "xyz")):
        assert told(*turn, furthest=furthest) == [("u", "a?"), *([("a", text)] if text else [])]
    assert told(*turn, Receipt("a", 3, 1, None, 1, "closed"), furthest=9) == [("u", "a?"), ("a", "x")]


def test_turns_stand_in_the_order_in_which_they_began() -> None:
    assert told(
        asked("a"),
        begun("a"),
        asked("waits"),
        Status("waits", "queued"),
        asked("never"),
        asked("b"),
        Tokens("a", 0, ["x"]),
        Ended("never", "cancelled", 0, 0),
        Ended("a", "interrupted", 1, 1),
        begun("b"),
        Tokens("b", 0, ["y"]),
        Ended("b", "stop", 1, 1),
        begun("waits"),
        Tokens("waits", 0, ["not yet"]),
    ) == [("u", "a?"), ("a", "x"), ("u", "never?"), ("u", "b?"), ("a", "y"), ("u", "waits?")]


def test_what_was_retracted_and_what_is_trimmed_are_not_there() -> None:
    assert told(
        Tokens("trimmed", 5, ["x"]),
        Ended("trimmed", "stop", 6, 1),
        asked("a"),
        begun("a"),
        Tokens("a", 0, ["x"]),
        Ended("a", "retracted", 1, 1),
        asked("b"),
    ) == [("u", "b?")]


def test_keys_are_the_contract_s() -> None:
    entries: list[Event] = [asked("a"), begun("a"), Sources("a", [{"title": "t"}]), Tokens("a", 0, ["x"])]
    said = messages(exchanges(enumerate([*entries, Ended("a", "stop", 1, 1)])), lambda offset: 9)
    assert said == [
        {"role": "user", "content": "a?", "timestamp": "at"},
        {"role": "assistant", "content": "x", "timestamp": "then", "sources": [{"title": "t"}]},
    ]


def test_a_full_log_is_read_in_no_time() -> None:
    """The event loop waits for it: tens of milliseconds for a megabyte of the shortest tokens."""
    log = MemoryLog(1, 1 << 20)
    for turn in range(300):
        name = f"m{turn}"
        log.extend([asked(name), begun(name)])
        log.append_tokens(Tokens(name, 0, ["x"] * 1000), 1000)
        log.extend([Ended(name, "stop", 1000, 1)])
        log.settle(None)
    started = time.process_time()
    said = messages(exchanges(log.read(log.start, log.end)), log.sent_up_to)
    took = time.process_time() - started
    print(f"\n{log.end - log.start} entries, {len(said)} messages: {took * 1000:.0f} ms")
    assert len(said) > 300
    assert took < 1
