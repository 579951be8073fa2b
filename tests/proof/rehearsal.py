"""Plays a schedule on the real shell (hub, sessions, generations, connections, logs) with a virtual clock.

`play(schedule)` returns what was wrong, at most one line per finding; nothing, if all was well. The same schedule
always plays the same, Trio's choice of the next task included. After each calm action everybody has done what can be
done without time passing, and the engine is compared with the model (`Reading`); at the end all services let go, time
passes, and everything that was promised must have come.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
import trio.testing
from trio._core import _run as trio_run

from proof.devices import Device, Ear
from proof.reading import Reading, ReadLog
from proof.schedules import (
    DEVICES,
    DRAIN_TIMEOUT,
    HOOK_TIMEOUT,
    LINGER,
    MANNERS,
    SESSION_TTL,
    STOP_GRACE,
    Action,
    Schedule,
)
from support.memory import settle
from trialogue import Connection, Done, Emit, Handshake, Hub, Limits, Position, Turn, TurnReceipt, dialect_for
from trialogue.core.errors import Fault
from trialogue.core.machine import Ending
from trialogue.service import Failure
from trialogue.session import Crash, Session

FINALE_SECONDS = 60
POLITE = (1000, 1005)


class Run:
    """One call of the service."""

    def __init__(self, turn: Turn, session_id: str, emit: Emit, reading: Reading) -> None:
        self.message_id = turn.message_id
        self.session_id = session_id
        self.emit = emit
        self.reading = reading
        self.facts = reading.facts[turn.message_id]
        self.facts.opened += 1
        self.over = trio.Event()
        self.error: Exception | None = None
        self.open = True
        self.hooked = False

    def tell(self, count: int) -> None:
        texts = [f"{self.message_id}.{n} " for n in range(len(self.facts.emitted), len(self.facts.emitted) + count)]
        self.facts.emitted += texts
        self.emit(texts)


class Pipeline:
    """The service. Each message's manner says how it takes being stopped, and how long its `ended` hook takes."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        run = self._rehearsal.open(turn, session_id, emit)
        manner, _ = self._rehearsal.manners[turn.message_id]
        try:
            await run.over.wait()
            run.facts.returned = True
            if run.error:
                run.facts.failed = True
                raise run.error
        finally:
            if manner != "prompt":
                run.tell(1)
                with trio.CancelScope(shield=True):
                    await trio.sleep(MANNERS[manner])
                run.tell(1)
            run.open = False

    async def ended(self, receipt: TurnReceipt, text: str) -> None:
        run = self._rehearsal.run_of(receipt.session_id, receipt.message_id)
        run.facts.heard.append((receipt, text))
        self._rehearsal.hooks_open[run.reading.epoch] = receipt.message_id
        await trio.sleep(self._rehearsal.manners[receipt.message_id][1])
        del self._rehearsal.hooks_open[run.reading.epoch]


class Rehearsal:
    """A hub on its stage. The verbs of a schedule are its methods."""

    def __init__(self, schedule: Schedule, nursery: trio.Nursery, wrong: list[str]) -> None:
        self.wrong = wrong
        self.manners: dict[str, tuple[str, float]] = {}
        self.runs: list[Run] = []
        self.hooks_open: dict[int, str] = {}
        self.readings: dict[int, Reading] = {}
        self.draining = False
        self._may_fail = {"RAG-002", "RAG-003", "RAG-004"}
        self._sessions: dict[int, str] = {}
        self._nursery = nursery
        self._schedule = schedule
        self._pending: list[tuple[Device, Reading | None, str, str | None]] = []
        self._asked: list[tuple[Device, list[tuple[str | None, str]]]] = []
        self._calm = True
        self._alone = True  # nothing else happens before or after until all is calm: what comes of it is certain
        self.hub = Hub(
            Pipeline(self),
            Limits(
                queue_size=schedule.queue_size,
                log_bytes=schedule.log_bytes,
                max_generations=schedule.max_generations,
                linger=LINGER,
                session_ttl=SESSION_TTL,
                stop_grace=STOP_GRACE,
                hook_timeout=HOOK_TIMEOUT,
                max_abandoned=0,
                messages_per_minute=0,
                turns_per_minute=0,
                refusals_per_minute=0,
            ),
            make_log=self._make_log,
            now_ms=lambda: int(trio.current_time() * 1000),
        )
        self.devices = [
            Device(number, session_id, schedule.v1[number], self.reading, wrong)
            for number, session_id in enumerate(DEVICES)
        ]

    def _make_log(self, epoch: int, keep_bytes: int, count: Any) -> ReadLog:
        log = ReadLog(epoch, keep_bytes, count)
        log.reading = self.readings[epoch] = Reading(epoch, self._schedule.queue_size, self.wrong, self._may_fail, log)
        return log

    async def play(self) -> None:
        async with self.hub.open():
            for action in self._schedule.actions:
                await self._act(action)
                if self.wrong:
                    return
            await self._finale()

    async def _act(self, action: Action) -> None:
        self._alone = self._calm and action.calm
        self._calm = action.calm
        getattr(self, action.verb)(*action.arguments)
        if action.verb == "wait":
            await trio.sleep(action.arguments[0])
        for _ in range(action.ticks or 0):
            await trio.lowlevel.checkpoint()
        if action.calm:
            await settle()
            self._compare()

    # Where things are.

    def session(self, session_id: str) -> Session | None:
        return self.hub.sessions.get(("", session_id))

    def reading(self, session_id: str) -> Reading | None:
        session = self.session(session_id)
        return self.readings[session.log.epoch] if session else None

    def run_of(self, session_id: str, message_id: str) -> Run:
        return next(run for run in reversed(self.runs) if (run.session_id, run.message_id) == (session_id, message_id))

    def _working(self, session_id: str) -> Run | None:
        return next((run for run in reversed(self.runs) if run.open and run.session_id == session_id), None)

    # What the service sees.

    def open(self, turn: Turn, session_id: str, emit: Emit) -> Run:
        reading = self.readings[emit._log.epoch]  # type: ignore[attr-defined]  # the session may have another by now
        for other in self.runs:
            receipt = reading.receipts.get(other.message_id)
            if other.reading is reading and other.open and (receipt is None or receipt.upstream != "abandoned"):
                self.wrong.append(f"{turn.message_id} is generated while {other.message_id} still is")
        if reading.epoch in self.hooks_open:
            self.wrong.append(f"{turn.message_id} begins before the hook of {self.hooks_open[reading.epoch]} is over")
        run = Run(turn, session_id, emit, reading)
        self.runs.append(run)
        if run.facts.opened > 1:
            self.wrong.append(f"{turn.message_id} is generated {run.facts.opened} times")
        return run

    # Verbs: clients.

    def connect(self, number: int, how: str) -> None:
        device = self.devices[number]
        if device.transport:
            return
        asked = self._position(device, how) if device.v1 else None
        transport = device.attach(asked)
        dialect = dialect_for("trialogue.v1" if device.v1 else "seed", "en")
        connection = Connection(self.hub, transport, dialect, Handshake(device.session_id, after=asked))
        self._nursery.start_soon(self._serve, device, transport, connection)

    def _position(self, device: Device, how: str) -> Position | None:
        match how:
            case "resume":
                return device.position
            case "stale":
                return device.past[len(device.past) // 2] if device.past else None
            case "future" if device.position:
                return Position(device.position.epoch, device.position.offset + 1_000)
            case "strange":
                return Position(7, 3)
            case _:
                return None

    async def _serve(self, device: Device, transport: Ear, connection: Connection) -> None:
        before = self.session(device.session_id)
        if before:
            self.readings[before.log.epoch].vacant_since = None
        await connection.run()
        transport.gone = True
        if device.transport is transport:
            device.lose(0)
            device.transport = None
        self._look_who_is_left(device.session_id)

    def _look_who_is_left(self, session_id: str) -> None:
        reading = self.reading(session_id)
        if reading and not self.hub.is_connected(session_id):
            reading.vacant_since = trio.current_time()

    def leave(self, number: int, code: int, lost: int) -> None:
        device = self.devices[number]
        if device.transport:
            reading = self.reading(device.session_id)
            if reading and code in POLITE:
                reading.cancels.add(None)
            device.transport.leave(code)
            device.lose(lost)
            device.transport = None

    def send(self, number: int, message_id: str, policy: str, manner: str, hook: float) -> None:
        self.manners[message_id] = (manner, hook)
        self._say(self.devices[number], message_id, message_id, policy)

    def repeat(self, number: int, message_id: str, other: bool) -> None:
        if message_id in self.manners:
            self._say(self.devices[number], message_id, f"{message_id}?" if other else message_id, "interrupt")

    def _say(self, device: Device, message_id: str, content: str, policy: str) -> None:
        if not device.transport:
            return
        session_id = device.session_id
        device.transport.say(message_id=message_id, content=content, session_id=session_id, on_busy=policy)
        reading = self.reading(session_id)
        verdict = reading.verdict(message_id, content, policy, self.draining) if reading and self._alone else None
        self._pending.append((device, reading, message_id, verdict))

    def cancel(self, number: int, message_id: str | None) -> None:
        device = self.devices[number]
        reading = self.reading(device.session_id)
        if device.transport and reading:
            reading.cancels.add(message_id)
            device.transport.say(type="cancel", **({"message_id": message_id} if message_id else {}))
            if self._alone:
                self._asked.append((device, reading.outcomes(message_id)))

    def ack(self, number: int, message_id: str, index: int) -> None:
        if transport := self.devices[number].transport:
            transport.say(type="ack", message_id=message_id, index=index)

    def typing(self, number: int) -> None:
        if transport := self.devices[number].transport:
            transport.say(type="typing", active=True)

    def stall(self, number: int) -> None:
        if transport := self.devices[number].transport:
            transport.full = True

    def flow(self, number: int) -> None:
        if transport := self.devices[number].transport:
            transport.make_room()

    # Verbs: the service.

    def emit(self, session_id: str, count: int) -> None:
        if run := self._working(session_id):
            run.tell(count)

    def emit_late(self, message_id: str) -> None:
        """Also long after its end: an upstream in a thread may."""
        for run in self.runs:
            if run.message_id == message_id and (not run.open or message_id in run.reading.ended):
                run.tell(1)

    def done(self, session_id: str, returns: bool) -> None:
        if run := self._working(session_id):
            run.facts.done = True
            run.emit((Done(),))
            if returns:
                run.over.set()

    def end(self, session_id: str) -> None:
        if run := self._working(session_id):
            run.over.set()

    def fail(self, session_id: str, by_raising: bool) -> None:
        if run := self._working(session_id):
            run.facts.failed = True
            if by_raising:
                run.error = ValueError("as told")
                run.over.set()
            else:
                run.emit((Failure(Fault("STREAM-001")),))

    # Verbs: the rest of the world.

    def crash(self, session_id: str) -> None:
        if session := self.session(session_id):
            self._may_fail.add("WS-007")
            session.tell(Crash(RuntimeError("planted")))

    def drain(self) -> None:
        if not self.draining:
            self.draining = True
            self._may_fail.add("WS-006")
            self._nursery.start_soon(self.hub.drain, DRAIN_TIMEOUT)

    def wait(self, seconds: float) -> None:
        """The player waits."""

    # What must hold when nobody has anything to do.

    def _compare(self) -> None:
        for device, reading, message_id, verdict in self._pending:
            self._compare_verdict(device, reading, message_id, verdict)
        for device, outcomes in self._asked:
            told = [answer for answer in device.answers if answer in outcomes]
            if device.v1 and device.listens and told != outcomes:
                self.wrong.append(f"device {device.number} is answered {device.answers}, not {outcomes}")
        self._pending, self._asked = [], []
        for device in self.devices:
            device.answers = []
            reading = self.reading(device.session_id)
            if device.v1 and device.listens and reading and device.position:
                end = Position(reading.epoch, len(reading.events))
                if device.position != end:
                    device.complain(f"has not been sent what follows, up to {end}")
        for session in self.hub.sessions.values():
            self._compare_session(session)
        if self.hub.census.open != sum(run.open for run in self.runs):
            self.wrong.append(f"{self.hub.census}, but {[run.message_id for run in self.runs if run.open]} are open")

    def _compare_verdict(self, device: Device, reading: Reading | None, message_id: str, verdict: str | None) -> None:
        reading = reading or self.reading(device.session_id)
        if not device.listens or reading is None or (verdict is None and not device.v1):
            return
        told = {answer for whose, answer in device.answers if whose == message_id}
        accepted = message_id in reading.content
        if verdict is None:
            fits = accepted or bool(told)
        elif verdict == "accepted":
            fits = accepted and not told
        else:
            fits = told == {verdict} or (verdict == "duplicate" and not device.v1 and not told)
        if not fits:
            device.complain(f"{message_id} should be {verdict}; accepted: {accepted}, told {told}")

    def _compare_session(self, session: Session) -> None:
        reading = self.readings[session.log.epoch]
        reading.at_rest()
        state = session.state
        running = state.running.message_id if state.running else None
        if (running, [turn.message_id for turn in state.queue]) != (reading.running, reading.queue):
            self.wrong.append(f"{session} is not what its log says: {reading.running}, {reading.queue}")
        mine = [run for run in self.runs if run.reading is reading]
        waits = reading.epoch in self.hooks_open or self.hub.slots.waiting or any(run.open for run in mine)
        if running and not any(run.message_id == running for run in mine) and not waits:
            self.wrong.append(f"{running} runs and is not generated")

    async def _finale(self) -> None:
        """Everybody lets go, and time passes; then nothing may be owed to anybody."""
        for device in self.devices:
            if device.transport:
                device.transport.make_room()
        for _ in range(FINALE_SECONDS):
            for run in self.runs:
                run.over.set()
            await trio.sleep(1)
            if not self.hub.census.open and all(not session.generations for session in self.hub.sessions.values()):
                break
        await settle()
        self._compare()
        for reading in self.readings.values():
            reading.over()
        census, held = self.hub.census, self.hub.slots.held
        if census.open or census.abandoned or held or self.hub.slots.waiting:
            self.wrong.append(f"at the end {census}, {held} places held")
        for run in self.runs:
            self._compare_hook(run)

    def _compare_hook(self, run: Run) -> None:
        reading, message_id = run.reading, run.message_id
        if len(run.facts.heard) != 1:
            self.wrong.append(f"the hook was told {len(run.facts.heard)} times of {message_id}")
            return
        (receipt, text) = run.facts.heard[0]
        texts = reading.texts[message_id]
        whole = texts if receipt.ending == Ending.COMPLETED else texts[: receipt.sent]
        if text != "".join(whole):
            self.wrong.append(f"the hook was told {text!r} of {message_id}, and {whole} were sent")
        if message_id not in reading.receipts and ("", run.session_id) in self.hub.sessions:
            self.wrong.append(f"{message_id} has no receipt")


class _Complaints(logging.Handler):
    """The engine's errors are findings, but for the crashes that a schedule asks for."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if str(error) != "planted":
            self._wrong.append(f"the engine says: {record.getMessage()} {error!r}")


@contextmanager
def _heard(wrong: list[str]) -> Iterator[None]:
    logger, handler = logging.getLogger("trialogue"), _Complaints(wrong)
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


@contextmanager
def _same_order_always(seed: int) -> Iterator[None]:
    """Trio chooses among ready tasks by chance; Hypothesis and pytest-trio make that repeatable in the same way."""
    before, state = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before
        trio_run._r.setstate(state)


def play(schedule: Schedule) -> list[str]:
    """What was wrong."""
    wrong: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await Rehearsal(schedule, nursery, wrong).play()
            nursery.cancel_scope.cancel()

    with _heard(wrong), _same_order_always(schedule.seed):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return wrong
