"""How much one client may do, over all of its connections: a client is a principal, or else an address.

Checked early and cheaply: a refused handshake costs no session, a refused frame no turn. Who goes on after many
refusals is abusing, and is closed.
"""

from __future__ import annotations

from collections.abc import Callable

from trialogue.core.limits import Limits, TokenBucket

FORGET_SECONDS = 60.0
"""An idle client's budgets are full again after a minute: there is nothing left to remember."""

SWEEP = 1_024
"""Clients between two looks for those that can be forgotten."""


class Budget:
    """What one client has left."""

    __slots__ = ("connections", "frames", "handshakes", "refusals", "seen", "turns")

    def __init__(self, limits: Limits, now: float) -> None:
        self.connections = 0
        self.seen = now
        self.handshakes = TokenBucket(limits.handshakes_per_second, 1.0, now)
        self.frames = TokenBucket(limits.messages_per_minute, 60.0, now)
        self.turns = TokenBucket(limits.turns_per_minute, 60.0, now)
        self.refusals = TokenBucket(limits.refusals_per_minute, 60.0, now)

    def __repr__(self) -> str:
        return f"<Budget {self.connections} connections, frames {self.frames}, turns {self.turns}>"


class Admission:
    """The budgets of all clients. `now` is any monotonic clock, in seconds."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._budgets: dict[str, Budget] = {}
        self._sweep_at = SWEEP

    def __repr__(self) -> str:
        return f"<Admission {len(self._budgets)} clients>"

    def __len__(self) -> int:
        return len(self._budgets)

    def knock(self, address: str) -> bool:
        """May this address try a handshake now? It costs one, whatever becomes of it."""
        return self._budget(address).handshakes.take(self._now())

    def has_room(self, client: str) -> bool:
        """May this client have one more connection?"""
        most = self._limits.max_connections_per_client
        return not most or self._budget(client).connections < most

    def take_frame(self, client: str) -> int | None:
        """Count one frame of a client without a connection. None: it may; else in how many milliseconds it may."""
        frames = self._budget(client).frames
        return None if frames.take(self._now()) else frames.wait_ms()

    def enter(self, client: str) -> Budget:
        """Count one more connection. To be given back with `leave`."""
        budget = self._budget(client)
        budget.connections += 1
        return budget

    def leave(self, budget: Budget) -> None:
        budget.connections -= 1
        budget.seen = self._now()

    def _budget(self, client: str) -> Budget:
        budget = self._budgets.get(client)
        if budget is None:
            if len(self._budgets) >= self._sweep_at:
                self._sweep()
            budget = self._budgets[client] = Budget(self._limits, self._now())
        budget.seen = self._now()
        return budget

    def _sweep(self) -> None:
        """Forget who has no connection and has not been seen for long enough."""
        past = self._now() - FORGET_SECONDS
        self._budgets = {
            client: budget for client, budget in self._budgets.items() if budget.connections or budget.seen > past
        }
        self._sweep_at = max(SWEEP, 2 * len(self._budgets))
