"""Random schedules: what clients, services, time and bugs do to a hub, as plain data made from a seed.

A schedule knows nothing of what comes of it: an action that makes no sense when its time comes does nothing. So any
part of a schedule is a schedule too, which is how a failing one is made short (`shortest`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

DEVICES = ("s", "s", "s", "t")
"""The session of each device."""

LINGER, SESSION_TTL, STOP_GRACE, HOOK_TIMEOUT, DRAIN_TIMEOUT = 3.0, 8.0, 0.25, 1.0, 2.0
"""Seconds. Short, so that a schedule outlives them; each far from the next, so that they are met one by one."""

MANNERS = {"prompt": 0.0, "late": 0.0, "slow": 0.1, "stubborn": 0.9}
"""How a service takes being stopped: seconds until it closes. All but the prompt one emit then, and once closed."""

HOOKS = (0.0, 0.0, 0.3)
"""Seconds that the service's `ended` hook takes: less than its timeout, so that the next turn must wait for it."""


@dataclass(frozen=True, slots=True)
class Action:
    """`verb` names a method of `Rehearsal`. `ticks`: how often Trio's tasks are let go on before the next action comes;
    None: until all is calm."""

    verb: str
    arguments: tuple[Any, ...]
    ticks: int | None = None

    @property
    def calm(self) -> bool:
        return self.ticks is None

    def __str__(self) -> str:
        pause = "" if self.calm else f", then {self.ticks} ticks" if self.ticks else ", and at once"
        return f"{self.verb}({', '.join(map(repr, self.arguments))}){pause}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """One example: the settings that differ, and what happens. `seed` also steers Trio's choice of the next task."""

    seed: int
    v1: tuple[bool, ...]
    queue_size: int
    log_bytes: int
    max_generations: int
    actions: tuple[Action, ...]

    def __str__(self) -> str:
        dialects = "".join("v" if v1 else "s" for v1 in self.v1)
        head = f"seed {self.seed}: devices {dialects}, queue {self.queue_size}, log {self.log_bytes}"
        lines = [f"{head}, generations {self.max_generations}", *(f"  {action}" for action in self.actions)]
        return "\n".join(lines)


def _connect(random: Random, sent: list[str]) -> tuple[Any, ...]:
    how = random.choices(("resume", "fresh", "stale", "future", "strange"), (10, 4, 3, 1, 1))[0]
    return random.randrange(len(DEVICES)), how


def _send(random: Random, sent: list[str]) -> tuple[Any, ...]:
    sent.append(f"m{len(sent)}")
    policy = random.choices(("interrupt", "enqueue", "reject", "rollback"), (4, 4, 1, 2))[0]
    return random.randrange(len(DEVICES)), sent[-1], policy, random.choice(tuple(MANNERS)), random.choice(HOOKS)


def _known(random: Random, sent: list[str]) -> str:
    return random.choice(sent[-4:]) if sent else "m0"


VERBS: dict[str, tuple[float, Callable[[Random, list[str]], tuple[Any, ...]]]] = {
    "connect": (10, _connect),
    "send": (14, _send),
    "repeat": (4, lambda random, sent: (random.randrange(len(DEVICES)), _known(random, sent), random.random() < 0.15)),
    "cancel": (5, lambda random, sent: (random.randrange(len(DEVICES)), random.choice((None, _known(random, sent))))),
    "ack": (2, lambda random, sent: (random.randrange(len(DEVICES)), _known(random, sent), random.randrange(6))),
    "typing": (1, lambda random, sent: (random.randrange(len(DEVICES)),)),
    "leave": (
        8,
        lambda random, sent: (
            random.randrange(len(DEVICES)),
            random.choices((1006, 1001, 1000, 1005), (6, 2, 1, 1))[0],
            random.choice((0, 0, 1, 3)),
        ),
    ),
    "stall": (1.5, lambda random, sent: (random.randrange(len(DEVICES)),)),
    "flow": (2, lambda random, sent: (random.randrange(len(DEVICES)),)),
    "emit": (16, lambda random, sent: (random.choice(DEVICES), random.choice((1, 1, 2, 5, 20)))),
    "emit_late": (2, lambda random, sent: (_known(random, sent),)),
    "done": (6, lambda random, sent: (random.choice(DEVICES), random.random() < 0.8)),
    "end": (3, lambda random, sent: (random.choice(DEVICES),)),
    "fail": (2, lambda random, sent: (random.choice(DEVICES), random.random() < 0.5)),
    "crash": (1.2, lambda random, sent: (random.choice(DEVICES),)),
    "drain": (0.2, lambda random, sent: ()),
    "wait": (9, lambda random, sent: (random.choices((0.05, 0.3, 1.2, 4.0, 10.0), (4, 3, 2, 2, 2))[0],)),
}


def _ticks(random: Random) -> int | None:
    return random.choices((None, 0, 1, 2), (12, 2, 1, 1))[0]


def _away(random: Random, sent: list[str]) -> list[Action]:
    """Somebody is lost in mid-answer, and comes back when it has ended."""
    number = random.randrange(len(DEVICES))
    session_id = DEVICES[number]
    return [
        Action("emit", (session_id, 5), _ticks(random)),
        Action("leave", (number, 1006, random.choice((0, 2))), _ticks(random)),
        Action("emit", (session_id, 5), _ticks(random)),
        Action("done", (session_id, True)),
        Action("connect", (number, "resume")),
    ]


def _at_once(random: Random, sent: list[str]) -> list[Action]:
    """An answer ends in the very moment when somebody wants something of it."""
    number = random.randrange(len(DEVICES))
    ends = Action(random.choice(("done", "fail")), (DEVICES[number], True), random.randrange(3))
    verb = random.choice(("send", "cancel", "repeat"))
    wants = Action(verb, (number, *VERBS[verb][1](random, sent)[1:]), random.randrange(3))
    return random.sample((ends, wants), 2)


STORIES = (_away, _at_once)


def schedule(seed: int) -> Schedule:
    """The schedule of that seed: always the same one."""
    random = Random(seed)
    sent: list[str] = []
    names, weights = tuple(VERBS), [weight for weight, _ in VERBS.values()]
    actions = [Action("connect", (0, "fresh"))]
    for verb in random.choices(names, weights, k=random.randint(8, 32)):
        if random.random() < 0.1:
            actions += random.choice(STORIES)(random, sent)
        actions.append(Action(verb, VERBS[verb][1](random, sent), _ticks(random)))
    return Schedule(
        seed,
        v1=tuple(random.random() < 0.75 for _ in DEVICES),
        queue_size=random.choice((1, 3)),
        log_bytes=random.choice((1_500, 6_000, 1 << 20)),
        max_generations=random.choice((0, 0, 1)),
        actions=tuple(actions),
    )


def shortest(failing: Schedule, fails: Callable[[Schedule], Sequence[str]]) -> Schedule:
    """A schedule that still fails and has no action (nor half, nor quarter …) that it could do without."""
    size = len(failing.actions) // 2
    while size:
        start = 0
        while start < len(failing.actions):
            shorter = replace(failing, actions=failing.actions[:start] + failing.actions[start + size :])
            if fails(shorter):
                failing = shorter
            else:
                start += size
        size //= 2
    return failing
