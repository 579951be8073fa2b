"""A node's right to own sessions: one key with a time to live, renewed every second; and its name, one per lease.

By its own clock a node stops writing well before the key can expire, so a node that was stopped knows it when it goes
on. A lost lease is never taken up again: the node takes another name, because others may have taken its sessions.
"""

from __future__ import annotations

import secrets
from math import inf

import trio

TTL = 5.0
"""Seconds after which a node that renews nothing is gone for the others."""

SAFE = 4.0
"""Seconds after the last renewal was asked for, until which this node writes."""

RENEW = 1.0


class LeaseLost(Exception):
    """This node was too late, or its lease was wiped."""


class Lease:
    """`node` is its holder's name, "" before there is one."""

    def __init__(self) -> None:
        self.node = ""
        self._until = -inf

    def __repr__(self) -> str:
        return f"<Lease of {self.node!r}, {self._until - trio.current_time():.1f} s>"

    @property
    def held(self) -> bool:
        return trio.current_time() < self._until

    def check(self) -> None:
        """Raises LeaseLost."""
        if not self.held:
            raise LeaseLost

    def taken(self, node: str, asked: float) -> None:
        """The store has it since, at the earliest, `asked`."""
        self.node = node
        self._until = asked + SAFE

    def renewed(self, node: str, asked: float, found: bool) -> None:
        """What became of a renewal that was asked for then."""
        if node == self.node:
            self._until = max(self._until, asked + SAFE) if found else -inf


def new_name() -> str:
    """A node's: of one incarnation, never used before."""
    return secrets.token_hex(8)
