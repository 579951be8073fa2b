"""Places for generations: so many are open at once; whoever finds none waits for one, and the waiting is fair.

Principals take turns, so one that asks a hundred questions delays another's by one answer, not by a hundred; within a
principal, who came first is served first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable


class Slot:
    """A claim to a place: it waits for one, holds one, or is over."""

    __slots__ = ("_granted", "principal")

    def __init__(self, principal: str, granted: Callable[[], None]) -> None:
        self.principal = principal
        self._granted: Callable[[], None] | None = granted

    def __repr__(self) -> str:
        return f"<Slot {'waiting' if self.waits else 'held or over'}>"

    @property
    def waits(self) -> bool:
        return self._granted is not None

    def grant(self) -> None:
        granted, self._granted = self._granted, None
        assert granted
        granted()


class Slots:
    """The places of a hub. `capacity` 0: there are always more. `shut`: there are none, whatever it is."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.shut = False
        self.waiting = 0
        self._held: set[Slot] = set()
        self._queues: OrderedDict[str, deque[Slot]] = OrderedDict()  # the principal whose turn it is comes first

    def __repr__(self) -> str:
        return f"<Slots {self.held} of {self.capacity or 'any number'} held, {self.waiting} claims waiting>"

    @property
    def held(self) -> int:
        return len(self._held)

    def claim(self, principal: str, granted: Callable[[], None]) -> Slot:
        """Claim a place. `granted` is called once there is one: now, or within somebody's `release`."""
        slot = Slot(principal, granted)
        if not self._full:
            self._give(slot)
        else:
            self._queues.setdefault(principal, deque()).append(slot)
            self.waiting += 1
        return slot

    def release(self, slot: Slot) -> None:
        """Give the place back, or wait for it no longer. Idempotent."""
        if slot.waits:
            self._withdraw(slot)
        elif slot in self._held:
            self._held.discard(slot)
            self._fill()

    def open(self) -> None:
        """There are places (again): those that wait get them."""
        self.shut = False
        self._fill()

    def _fill(self) -> None:
        while self._queues and not self._full:
            self._give(self._next())

    @property
    def _full(self) -> bool:
        return self.shut or 0 < self.capacity <= len(self._held)

    def _give(self, slot: Slot) -> None:
        self._held.add(slot)
        slot.grant()

    def _next(self) -> Slot:
        """The first claim of the principal whose turn it is; that principal goes to the end."""
        principal, queue = next(iter(self._queues.items()))
        slot = queue.popleft()
        self.waiting -= 1
        if queue:
            self._queues.move_to_end(principal)
        else:
            del self._queues[principal]
        return slot

    def _withdraw(self, slot: Slot) -> None:
        queue = self._queues.get(slot.principal)
        if queue is not None and slot in queue:
            queue.remove(slot)
            self.waiting -= 1
            if not queue:
                del self._queues[slot.principal]
