"""Random schedules over three nodes and one store: `--node-schedules N` plays N of them, `--seed S` plays that one."""

from __future__ import annotations

import pytest

from proof.nodes import play
from proof.planted import Plant
from proof.planted_nodes import AMONG_NODES

pytestmark = pytest.mark.slow

WITHIN = 300


@pytest.mark.timeout(3600)
def test_random_schedules_over_nodes_keep_every_promise(pytestconfig: pytest.Config) -> None:
    seeds = range(pytestconfig.getoption("node_schedules"))
    if (only := pytestconfig.getoption("seed")) is not None:
        seeds = range(only, only + 1)
    for seed in seeds:
        if wrong := play(seed):
            pytest.fail(f"seed {seed}: {wrong}", pytrace=False)


@pytest.mark.parametrize("plant", AMONG_NODES, ids=lambda plant: plant.__name__)
def test_a_planted_bug_among_nodes_is_found(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch)
    for seed in range(WITHIN):
        if found := play(seed):
            break
    else:
        pytest.fail(f"{WITHIN} schedules have not found it")
    with capsys.disabled():
        print(f"\nplanted: {plant.__name__}: found by schedule {seed + 1}: {found[0]}")
