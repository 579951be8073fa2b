"""Bugs to be planted among nodes, each a plausible mistake: schedules over nodes that find none of them prove nothing.

As in `planted`, each is a function that plants itself with pytest's monkeypatch, and says in its name what it breaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from proof.planted import Plant, no_fence
from support.memory_store import Server
from trialogue import Position
from trialogue.core.dialects import Muted
from trialogue.core.events import Event, Fenced, width
from trialogue.history import History
from trialogue.log import Entry
from trialogue.nodes import Nodes
from trialogue.remote_session import RemoteSession
from trialogue.shared_log import SharedLog
from trialogue.store import Claim, Key, Stored, Verdict


def behind_without_saying(patch: pytest.MonkeyPatch) -> None:
    """Clients are sent what is not in the store yet."""
    init = SharedLog.__init__

    def hasty(self: SharedLog, *options: Any) -> None:
        init(self, *options)
        self._behind = True

    patch.setattr(SharedLog, "__init__", hasty)


def told_twice(patch: pytest.MonkeyPatch) -> None:
    """Who was told by a reply that a turn is lost with the store is told its end again."""

    def feed(self: Muted, *entry: Any) -> Sequence[bytes]:
        return self._inner.feed(*entry)

    patch.setattr(Muted, "feed", feed)


def always_afresh(patch: pytest.MonkeyPatch) -> None:
    """A lost turn is generated again, whatever clients have seen of it."""
    patch.setattr(History, "silent", property(lambda self: bool(self.began)))


def nothing_asked_again(patch: pytest.MonkeyPatch) -> None:
    """What was asked of a lost owner is forgotten."""
    serve, asked = RemoteSession.serve, RemoteSession.asked

    def forgetful(self: RemoteSession, owner: str) -> None:
        self._asked.clear()
        serve(self, owner)

    patch.setattr(RemoteSession, "serve", forgetful)
    patch.setattr(RemoteSession, "asked", lambda self: asked(self)[:0])


def a_gone_owner_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """Nobody takes over while a client waits."""
    patch.setattr(Nodes, "node_gone", lambda self, node: None)


def no_fence_on_take_over(patch: pytest.MonkeyPatch) -> None:
    """Who takes over writes on where the last one ended, in the same epoch."""
    append = Server.append

    def without(self: Server, key: Key, epoch: int, offset: int, events: Sequence[Event]) -> Verdict:
        if isinstance(events[0], Fenced) and not events[0].fresh:
            return Verdict.WRITTEN
        return append(self, key, epoch, offset, events)

    patch.setattr(Server, "append", without)


def a_stale_append_is_taken(patch: pytest.MonkeyPatch) -> None:
    """The store does not look at ids."""
    append = Server.append

    def careless(self: Server, key: Key, epoch: int, offset: int, events: Sequence[Event]) -> Verdict:
        verdict = append(self, key, epoch, offset, events)
        if verdict is not Verdict.STALE:
            return verdict
        for event in events:
            self.streams[key].append(Stored(epoch, offset, event))
            offset += width(event)
        self.notify()
        return Verdict.WRITTEN

    patch.setattr(Server, "append", careless)


def an_epoch_is_used_again(patch: pytest.MonkeyPatch) -> None:
    """Epochs are counted by the store alone, and a wiped one counts from the start."""
    claim, append = Server.claim, Server.append

    def counted(self: Server, key: Key, expected: str | None, known: Position, node: str) -> Claim:
        floor = self.floors.get(key, 0) + 1

        def lower(self: Server, key: Key, epoch: int, offset: int, events: Sequence[Event]) -> Verdict:
            return append(self, key, floor, offset, [Fenced(floor, node, events[0].fresh)])  # type: ignore[union-attr]

        with pytest.MonkeyPatch.context() as during:
            during.setattr(Server, "append", lower)
            answer = claim(self, key, expected, known, node)
        if answer.fence is None:
            return answer
        self.floors[key] = floor
        return Claim(node, Position(floor, answer.fence.offset), answer.made)

    patch.setattr(Server, "claim", counted)


def a_wipe_is_no_gap(patch: pytest.MonkeyPatch) -> None:
    """A position in a stream that is gone is taken for one in its successor."""
    fit = SharedLog.fit

    def trusting(self: SharedLog, stored: Iterable[Stored]) -> list[Entry] | None:
        events = ((one, one.event) for one in stored)
        old = (
            one._replace(event=replace(event, fresh=False)) if type(event) is Fenced else one for one, event in events
        )
        return fit(self, old)

    def _old(event: Event) -> Event:
        return replace(event, fresh=False) if type(event) is Fenced else event

    patch.setattr(SharedLog, "fit", trusting)


def lost_entries_are_not_missed(patch: pytest.MonkeyPatch) -> None:
    """Who has seen more of an epoch than the log holds of it goes on as if nothing were missing."""

    def covers(self: SharedLog, position: Position) -> bool:
        return self.start <= position.offset <= self.committed

    patch.setattr(SharedLog, "covers", covers)


def what_was_cut_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A turn whose clients were told that it is lost with the store is taken up again when that is back."""
    patch.setattr(RemoteSession, "_cut_turns", lambda self: None)


AMONG_NODES: Sequence[Plant] = (
    behind_without_saying,
    told_twice,
    always_afresh,
    nothing_asked_again,
    no_fence,
    a_gone_owner_is_not_noticed,
    no_fence_on_take_over,
    a_stale_append_is_taken,
    an_epoch_is_used_again,
    a_wipe_is_no_gap,
    lost_entries_are_not_missed,
    what_was_cut_is_forgotten,
)
