"""A turn's life, drawn from `core/machine.py`: every step of every order of three messages, and what it did to each.

The design page holds the drawing; `pytest tests/docs/test_design.py -n 0 --write-drawing` writes it there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from support.pages import DOCS, WrittenPart
from trialogue.core.limits import Limits
from trialogue.core.machine import (
    Cancel,
    Closed,
    Drain,
    Ending,
    Finished,
    Input,
    Outcome,
    Policy,
    State,
    Submit,
    Turn,
    step,
)

DRAWN = WrittenPart(DOCS / "design.md", "<!-- not run: drawn from the machine -->\n```mermaid\n", "```\n")

NAMES = ("a", "b", "c")
LIMITS = Limits(queue_size=2, remembered_ids=1_000)
DONE = Outcome(Ending.COMPLETED, "stop")

PHASES = ("[*]", "queued", "waiting", "generating", "closing", "ended")


def phase(state: State, name: str) -> str:
    """Where a turn is. `closing`: its end is told, its upstream is still open. `[*]`: it has not come."""
    known = state.ledger.get(name)
    if known is None:
        return "[*]"
    if known.outcome:
        return "closing" if state.slot == name else "ended"
    if state.running and state.running.message_id == name:
        return "generating" if state.generating else "waiting"
    return "queued"


def cause(happened: Input, name: str) -> str:
    """What happened, as that turn sees it."""
    match happened:
        case Submit(turn):
            return "its message" if turn.message_id == name else "a newer message"
        case Cancel(message_id):
            return "cancel" if message_id in (None, name) else "another one's end"
        case Finished(message_id):
            return "it has finished" if message_id == name else "another one's end"
        case Closed(message_id):
            return "its upstream closes" if message_id == name else "another one's upstream closes"
        case Drain(now):
            return "drain (now)" if now else "drain"


def inputs(state: State) -> Iterator[Input]:
    """All that may happen next."""
    coming = next((name for name in NAMES if name not in state.ledger), None)
    if coming:
        for policy in Policy:
            yield Submit(Turn(coming, coming, policy), None)
    for name in state.ledger:
        yield Cancel(name, None)
    yield Cancel(None, None)
    if state.slot:
        if state.generating:
            yield Finished(state.slot, DONE)
        else:
            yield Closed(state.slot, "closed")
    yield Drain(now=False)
    yield Drain(now=True)


def edges() -> dict[tuple[str, str], set[str]]:
    """From which phase to which, and by what."""
    found: dict[tuple[str, str], set[str]] = {}
    seen, queue = {State()}, deque([State()])
    while queue:
        before = queue.popleft()
        for happened in inputs(before):
            after, _ = step(before, happened, LIMITS)
            for name in NAMES:
                way = phase(before, name), phase(after, name)
                if way[0] != way[1]:
                    found.setdefault(way, set()).add(cause(happened, name))
            if after not in seen:
                seen.add(after)
                queue.append(after)
    return found


def drawing() -> str:
    """A Mermaid state diagram."""
    found = edges()
    order = sorted(found, key=lambda way: (PHASES.index(way[0]), PHASES.index(way[1])))
    lines = [f"    {start} --> {end}: {' · '.join(sorted(found[start, end]))}" for start, end in order]
    return "\n".join(["stateDiagram-v2", *lines, "    ended --> [*]", ""])
