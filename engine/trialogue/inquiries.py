"""What this node has asked other nodes of sessions that they own, and is still to be answered.

For an application's calls, of which most are about sessions that are not here at all: a letter there and one back,
without reading the session's stream. A question ends by its answer, or because the node that was asked does not own the
session or is gone; then somebody else can be asked. It never waits for a node that cannot answer.
"""

from __future__ import annotations

from dataclasses import replace

import trio

from trialogue.core.letters import Counted, Inquiry, NotMine
from trialogue.errand import NUMBERS
from trialogue.store import Key, Store, StoreGone


class _Question:
    """Put to one node."""

    __slots__ = ("asked", "connections", "ended", "key", "lost")

    def __init__(self, key: Key, asked: str) -> None:
        self.key = key
        self.asked = asked
        self.connections: int | None = None
        self.lost = False  # with the store
        self.ended = trio.Event()

    def __repr__(self) -> str:
        return f"<Question to {self.asked!r}, {'ended' if self.ended.is_set() else 'under way'}>"


class Inquiries:
    """Those that are under way."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[int, _Question] = {}

    def __repr__(self) -> str:
        return f"<Inquiries, {len(self._open)} under way>"

    async def put(self, node: str, inquiry: Inquiry) -> int | None:
        """Have a node do it; returns how many connections the session had. None: it does not own it, or is gone.

        Raises StoreGone; then it may have been done. Cancelled: it may be done all the same.
        """
        number = next(NUMBERS)
        question = self._open[number] = _Question(inquiry.key, node)
        try:
            self._store.watch(node)
            self._store.send(node, replace(inquiry, sender=self._store.node, client=number))
            await question.ended.wait()
        finally:
            del self._open[number]
        if question.lost:
            raise StoreGone("the store was lost before another node had answered")
        return question.connections

    def received(self, letter: Counted | NotMine) -> None:
        if isinstance(letter, Counted):
            question = self._open.get(letter.client)
            if question is not None and question.asked == letter.sender:
                question.connections = letter.connections
                question.ended.set()
            return
        for question in self._open.values():
            if (question.key, question.asked) == (letter.key, letter.sender):
                question.ended.set()

    def node_gone(self, node: str) -> None:
        for question in self._open.values():
            if question.asked == node:
                question.ended.set()

    def lose(self) -> None:
        """The store is gone, or this node's name in it: no answer will come."""
        for question in self._open.values():
            question.lost = True
            question.ended.set()
