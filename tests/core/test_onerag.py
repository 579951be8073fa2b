"""`core/onerag.py`: every order of a turn's events, live, joined in its midst, and replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from trialogue.core.dialects import SeedDialect
from trialogue.core.errors import ERRORS, Fault
from trialogue.core.events import (
    CancelResult,
    Confirmed,
    Custom,
    Duplicate,
    Ended,
    Event,
    Failed,
    Goaway,
    Pong,
    Presence,
    Ready,
    Receipt,
    Replay,
    Reply,
    Sources,
    Started,
    Status,
    Tokens,
    Typing,
    UserMessage,
)
from trialogue.core.machine import Policy
from trialogue.core.onerag import NAMES, OneRagDialect

OWN, THEIRS = "own-id", "confirmed-id"
SOURCES = Sources("m", [{"title": "t"}])
ENDS = ("stop", "length", "cancelled", "interrupted", "retracted", "failed")


@dataclass(frozen=True)
class Case:
    """A turn: when metadata comes (before how many tokens; None: never), what is in it, and how it ends."""

    tokens: int
    metadata: Sequence[int]
    told: str  # what metadata carries: "nothing", "sources", "id"
    done_sources: bool
    end: str

    @property
    def informed(self) -> bool:
        return bool(self.metadata)

    @property
    def sources(self) -> bool:
        return (self.told == "sources" and self.informed) or (self.done_sources and self.end == "stop")

    def script(self) -> Iterator[Event | Confirmed]:
        """As the engine tells it: events as they are logged, and a `Confirmed` behind each metadata."""
        yield UserMessage("m", "q", Policy.INTERRUPT)
        yield Started("m", OWN, "2026-01-16T10:00:00Z")
        yield Status("m", "waiting")
        yield Status("m", "retrieving")
        informed = False
        for n in range(self.tokens + 1):
            for _ in range(self.metadata.count(n)):
                if not informed and self.told == "sources":
                    yield SOURCES
                if not informed and self.told == "id":
                    yield Status("m", "retrieving", {"session_id": THEIRS})
                informed = True
                yield Confirmed("m", THEIRS if self.told == "id" else OWN)
            if n < self.tokens:
                yield Tokens("m", n, [f"t{n}"])
        if self.end == "stop" and self.done_sources and self.told != "sources":
            yield SOURCES
        yield Failed("m", Fault("RAG-001")) if self.end == "failed" else Ended("m", self.end, self.tokens, 5)
        yield Receipt("m", self.tokens, self.tokens, None, 0, "closed")


CASES = [
    Case(tokens, metadata, told, done_sources, end)
    for tokens, metadata, told, done_sources, end in product(
        (0, 1, 2), ((), (0,), (1,), (2,), (0, 0), (0, 1)), ("nothing", "sources", "id"), (False, True), ENDS
    )
    if max(metadata, default=0) <= tokens and (metadata or told == "nothing")
]


def step(dialect: OneRagDialect, happened: Event | Confirmed) -> list[dict[str, Any]]:
    frames = dialect.reply(happened) if isinstance(happened, Confirmed) else dialect.feed(0, happened)
    return [json.loads(frame) for frame in frames]


def play(dialect: OneRagDialect, happened: Sequence[Event | Confirmed]) -> list[dict[str, Any]]:
    return [frame for item in happened for frame in step(dialect, item)]


def kinds(frames: Sequence[dict[str, Any]]) -> list[str]:
    return [frame["type"].removeprefix("stream_") for frame in frames]


def wanted(case: Case) -> list[str]:
    """The contract, said once more in another way."""
    if case.end == "failed":
        starts = case.informed or case.tokens
        return [*(["start"] if starts else []), *["token"] * case.tokens, "error"]
    return ["start", *["token"] * case.tokens, *(["sources"] if case.sources else []), "end"]


def test_there_are_enough_cases() -> None:
    assert len(CASES) > 200


@pytest.mark.parametrize("name", ["m", "m~r1"])
def test_every_turn_in_every_order(name: str) -> None:
    for case in CASES:
        dialect = OneRagDialect("en")
        if name != "m":
            dialect.rejoin("m", 1)
        frames = play(dialect, list(case.script()))
        assert kinds(frames) == wanted(case), case
        assert {frame["message_id"] for frame in frames} == {name}
        assert [frame["index"] for frame in frames if "index" in frame] == list(range(case.tokens))


def test_the_start_waits_for_metadata_and_tells_the_confirmed_id() -> None:
    for case in CASES:
        dialect, seen = OneRagDialect("en"), list[str]()
        for happened in case.script():
            told = step(dialect, happened)
            for frame in told:
                if frame["type"] == "stream_start":
                    early = isinstance(happened, Tokens | Ended)  # no metadata by then
                    confirmed = case.told == "id" and not (early and 0 not in case.metadata)
                    assert frame["session_id"] == (THEIRS if confirmed else OWN), case
                    assert early or isinstance(happened, Confirmed | Status | Failed)
                    assert not early or "Confirmed" not in seen
            seen.append(type(happened).__name__)


def test_who_comes_back_is_told_the_same_at_once_as_those_who_stayed() -> None:
    """At any point of the turn: what is in the log, after what the session says of the turn; then what follows."""
    for case in CASES:
        script = list(case.script())
        for cut in range(2, len(script) - 1):  # the end and the receipt are still to come
            before = script[:cut]
            known = [item for item in before if isinstance(item, Confirmed)]
            back = OneRagDialect("en")
            back.rejoin("m", 2)
            begun = known[-1] if known else Confirmed(None, OWN)
            assert step(back, begun) == []
            frames = play(back, [item for item in before if not isinstance(item, Confirmed)])
            frames += play(back, script[cut:])
            assert kinds(frames) == wanted(case), (case, cut)
            assert {frame["message_id"] for frame in frames} == {"m~r2"}


def test_a_replay_is_the_same_turn_whatever_else_is_open() -> None:
    for case in CASES:
        past = Replay([item for item in case.script() if not isinstance(item, Confirmed)])
        dialect = OneRagDialect("en")
        play(dialect, [Started("open", OWN, ""), Sources("open", [{"title": "held"}])])
        frames = [json.loads(frame) for frame in dialect.reply(past)]
        bare = case.end == "failed" and not case.tokens and case.told == "nothing"  # the log does not know better
        assert kinds(frames) == (["error"] if bare else wanted(case)), case
        rest = play(dialect, [Confirmed("open", OWN), Tokens("open", 0, ["b"]), Ended("open", "stop", 1, 5)])
        assert kinds(rest) == ["start", "token", "sources", "end"]


def test_a_queued_turn_that_never_starts_has_only_its_end_and_disturbs_nobody() -> None:
    dialect = OneRagDialect("en")
    play(dialect, [Started("m", OWN, ""), Confirmed("m", OWN), SOURCES])
    assert kinds(step(dialect, Ended("queued", "cancelled", 0, 0))) == ["end"]
    assert kinds(step(dialect, Failed("queued-2", Fault("WS-006")))) == ["error"]
    assert kinds(play(dialect, [Tokens("m", 0, ["a"]), Ended("m", "stop", 1, 5)])) == ["token", "sources", "end"]


def test_a_late_confirmation_of_an_ended_turn_starts_nothing() -> None:
    dialect = OneRagDialect("en")
    play(dialect, [Started("m", OWN, ""), Failed("m", Fault("RAG-002"))])
    assert step(dialect, Confirmed("m", OWN)) == []
    assert step(dialect, Started("next", OWN, "")) == []
    assert kinds(step(dialect, Confirmed("next", OWN))) == ["start"]


def test_the_confirmed_id_holds_for_the_turns_that_follow() -> None:
    dialect = OneRagDialect("en")
    play(dialect, [Confirmed(None, THEIRS), Started("m", OWN, "")])
    assert step(dialect, Tokens("m", 0, ["a"]))[0]["session_id"] == THEIRS


def test_a_refusal_is_named_and_touches_no_turn() -> None:
    dialect = OneRagDialect("en")
    play(dialect, [Started("m", OWN, "")])
    (refusal,) = (json.loads(frame) for frame in dialect.reply(Failed("m", Fault("WS-005"), 1234)))
    assert (refusal["error_code"], refusal["retry_after_ms"]) == ("WS-429-RATE_LIMITED", 1234)
    assert list(refusal) == ["type", "message_id", "error_code", "message", "solutions", "retry_after_ms"]
    assert kinds(step(dialect, Ended("m", "cancelled", 0, 0))) == ["start", "end"]


def test_every_code_of_ours_has_a_name_and_others_keep_theirs() -> None:
    assert set(NAMES) == set(ERRORS)
    told = {code: step(OneRagDialect("ko"), Failed("q", Fault(code)))[0]["error_code"] for code in ERRORS}
    assert told == NAMES
    assert step(OneRagDialect("ko"), Failed("q", Fault("GEN-042")))[0]["error_code"] == "GEN-042"
    unreadable = Fault("WS-001", unreadable=True)
    assert step(OneRagDialect("ko"), Failed("unknown", unreadable))[0]["error_code"] == "WS-001-INVALID_JSON"


ONLY_V1: list[Reply] = [
    Ready("s", "7:0", "new", None, [], 1, {}, 20.0),
    Confirmed(None, "s"),
    CancelResult("m", "unknown"),
    Duplicate("m"),
    Presence(2),
    Typing(active=True),
    Goaway("drain", 1000),
    UserMessage("m", "hi", Policy.INTERRUPT),
]


@pytest.mark.parametrize("reply", ONLY_V1, ids=lambda reply: type(reply).__name__)
def test_what_only_v1_knows_never_comes(reply: Reply) -> None:
    assert list(OneRagDialect().reply(reply)) == []


def test_direct_answers_come() -> None:
    assert json.loads(OneRagDialect().reply(Pong("p"))[0]) == {"type": "pong", "id": "p"}
    assert json.loads(OneRagDialect().reply(Custom({"type": "news"}))[0]) == {"type": "news"}


def test_the_client_s_own_name_of_a_turn_is_understood() -> None:
    dialect = OneRagDialect()
    dialect.rejoin("m", 3)
    assert [dialect.original(name) for name in ("m~r3", "m", "m~r2", "x")] == ["m", "m", "m~r2", "x"]


def test_frames_but_for_order_and_names_are_the_seed_s_bytes() -> None:
    events: list[Event] = [
        Started("m", OWN, "2026-01-16T10:00:00Z"),
        Tokens("m", 0, ["안녕", 'a"\\\n', "\ud800"]),
        SOURCES,
        Ended("m", "stop", 3, 250, {"usage": 1}),
    ]
    ours, seed = OneRagDialect(), SeedDialect()
    assert [f for e in events for f in ours.feed(0, e)] == [f for e in events for f in seed.feed(0, e)]
