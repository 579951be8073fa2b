"""Every decision of a session, as one pure function: `step(state, input, limits) -> (state, effects)`.

Rule 1: everything that decides what becomes of an admitted message is in this file; the shell performs effects and
        reports facts. (Admission, which asks the whole hub and the clock, is the connection's: WS-002, -005, -010.)
Rule 2: it sees turn-level facts only. Never a token, never a clock, never a connection (an asker is an opaque number).
Rule 3: an accepted turn gets exactly one `End`; a `Begin` comes before a `Start`; at most one generation is open.
Rule 4: a repeated message id never starts anything.

A turn's way, and what moves it (`slot` is the one generation that a session may have open):

    Submit ─▶ queued ─▶ begun, waiting for the slot ─▶ generating ─▶ ended ─▶ (slot closing) ─▶ settled
                 └────────────────┴──── Cancel, a newer message, drain ────▶ ended

`invariants` says what must hold between steps, `recover` rebuilds a state after a crash of the actor. The tests walk
through every order of inputs and plant mutants in this text; each must be caught.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from itertools import chain
from typing import Any, Literal, NamedTuple, assert_never

from trialogue.core.errors import Fault
from trialogue.core.limits import Limits


class Policy(StrEnum):
    """What a message does to a session that is busy."""

    INTERRUPT = "interrupt"
    ENQUEUE = "enqueue"
    REJECT = "reject"
    ROLLBACK = "rollback"


class Ending(StrEnum):
    """How a message ended. Exactly one per message; `REJECTED` is a refusal's, which is never logged."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    RETRACTED = "retracted"
    REJECTED = "rejected"


Asker = int | None
"""Who asked: a connection's number, or None for the engine itself (which is owed no reply)."""

Upstream = Literal["closed", "abandoned"]


def digest_of(content: str) -> bytes:
    return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Turn:
    """One user message and, later, its answer. The id is the client's."""

    message_id: str
    content: str
    on_busy: Policy = Policy.INTERRUPT
    options: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @property
    def digest(self) -> bytes:
        """Eight bytes that tell whether a repeated id came with the same content."""
        return digest_of(self.content)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended: the ending, and what the wire says of it (`finish_reason`, or a fault)."""

    ending: Ending
    finish_reason: str = ""
    fault: Fault | None = None


STOPPED: Mapping[Ending, Outcome] = {
    Ending.CANCELLED: Outcome(Ending.CANCELLED, "cancelled"),
    Ending.INTERRUPTED: Outcome(Ending.INTERRUPTED, "interrupted"),
    Ending.RETRACTED: Outcome(Ending.RETRACTED, "retracted"),
}


def failed(fault: Fault) -> Outcome:
    return Outcome(Ending.FAILED, fault=fault)


GONE = failed(Fault("WS-009"))
"""How a turn ends that the shared store was lost with."""


# ── Inputs: what happened ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Submit:
    """A client sent a message."""

    turn: Turn
    asker: Asker


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody wants a turn stopped; without an id, all of them."""

    message_id: str | None
    asker: Asker


@dataclass(frozen=True, slots=True)
class Finished:
    """The generation knows how its turn ends. Its slot stays taken until `Closed`."""

    message_id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Closed:
    """The generation's upstream has closed, or was given up; the slot is free."""

    message_id: str
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Drain:
    """The server is leaving: no new turns; with `now`, the running one ends too."""

    now: bool


@dataclass(frozen=True, slots=True)
class HandOver:
    """Another node is to go on with this session. The running turn may end here; nothing begins any more.

    What waits stays for the next owner, who finds it in the log. A new message is neither taken nor refused: whoever
    forwards it asks the next owner again. One that interrupts stops the running turn all the same.
    """


Input = Submit | Cancel | Finished | Closed | Drain | HandOver


# ── Effects: what to do, in this order, without awaiting anything in between ─────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Accept:
    """Append the message itself."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Queue:
    """Tell that the turn waits, `place` 1 being next."""

    message_id: str
    place: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Append the turn's start. `waiting`: its generation must wait for the slot."""

    turn: Turn
    waiting: bool


@dataclass(frozen=True, slots=True)
class Start:
    """Open the turn's generation."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Stop:
    """Fence the turn's generation and cancel it; `Closed` must follow within a bounded time."""

    message_id: str


@dataclass(frozen=True, slots=True)
class End:
    """Append the turn's one end."""

    message_id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Settle:
    """The outcome is known for good: append the receipt."""

    message_id: str
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Refuse:
    """Reply to the asker: not accepted, nothing is remembered."""

    asker: Asker
    message_id: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Repeat:
    """Reply to the asker with a known turn's events, as far as they are not coming anyway."""

    asker: Asker
    message_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Reply to the asker what became of its cancel."""

    asker: Asker
    message_id: str | None
    outcome: Literal["cancelled", "already_ended", "unknown"]


Effect = Accept | Queue | Begin | Start | Stop | End | Settle | Refuse | Repeat | Answer


# ── State ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a message id. `outcome` is None until the turn has ended."""

    digest: bytes
    outcome: Outcome | None = None


class Ledger(Mapping[str, Known]):
    """The message ids of a session: an immutable mapping that forgets its oldest *ended* ids past a limit.

    A change copies only the latest ids; ended ones are moved into blocks that all later ledgers share. (Copying 1,000
    ids twice per turn took 60 µs.)
    """

    __slots__ = ("_blocks", "_latest")

    BLOCK = 64
    """Ids per block; that many more than the limit may be remembered."""

    def __init__(self, latest: Mapping[str, Known] | None = None, blocks: tuple[Mapping[str, Known], ...] = ()) -> None:
        self._latest = latest or {}  # ours: nobody changes it
        self._blocks = blocks

    def __getitem__(self, message_id: str) -> Known:
        known = self.get(message_id)
        if known is None:
            raise KeyError(message_id)
        return known

    def get(self, message_id: str, default: Known | None = None) -> Known | None:  # type: ignore[override]
        """As any mapping's. Asked of each new id, so what is not there must not cost an exception."""
        for ids in (self._latest, *self._blocks):
            if message_id in ids:
                return ids[message_id]
        return default

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._latest or any(message_id in ids for ids in self._blocks)

    def __iter__(self) -> Iterator[str]:
        return chain(*self._blocks, self._latest)

    def __len__(self) -> int:
        return len(self._latest) + sum(map(len, self._blocks))

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __eq__(self, other: object) -> bool:
        return dict(self) == dict(other) if isinstance(other, Ledger) else NotImplemented

    def __repr__(self) -> str:
        return f"<Ledger {len(self)} ids>"

    def accepted(self, turn: Turn, limit: int) -> Ledger:
        """With the turn's id, and at least the `limit` latest ended ones."""
        latest, blocks = {**self._latest, turn.message_id: Known(turn.digest)}, self._blocks
        if len(latest) > self.BLOCK:
            ended = {key: known for key, known in latest.items() if known.outcome}
            latest = {key: known for key, known in latest.items() if not known.outcome}
            blocks = (*blocks, ended)
        while sum(map(len, blocks[1:])) >= limit:
            blocks = blocks[1:]
        return Ledger(latest, blocks)

    def ended(self, message_id: str, outcome: Outcome) -> Ledger:
        return Ledger({**self._latest, message_id: Known(self._latest[message_id].digest, outcome)}, self._blocks)


class State(NamedTuple):
    """A session between two steps. (A tuple: five times per turn it is replaced, which takes a dataclass 3 µs.)

    running: the turn that has begun and not ended. `generating`: its generation holds the slot; else it waits for it.
    slot: the message id whose generation is open, whether or not its turn has ended.
    """

    running: Turn | None = None
    slot: str | None = None
    queue: tuple[Turn, ...] = ()
    ledger: Ledger = Ledger()
    draining: bool = False
    leaving: bool = False

    @property
    def generating(self) -> bool:
        return self.running is not None and self.slot == self.running.message_id

    @property
    def idle(self) -> bool:
        """Nothing is owed to anybody by this node (an upstream may still be closing)."""
        return self.running is None


def invariants(state: State) -> None:
    """What holds between steps; raises AssertionError naming what does not."""
    assert state.running or not state.queue or state.leaving, "a queue without a running turn"
    assert not (state.draining and state.queue) or state.leaving, "a queue while draining"
    unfinished = [turn.message_id for turn in (*((state.running,) if state.running else ()), *state.queue)]
    assert len(set(unfinished)) == len(unfinished), "one turn in two places"
    owed = {message_id for message_id, known in state.ledger.items() if known.outcome is None}
    assert owed == set(unfinished), f"unended ids {owed} are not the running and queued turns {unfinished}"


# ── Transitions ──────────────────────────────────────────────────────────────────────────────────────────────────


def step(state: State, happened: Input, limits: Limits) -> tuple[State, list[Effect]]:
    """Decide. Total: every input is answered in every state; one that no longer matters changes nothing."""
    match happened:
        case Submit(turn, asker):
            return _submit(state, turn, asker, limits)
        case Cancel(message_id, asker):
            return _cancel_all(state, asker) if message_id is None else _cancel(state, message_id, asker)
        case Finished(message_id, outcome):
            if not (state.generating and state.running and state.running.message_id == message_id):
                return state, []  # it was stopped before: its end is told already
            return _end_running(state, outcome)
        case Closed(message_id, upstream):
            return _closed(state, message_id, upstream)
        case Drain(now):
            return _drain(state, now)
        case HandOver():
            return state._replace(leaving=True), []
        case _:
            assert_never(happened)


def _submit(state: State, turn: Turn, asker: Asker, limits: Limits) -> tuple[State, list[Effect]]:
    fault = refusal(state, turn, limits)
    if fault:
        return state, [Refuse(asker, turn.message_id, fault)]
    if turn.message_id in state.ledger:
        return state, [Repeat(asker, turn.message_id)]
    if state.leaving:
        return _stop_running(state, STOPPED[_ending(turn)]) if state.running and _stops(turn) else (state, [])
    state = state._replace(ledger=state.ledger.accepted(turn, limits.remembered_ids))
    effects: list[Effect] = [Accept(turn)]
    if state.running is None:
        state, more = _begin(state, turn)
    elif turn.on_busy is Policy.ENQUEUE:
        state = state._replace(queue=(*state.queue, turn))
        more = [Queue(turn.message_id, len(state.queue))]
    else:
        state, stopped = _stop_running(state, STOPPED[_ending(turn)])
        state, begun = _begin(state, turn)
        more = stopped + begun
    return state, effects + more


def _stops(turn: Turn) -> bool:
    return turn.on_busy in (Policy.INTERRUPT, Policy.ROLLBACK)


def _ending(turn: Turn) -> Ending:
    """Of the running turn that this one stops."""
    return Ending.RETRACTED if turn.on_busy is Policy.ROLLBACK else Ending.INTERRUPTED


def refusal(state: State, turn: Turn, limits: Limits) -> Fault | None:
    """Why this turn would not be accepted in this state; None if it would, or is known."""
    known = state.ledger.get(turn.message_id)
    if known:
        same = known.digest == turn.digest
        return None if same else Fault("WS-001", "message_id: was used before, with other content.")
    if state.draining and not state.leaving:
        return Fault("WS-006")
    if turn.on_busy is Policy.REJECT and state.running:
        return Fault("WS-003")
    if turn.on_busy is Policy.ENQUEUE and state.running and len(state.queue) >= limits.queue_size:
        return Fault("WS-003", f"The queue is full ({limits.queue_size}).")
    return None


def _begin(state: State, turn: Turn) -> tuple[State, list[Effect]]:
    """The turn starts now; its generation too, if the slot is free."""
    waiting = state.slot is not None
    effects: list[Effect] = [Begin(turn, waiting)]
    if waiting:
        return state._replace(running=turn), effects
    return state._replace(running=turn, slot=turn.message_id), [*effects, Start(turn)]


def _end(state: State, turn: Turn, outcome: Outcome) -> tuple[State, list[Effect]]:
    return state._replace(ledger=state.ledger.ended(turn.message_id, outcome)), [End(turn.message_id, outcome)]


def _stop_running(state: State, outcome: Outcome) -> tuple[State, list[Effect]]:
    """Fence and end the running turn; nothing begins in its place yet."""
    assert state.running
    fence: list[Effect] = [Stop(state.running.message_id)] if state.generating else []
    state, ended = _end(state, state.running, outcome)
    return state._replace(running=None), fence + ended


def _next(state: State) -> tuple[State, list[Effect]]:
    if state.leaving or not state.queue:
        return state, []
    return _begin(state._replace(queue=state.queue[1:]), state.queue[0])


def _end_running(state: State, outcome: Outcome) -> tuple[State, list[Effect]]:
    """The running turn's own end; the next in the queue begins."""
    assert state.running
    state, ended = _end(state, state.running, outcome)
    state, begun = _next(state._replace(running=None))
    return state, ended + begun


def _cancel(state: State, message_id: str, asker: Asker) -> tuple[State, list[Effect]]:
    if state.running and state.running.message_id == message_id:
        state, effects = _stop_running(state, STOPPED[Ending.CANCELLED])
        state, begun = _next(state)
        return state, [*effects, *begun, Answer(asker, message_id, "cancelled")]
    for turn in state.queue:
        if turn.message_id == message_id:
            queue = tuple(other for other in state.queue if other is not turn)
            state, effects = _end(state._replace(queue=queue), turn, STOPPED[Ending.CANCELLED])
            return state, [*effects, Answer(asker, message_id, "cancelled")]
    outcome: Literal["already_ended", "unknown"] = "already_ended" if message_id in state.ledger else "unknown"
    return state, [Answer(asker, message_id, outcome)]


def _cancel_all(state: State, asker: Asker) -> tuple[State, list[Effect]]:
    """One answer per turn that was stopped, so that a client can match each; one without an id if there was none."""
    stopped = (*((state.running,) if state.running else ()), *state.queue)
    if not stopped:
        return state, [Answer(asker, None, "already_ended" if state.ledger else "unknown")]
    effects: list[Effect] = []
    if state.running:
        state, effects = _stop_running(state, STOPPED[Ending.CANCELLED])
    state, dropped = _drop_queue(state, STOPPED[Ending.CANCELLED])
    return state, [*effects, *dropped, *(Answer(asker, turn.message_id, "cancelled") for turn in stopped)]


def _drop_queue(state: State, outcome: Outcome) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for turn in state.queue:
        state, ended = _end(state, turn, outcome)
        effects += ended
    return state._replace(queue=()), effects


def _closed(state: State, message_id: str, upstream: Upstream) -> tuple[State, list[Effect]]:
    if state.slot != message_id:
        return state, []
    effects: list[Effect] = []
    if state.generating:  # it closed without having told its outcome: ours to tell, and never a silent loss
        state, effects = _end_running(state, failed(Fault("WS-007")))
    state = state._replace(slot=None)
    effects.append(Settle(message_id, upstream))
    if state.running is None:
        return state, effects
    return state._replace(slot=state.running.message_id), [*effects, Start(state.running)]


def _drain(state: State, now: bool) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    state = state._replace(draining=True)
    if not state.leaving:
        state, effects = _drop_queue(state, failed(Fault("WS-006")))
    if now and state.running:
        state, stopped = _stop_running(state, failed(Fault("WS-006")))
        effects += stopped
    return state, effects


def recover(
    state: State,
    unended: tuple[Turn, ...],
    begun: bool,
    slot: str | None,
    *,
    fault: Fault = Fault("WS-007"),  # noqa: B008 - frozen
    afresh: bool = False,
    cut: Container[str] = (),
) -> tuple[State, list[Effect]]:
    """After a crash of the actor, or of its node: what the log says is what was promised; the rest of `state` is kept.

    Args:
        state: the last state; only its ledger and its drain are believed.
        unended: the accepted turns without an end, in the order of acceptance, the begun one first.
        begun: whether the first of them has a `stream_start`. It is lost (`fault`); the others go on.
        slot: the message id of the crashed actor's generation, fenced by now, if it is still open.
        afresh: nobody has been told anything of the one that has begun: it is not lost, but generated once more. The
            only case in which a message id starts a generation again; its former one is nowhere any more (no `slot`).
        cut: turns whose clients have been told that the store was gone: they end so.
    """
    ids = {turn.message_id: Known(turn.digest) for turn in unended}
    ended = {key: known for key, known in state.ledger.items() if known.outcome}
    ledger = Ledger(ended | ids)
    running, queue = (unended[0], unended[1:]) if begun else (None, unended)
    state = State(running, slot, queue, ledger, state.draining, state.leaving)
    effects: list[Effect] = []
    for turn in queue:
        if turn.message_id in cut:
            kept = tuple(other for other in state.queue if other is not turn)
            state, gone = _end(state._replace(queue=kept), turn, GONE)
            effects += gone
    if running is None:
        state, more = _next(state)
    elif running.message_id in cut:
        state, more = _end_running(state, GONE)
    elif afresh:
        state, more = state._replace(slot=running.message_id), [Start(running)]
    else:
        state, more = _end_running(state, failed(fault))
    return state, effects + more
