"""Every order of inputs, breadth first: the checker of `core/machine.py`, for its tests and for its mutants.

The shell is modelled as its contract says: a started generation finishes by itself at most once, and closes after it
was stopped or has finished. A ghost beside the state remembers what was promised. `check` raises Violation with the
inputs that led there; a checker that finds nothing is worth only as much as the mutants that it kills.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from trialogue.core.errors import Fault
from trialogue.core.limits import Limits

LOSSES = ("taken over", "taken over afresh", "cut off")
"""What may become of a session whose node, or whose store, is lost."""

LIMITS = Limits(queue_size=2, remembered_ids=1_000)


class Violation(AssertionError):
    """A rule of the wire contract is broken; `path` is how to get there."""

    def __init__(self, rule: str, path: tuple[Any, ...]) -> None:
        super().__init__(f"{rule}\n  after: " + "\n         ".join(map(repr, path)))
        self.rule = rule


@dataclass(frozen=True)
class Ghost:
    """What has been promised and told so far, by message id."""

    accepted: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()
    started: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    open: str | None = None  # the generation that the shell has open
    fenced: bool = False  # … was it stopped
    finished: bool = False  # … has it told its outcome
    settled: frozenset[str] = frozenset()
    draining: bool = False
    drained: bool = False
    leaving: bool = False


@dataclass(frozen=True)
class Stats:
    """How much was walked."""

    states: int
    transitions: int


@dataclass(frozen=True)
class Node:
    state: Any
    ghost: Ghost
    unsent: int


def check(machine: ModuleType, turns: int, *, by_shape: bool = False) -> Stats:
    """Walk through all orders of `turns` messages with every policy, cancels, repeats, drains and crashes.

    Args:
        by_shape: lose nodes and stores, and hand over, too; and take two nodes for one when they differ only in the
            names of their turns and in how ended turns ended (on which nothing that follows may depend). It makes five
            turns affordable.
    """
    start = Node(machine.State(), Ghost(), turns)
    seen = {_shape(start) if by_shape else start}
    queue: deque[tuple[Node, tuple[Any, ...]]] = deque([(start, ())])
    transitions = 0
    while queue:
        node, path = queue.popleft()
        for happened in _inputs(machine, node, turns, losses=by_shape):
            transitions += 1
            walked = (*path, happened)
            after = _walk(machine, node, happened, walked)
            key = _shape(after) if by_shape else after
            if key not in seen:
                seen.add(key)
                queue.append((after, walked))
    return Stats(len(seen), transitions)


def _shape(node: Node) -> Any:
    """The node without names: policies of what is unfinished, what the slot is to it, and the ghost's flags."""
    state, ghost = node.state, node.ghost
    running = state.running
    slot = state.slot and ("its own" if running and running.message_id == state.slot else "an old one's")
    flags = (ghost.fenced, ghost.finished, ghost.draining, ghost.drained, ghost.leaving, ghost.open in ghost.ended)
    policies = tuple(turn.on_busy for turn in state.queue)
    return running and running.on_busy, slot, policies, flags, len(ghost.ended), node.unsent


def _inputs(machine: ModuleType, node: Node, turns: int, *, losses: bool) -> Iterator[Any]:
    """Everything that may happen next."""
    ghost = node.ghost
    if node.unsent:
        name = f"m{turns - node.unsent}"
        for policy in machine.Policy:
            yield machine.Submit(machine.Turn(name, name, policy), 1)
    for name in sorted(ghost.accepted):
        yield machine.Submit(machine.Turn(name, name), 2)  # a repeat, from another device
        yield machine.Submit(machine.Turn(name, "other content"), 2)
        yield machine.Cancel(name, 2)
    yield machine.Cancel("stranger", 1)
    yield machine.Cancel(None, 1)
    yield machine.Cancel(None, None)  # nobody attached any more
    if ghost.open is not None:
        if not ghost.finished:
            yield machine.Finished(ghost.open, machine.Outcome(machine.Ending.COMPLETED, "stop"))
            yield machine.Finished(ghost.open, machine.failed(Fault("RAG-001")))
        yield machine.Closed(ghost.open, "closed")
        yield machine.Closed(ghost.open, "abandoned")
    for name in sorted(ghost.settled):  # facts that come late, from an upstream that was given up
        yield machine.Finished(name, machine.Outcome(machine.Ending.COMPLETED, "stop"))
        yield machine.Closed(name, "closed")
    if not ghost.draining:
        yield machine.Drain(now=False)
    if not ghost.drained:
        yield machine.Drain(now=True)
    if losses and not ghost.leaving:
        yield machine.HandOver()
    if ghost.accepted:
        yield from ("crash", *(LOSSES if losses else ()))


def _walk(machine: ModuleType, node: Node, happened: Any, path: tuple[Any, ...]) -> Node:
    """One step, its effects applied to the ghost, and every rule that can be broken by it."""
    before = node.state
    if isinstance(happened, str):
        state, effects = _recover(machine, node, happened)
        ghost = _lost(node.ghost, before, happened)
    else:
        state, effects = machine.step(before, happened, LIMITS)
        ghost = _told(machine, node.ghost, happened)
    try:
        machine.invariants(state)
    except AssertionError as error:
        raise Violation(f"invariant: {error}", path) from None
    for effect in effects:
        ghost = _apply(machine, ghost, effect, path)
    _rules_of_the_step(machine, before, happened, effects, path)
    _rules_of_the_queue(machine, before, state, happened, effects, path)
    _rules_of_the_state(state, ghost, path)
    sent = isinstance(happened, machine.Submit) and happened.turn.message_id not in node.ghost.accepted
    return Node(state, ghost, node.unsent - sent)


def _recover(machine: ModuleType, node: Node, happened: str) -> tuple[Any, list[Any]]:
    """What the shell does after a crash between two steps, or after the loss of a node or a store: it reads the log,
    which is what the ghost knows. With a node, its generation is gone."""
    state = node.state
    if happened != "crash":
        state = state._replace(draining=False, leaving=False)  # the next owner is not the one that left
    unended = (*((state.running,) if state.running else ()), *state.queue)
    slot = node.ghost.open if happened == "crash" else None
    options: dict[str, Any] = {}
    if happened.startswith("taken over"):
        options = {"fault": Fault("WS-008"), "afresh": happened.endswith("afresh")}
    elif happened == "cut off":
        options = {"cut": {turn.message_id for turn in unended[:2]}}
    return machine.recover(state, unended, bool(state.running), slot, **options)  # type: ignore[no-any-return]


def _lost(ghost: Ghost, before: Any, happened: str) -> Ghost:
    """What has gone with an actor (its fence is down), or with a node (so has its generation)."""
    if happened == "crash":
        return replace(ghost, fenced=True)
    again = {before.running.message_id} if happened.endswith("afresh") and before.running else set()
    fresh = {"draining": False, "drained": False, "leaving": False}
    return replace(ghost, open=None, fenced=False, finished=False, started=ghost.started - again, **fresh)


def _told(machine: ModuleType, ghost: Ghost, happened: Any) -> Ghost:
    match happened:
        case machine.Finished(name, _) if name == ghost.open:
            return replace(ghost, finished=True)
        case machine.Closed(name, _) if name == ghost.open:
            return replace(ghost, open=None, fenced=False, finished=False)
        case machine.Drain(now):
            return replace(ghost, draining=True, drained=ghost.drained or now)
        case machine.HandOver():
            return replace(ghost, leaving=True)
    return ghost


def _apply(machine: ModuleType, ghost: Ghost, effect: Any, path: tuple[Any, ...]) -> Ghost:
    """The effect's own rules, and what it adds to the ghost."""

    def rule(holds: bool, text: str) -> None:
        if not holds:
            raise Violation(f"{text}: {effect}", path)

    match effect:
        case machine.Accept(turn):
            rule(turn.message_id not in ghost.accepted, "accepted twice")
            rule(not ghost.draining and not ghost.leaving, "accepted while draining or leaving")
            return replace(ghost, accepted=ghost.accepted | {turn.message_id})
        case machine.Queue(message_id, place):
            rule(message_id in ghost.accepted - ghost.begun - ghost.ended, "queued out of order")
            rule(place >= 1, "a place counts from 1")
        case machine.Begin(turn, waiting):
            name = turn.message_id
            rule(name in ghost.accepted - ghost.begun - ghost.ended, "begun out of order")
            rule(ghost.begun <= ghost.ended, "begun before the running turn's end")
            rule(not ghost.leaving, "begun by a node that is leaving")
            rule(waiting or ghost.open is None or ghost.open in ghost.ended, "begun without waiting for the slot")
            return replace(ghost, begun=ghost.begun | {name})
        case machine.Start(turn):
            name = turn.message_id
            rule(name in ghost.begun - ghost.ended, "a generation for a turn that is not running")
            rule(name not in ghost.started, "generated twice")
            rule(ghost.open is None, "two generations open (the join)")
            return replace(ghost, started=ghost.started | {name}, open=name, fenced=False, finished=False)
        case machine.Stop(message_id):
            rule(message_id == ghost.open and not ghost.fenced, "stopped what is not open")
            return replace(ghost, fenced=True)
        case machine.End(message_id, outcome):
            rule(message_id in ghost.accepted, "an end for a message that was not accepted")
            rule(message_id not in ghost.ended, "ended twice")
            rule(bool(outcome.fault) == (outcome.ending is machine.Ending.FAILED), "a fault is a failure's")
            closed = message_id != ghost.open or ghost.fenced or ghost.finished
            rule(closed, "ended while its generation can still emit (the fence)")
            return replace(ghost, ended=ghost.ended | {message_id})
        case machine.Settle(message_id, _):
            rule(message_id in ghost.started & ghost.ended, "settled before its end")
            rule(message_id not in ghost.settled, "settled twice")
            return replace(ghost, settled=ghost.settled | {message_id})
    return ghost


def _rules_of_the_queue(
    machine: ModuleType, before: Any, state: Any, happened: Any, effects: list[Any], path: tuple[Any, ...]
) -> None:
    """The queue keeps its order: turns leave it when they begin or end, and join it at its end."""
    left = {effect.turn.message_id for effect in effects if isinstance(effect, machine.Begin)}
    left |= {effect.message_id for effect in effects if isinstance(effect, machine.End)}
    expected = [turn.message_id for turn in before.queue if turn.message_id not in left]
    expected += [effect.message_id for effect in effects if isinstance(effect, machine.Queue)]
    if [turn.message_id for turn in state.queue] != expected:
        raise Violation(f"the queue is not {expected}: {happened} gave {state}", path)
    begun = [effect.turn.message_id for effect in effects if isinstance(effect, machine.Begin)]
    ended = {effect.message_id for effect in effects if isinstance(effect, machine.End)}
    waited = [turn.message_id for turn in before.queue if turn.message_id not in ended]
    if begun and begun[0] in waited and begun[0] != waited[0]:
        raise Violation(f"not the first of the queue began: {happened} gave {effects}", path)


def _rules_of_the_state(state: Any, ghost: Ghost, path: tuple[Any, ...]) -> None:
    def rule(holds: bool, text: str) -> None:
        if not holds:
            raise Violation(f"{text}: {state}", path)

    unfinished = {turn.message_id for turn in (*((state.running,) if state.running else ()), *state.queue)}
    rule(unfinished == ghost.accepted - ghost.ended, "an accepted turn is neither kept nor ended")
    rule(state.slot == ghost.open, "the slot is not the open generation")
    running = state.running.message_id if state.running else None
    rule(running is None or running in ghost.begun, "the running turn has not begun")
    rule(running is None or ghost.open is not None, "the running turn will never be generated")
    rule(not (ghost.drained and running), "a turn is running after the drain")
    rule(state.draining == ghost.draining, "the drain is forgotten")
    rule(state.leaving == ghost.leaving, "the hand-over is forgotten")


def _rules_of_the_step(
    machine: ModuleType, before: Any, happened: Any, effects: list[Any], path: tuple[Any, ...]
) -> None:
    """What PROTOCOL's policy table and its rules of cancelling say of one input."""

    def rule(holds: bool, text: str) -> None:
        if not holds:
            raise Violation(f"{text}: {happened} gave {effects}", path)

    ends = {effect.message_id: effect.outcome for effect in effects if isinstance(effect, machine.End)}
    begins = [effect.turn.message_id for effect in effects if isinstance(effect, machine.Begin)]
    answers = [effect for effect in effects if isinstance(effect, machine.Answer)]
    refused = [effect for effect in effects if isinstance(effect, machine.Refuse)]
    repeats = [effect for effect in effects if isinstance(effect, machine.Repeat)]
    replies = (*answers, *refused, *repeats)
    rule(not replies or effects[-len(replies) :] == list(replies), "a reply before the entries that caused it")
    running, queued = before.running, [turn.message_id for turn in before.queue]
    asked = getattr(happened, "asker", None)
    rule(all(reply.asker == asked for reply in replies), "a reply to somebody else")
    match happened:
        case machine.Submit():
            _rules_of_a_submit(machine, before, happened, effects, rule)
        case machine.Cancel(None):
            stopped = [*([running.message_id] if running else []), *queued]
            rule(list(ends) == stopped, "cancel without an id ends everything, in order")
            rule(all(outcome.finish_reason == "cancelled" for outcome in ends.values()), "they end cancelled")
            rule(not begins, "nothing begins after cancel-all")
            told = [answer.message_id for answer in answers]
            rule(told == (stopped or [None]), "each is answered once")
        case machine.Cancel(name):
            unfinished = name in queued or (running is not None and running.message_id == name)
            rule([answer.message_id for answer in answers] == [name], "a cancel is answered once")
            expected = "cancelled" if unfinished else "already_ended" if name in before.ledger else "unknown"
            rule(answers[0].outcome == expected, f"the answer is {expected}")
            rule(list(ends) == ([name] if unfinished else []), "it ends that turn and no other")
            its_turn = running is not None and running.message_id == name and not before.leaving
            next_up = queued[:1] if its_turn else []
            rule(begins == next_up, "the next in the queue begins, and only then")
        case machine.Finished(name, outcome):
            current = running is not None and running.message_id == name and before.slot == name
            rule(ends == ({name: outcome} if current else {}), "an outcome ends its own running turn, else nothing")
            rule(begins == (queued[:1] if current and not before.leaving else []), "then the first of the queue begins")
        case machine.HandOver():
            rule(not effects, "a hand-over by itself changes nothing")
        case machine.Drain(now):
            left = [] if before.leaving else queued
            dropped = [*left, *([running.message_id] if now and running else [])]
            rule(
                set(ends) == set(dropped), "a drain ends the queue (but one that is handed over), and at last the turn"
            )
            rule(all(outcome.fault and outcome.fault.code == "WS-006" for outcome in ends.values()), "with WS-006")
            rule(not begins, "nothing begins while draining")
        case str():
            unended = [*([running.message_id] if running else []), *queued]
            count, code = {"crash": (1, "WS-007"), "taken over": (1, "WS-008"), "cut off": (2, "WS-009")}.get(
                happened, (0, "")
            )
            lost = unended[:count] if running or happened == "cut off" else []
            rule(set(ends) == set(lost), f"{happened}: so many end, the running turn first")
            rule(all(outcome.fault and outcome.fault.code == code for outcome in ends.values()), f"with {code}")
            starts = [effect.turn.message_id for effect in effects if isinstance(effect, machine.Start)]
            if happened in LOSSES[:2] and not running:
                rule(begins == queued[:1], "what was handed over goes on")
            if happened == "taken over afresh" and running:
                rule(starts == [running.message_id] and not begins, "what nobody was told of is generated again")


def _rules_of_a_submit(
    machine: ModuleType, before: Any, happened: Any, effects: list[Any], rule: Callable[[bool, str], None]
) -> None:
    """The policy table, the repeated ids and the refusals."""
    turn = happened.turn
    ends = {effect.message_id: effect.outcome for effect in effects if isinstance(effect, machine.End)}
    begins = [effect.turn.message_id for effect in effects if isinstance(effect, machine.Begin)]
    refused = [effect for effect in effects if isinstance(effect, machine.Refuse)]
    repeats = [effect for effect in effects if isinstance(effect, machine.Repeat)]
    replies = (*refused, *repeats)
    running, queued = before.running, [queued.message_id for queued in before.queue]
    name, known = turn.message_id, before.ledger.get(turn.message_id)
    if known:
        same = known.digest == turn.digest
        rule(len(effects) == 1 and bool(repeats if same else refused), "a repeated id does nothing but reply")
        rule(same or refused[0].fault.code == "WS-001", "other content is WS-001")
        return
    busy = {
        machine.Policy.REJECT: running is not None,
        machine.Policy.ENQUEUE: running is not None and len(queued) >= LIMITS.queue_size,
    }.get(turn.on_busy, False)
    drains = before.draining and not before.leaving
    if drains or busy:
        code = "WS-006" if drains else "WS-003"
        rule(len(effects) == 1 and bool(refused), "a refusal does nothing else")
        rule(refused[0].fault.code == code, f"the refusal is {code}")
        return
    rule(not replies, "an accepted message has no reply")
    stops = turn.on_busy in (machine.Policy.INTERRUPT, machine.Policy.ROLLBACK)
    if before.leaving:
        rule(list(ends) == ([running.message_id] if running and stops else []), "it stops the running turn, or nothing")
    elif running is None or stops:
        rule(begins == [name], "it runs next, ahead of the queue")
    else:
        rule(not begins and not ends, "enqueue disturbs nothing")
        places = [effect.place for effect in effects if isinstance(effect, machine.Queue)]
        rule(places == [len(queued) + 1], "its place is told")
    if running is not None and ends:
        told = "retracted" if turn.on_busy is machine.Policy.ROLLBACK else "interrupted"
        rule(set(ends) == {running.message_id}, "only the running turn ends; the queue stays")
        rule(ends[running.message_id].finish_reason == told, f"the running turn ends {told}")
