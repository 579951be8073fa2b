"""`slots.py`: never more than there are, never one left over while somebody waits, and principals take turns."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trialogue.slots import Slot, Slots


class Claims:
    """Claims by name, and in which order they were granted."""

    def __init__(self, capacity: int) -> None:
        self.slots = Slots(capacity)
        self.granted: list[str] = []
        self.of: dict[str, Slot] = {}

    def claim(self, name: str) -> None:
        """A claim of the principal that is the name's first letter."""
        self.of[name] = self.slots.claim(name[0], lambda: self.granted.append(name))

    def release(self, name: str) -> None:
        self.slots.release(self.of[name])


def test_who_comes_first_is_served_first() -> None:
    it = Claims(1)
    for name in ("a1", "a2", "a3"):
        it.claim(name)
    assert it.granted == ["a1"]
    assert it.slots.waiting == 2
    it.release("a1")
    it.release("a2")
    assert it.granted == ["a1", "a2", "a3"]


def test_principals_take_turns() -> None:
    it = Claims(1)
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        it.claim(name)
    for name in ("a1", "a2", "b1", "c1", "a3", "b2"):
        it.release(name)
    assert it.granted == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_who_gives_up_waiting_is_not_granted_and_nobody_else_waits_longer() -> None:
    it = Claims(1)
    for name in ("a1", "b1", "c1"):
        it.claim(name)
    it.release("b1")
    it.release("b1")
    assert it.slots.waiting == 1
    it.release("a1")
    it.release("a1")
    assert it.granted == ["a1", "c1"]


def test_without_a_limit_nobody_waits() -> None:
    it = Claims(0)
    for n in range(5_000):
        it.claim(f"a{n}")
    assert len(it.granted) == 5_000
    assert it.slots.waiting == 0


def test_a_grant_that_is_released_within_itself_passes_on() -> None:
    slots, granted = Slots(1), []

    def at_once(name: str) -> None:
        granted.append(name)
        slots.release(waiting[name])

    first = slots.claim("a", lambda: None)
    waiting = {name: slots.claim("a", lambda name=name: at_once(name)) for name in "bcd"}  # type: ignore[misc]
    slots.release(first)
    assert granted == ["b", "c", "d"]
    assert (slots.held, slots.waiting) == (0, 0)


class SlotsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.it = Claims(3)
        self.live: list[str] = []
        self.count = 0

    @rule(principal=st.sampled_from("abcd"))
    def claim(self, principal: str) -> None:
        name = f"{principal}{self.count}"
        self.count += 1
        self.live.append(name)
        self.it.claim(name)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.it.release(self.live.pop(data.draw(st.integers(0, len(self.live) - 1))))

    @invariant()
    def all_that_can_be_held_is(self) -> None:
        assert self.it.slots.held == min(3, len(self.live))
        assert self.it.slots.waiting == len(self.live) - self.it.slots.held

    @invariant()
    def within_a_principal_the_order_is_kept(self) -> None:
        for principal in "abcd":
            numbers = [int(name[1:]) for name in self.it.granted if name[0] == principal]
            assert numbers == sorted(numbers)


TestSlotsMachine = SlotsMachine.TestCase
