"""The `Tracer` port: what the engine tells of each turn, in which order, whatever becomes of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import trio
import trio.testing

from support.memory import Bench, Scripted, settle
from trialogue import Emit, Hub, Limits, Turn, TurnNames, current_turn
from trialogue.core.events import Receipt
from trialogue.session import Crash

inside: ContextVar[str] = ContextVar("inside", default="")


class Recorder:
    """A tracer whose traces write down."""

    def __init__(self) -> None:
        self.told: dict[str, list[str]] = {}
        self.parents: dict[str, str] = {}
        self.names: list[TurnNames] = []

    def accepted(self, names: TurnNames, parent: str) -> Recorded:
        self.names.append(names)
        self.parents[names.message_id] = parent
        return Recorded(names.message_id, self.told.setdefault(names.message_id, []))


class Recorded:
    def __init__(self, message_id: str, told: list[str]) -> None:
        self.message_id = message_id
        self.told = told

    def enter(self, phase: str) -> None:
        self.told.append(phase)

    def ended(self, ending: str, code: str) -> None:
        self.told.append(f"{ending} {code}".rstrip())

    def settled(self, receipt: Receipt | None) -> None:
        self.told.append(f"{receipt.sent} of {receipt.generated}, {receipt.upstream}" if receipt else "no upstream")

    @contextmanager
    def context(self) -> Generator[None]:
        token = inside.set(self.message_id)
        yield
        inside.reset(token)


class Curious(Scripted):
    """Notes in whose behalf it runs, by the names and by what the trace's context has set."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.seen: list[tuple[TurnNames | None, str]] = []

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        self.seen.append((current_turn.get(), inside.get()))
        await super().run(turn, session_id, emit)


@asynccontextmanager
async def traced(service: Scripted, **limits: Any) -> AsyncGenerator[tuple[Bench, Recorder]]:
    tracer = Recorder()
    async with Hub(service, Limits(**limits), tracer=tracer).open() as hub, trio.open_nursery() as nursery:
        yield Bench(hub, service, nursery), tracer
        service.let_go()
        nursery.cancel_scope.cancel()


async def test_phases_endings_and_receipts_of_turns_that_meet() -> None:
    async with traced(Curious()) as (it, tracer):
        client = await it.connect(traceparent="a trace")
        await it.ask(client, "done")
        it.service.emit("done", "one ", "two")
        it.service.done("done")
        await settle()
        await it.ask(client, "silent")
        await it.ask(client, "queued", on_busy="enqueue")
        await it.ask(client, "dropped", on_busy="enqueue")
        client.say(type="cancel", message_id="dropped")
        await it.ask(client, "newer")
        it.service.fail("newer", ValueError("planted"))
        await settle()
        it.service.emit("queued", "one")
        it.service.done("queued")
        await settle()
        assert tracer.told == {
            "done": ["retrieving", "generating", "completed", "2 of 2, closed"],
            "silent": ["retrieving", "stopping", "interrupted", "0 of 0, closed"],
            "queued": ["queued", "waiting", "retrieving", "generating", "completed", "1 of 1, closed"],
            "dropped": ["queued", "cancelled", "no upstream"],
            "newer": ["waiting", "retrieving", "failed RAG-001", "0 of 0, closed"],
        }
        assert set(tracer.parents.values()) == {"a trace"}
        assert tracer.names[0] == TurnNames("", "s", "done")
        assert not it.hub.sessions["", "s"]._traces, "nothing is kept of turns that are settled"


async def test_the_service_runs_in_its_turn_s_context_also_when_another_turn_made_room() -> None:
    service = Curious()
    async with traced(service, max_generations=1) as (it, tracer):
        client, other = await it.connect(principal="alice"), await it.connect("t", principal="bob")
        await it.ask(client, "first")
        other.say(message_id="second", content="x", session_id="t")
        await settle()
        assert tracer.told["second"] == ["waiting"]
        service.done("first")
        await settle()
        assert tracer.told["second"] == ["waiting", "retrieving"]
        assert service.seen == [
            (TurnNames("alice", "s", "first"), "first"),
            (TurnNames("bob", "t", "second"), "second"),
        ]
        assert current_turn.get() is None
        assert inside.get() == ""


async def test_an_upstream_that_does_not_close_is_told_as_abandoned(autojump_clock: trio.testing.MockClock) -> None:
    async with traced(Curious(obeys=False)) as (it, tracer):
        client = await it.connect()
        await it.ask(client, "m")
        it.service.emit("m", "one")
        client.say(type="cancel")
        await trio.sleep(1)
        assert tracer.told["m"] == ["retrieving", "generating", "stopping", "cancelled", "1 of 1, abandoned"]


async def test_after_crashes_every_turn_has_an_ending_and_is_settled() -> None:
    async with traced(Curious()) as (it, tracer):
        client = await it.connect()
        await it.ask(client, "running")
        await it.ask(client, "next", on_busy="enqueue")
        session = it.hub.sessions["", "s"]
        session.tell(Crash(RuntimeError("planted")))
        await settle()
        assert [tracer.told["running"][0], tracer.told["running"][-1]] == ["retrieving", "0 of 0, closed"]
        assert "failed WS-007" in tracer.told["running"]
        for _ in range(3):
            session.tell(Crash(RuntimeError("planted")))
            await settle()
        assert ("", "s") not in it.hub.sessions
        assert "failed WS-007" in tracer.told["next"]
        assert tracer.told["next"][-1] == "0 of 0, closed"


async def test_a_turn_that_a_crash_finds_waiting_is_ended_before_it_is_settled() -> None:
    async with traced(Curious(), max_generations=1) as (it, tracer):
        client, other = await it.connect(), await it.connect("t")
        await it.ask(client, "running")
        other.say(message_id="waiting", content="x", session_id="t")
        await settle()
        it.hub.sessions["", "t"].tell(Crash(RuntimeError("planted")))
        await settle()
        assert tracer.told["waiting"][:4] == ["waiting", "stopping", "failed WS-007", "0 of 0, closed"]
