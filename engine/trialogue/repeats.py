"""Ended turns that a client asks for again, with their ids: each is replayed to it alone, never inside a running turn.

A client that was attached when the turn ended has been sent all of it, and gets no replay. Nothing is generated here
and nothing logged: a replay is a reply, made from what the log still has.
"""

from __future__ import annotations

from collections.abc import Mapping

from trialogue.core.events import Replay
from trialogue.core.machine import Repeat
from trialogue.history import History, PastTurn
from trialogue.log import Gap
from trialogue.stay import Client


class Repeats:
    """What was asked of one session and is not answered yet (`due`). `clients`: who is there, by number."""

    __slots__ = ("_clients", "due")

    def __init__(self, clients: Mapping[int, Client]) -> None:
        self.due: list[Repeat] = []
        self._clients = clients

    def __repr__(self) -> str:
        return f"<Repeats, {len(self.due)} due>"

    def ask(self, repeat: Repeat) -> None:
        """It is due. However often that is asked before it comes, it comes once."""
        if repeat not in self.due:
            self.due.append(repeat)

    def send(self, history: History) -> None:
        """Replay all that is due. Call it while no turn runs, or between two."""
        due, self.due = self.due, []
        for repeat in due:
            client = self._clients.get(repeat.asker) if repeat.asker is not None else None
            past = history.past.get(repeat.message_id)
            if client is None or past is None:
                continue  # it has gone; or the turn is still to come, and every event of it anyway
            if client.start < past.end:
                continue  # it was attached: everything up to its position was sent to it
            client.reply(_replay(history, repeat.message_id, past))


def _replay(history: History, message_id: str, past: PastTurn) -> Replay:
    """An ended turn's events; its ending only, when they are trimmed."""
    try:
        entries = history.log.read(past.start, past.end)
    except Gap:
        return Replay((past.ending,))
    return Replay(tuple(event for _, event in entries if event.message_id == message_id))
