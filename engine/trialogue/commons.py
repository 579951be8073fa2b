"""What all sessions and generations of a hub share: its limits, its clock, its places, and who is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from trialogue.alarms import Alarms
from trialogue.core.limits import Limits
from trialogue.metrics import Meter
from trialogue.service import Service
from trialogue.shelf import Shelf
from trialogue.slots import Slots
from trialogue.tracing import Tracer


@dataclass(slots=True)
class Census:
    """Generations of the whole process: open ones, and abandoned upstreams that may still be computing."""

    open: int = 0
    abandoned: int = 0

    @property
    def working(self) -> int:
        """Generations that somebody waits for."""
        return self.open - self.abandoned


@dataclass(frozen=True, slots=True)
class Commons:
    """Handed down by the hub.

    Args:
        changed: called when somebody may have ended something.
        goodbye: called by a session that is drained: its connections may go.
    """

    limits: Limits
    meter: Meter
    tracer: Tracer
    census: Census
    slots: Slots
    shelf: Shelf
    alarms: Alarms
    nursery: trio.Nursery
    service: Callable[[], Service | None]
    changed: Callable[[], None]
    goodbye: Callable[[Any], None]
