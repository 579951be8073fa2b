"""Random schedules over three nodes and one store: `--node-schedules N` plays N of them, `--seed S` plays that one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from proof.nodes import play
from proof.planted import no_fence
from trialogue.core.dialects import Muted
from trialogue.history import History
from trialogue.nodes import Nodes
from trialogue.remote_session import RemoteSession
from trialogue.shared_log import SharedLog

pytestmark = pytest.mark.slow

WITHIN = 150


def test_random_schedules_over_nodes_keep_every_promise(pytestconfig: pytest.Config) -> None:
    seeds = range(pytestconfig.getoption("node_schedules"))
    if (only := pytestconfig.getoption("seed")) is not None:
        seeds = range(only, only + 1)
    for seed in seeds:
        if wrong := play(seed):
            pytest.fail(f"seed {seed}: {wrong}", pytrace=False)


# ── What finds none of these proves nothing ──────────────────────────────────────────────────────────────────────


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


PLANTED: Sequence[Callable[[pytest.MonkeyPatch], None]] = (
    behind_without_saying,
    told_twice,
    always_afresh,
    nothing_asked_again,
    no_fence,
    a_gone_owner_is_not_noticed,
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_among_nodes_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(monkeypatch)
    for seed in range(WITHIN):
        if found := play(seed):
            break
    else:
        pytest.fail(f"{WITHIN} schedules have not found it")
    with capsys.disabled():
        print(f"\nplanted: {plant.__name__}: found by schedule {seed + 1}: {found[0]}")
