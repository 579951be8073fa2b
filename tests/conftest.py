"""Fixtures of all tests that talk to a server process; its log goes into the report of a test that fails."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support.server import LISTENERS, Server, running

# Hundreds of processes are started: that each of them compiles our modules anew helps nobody.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No judgement by the wall clock: on a busy machine, making Hypothesis's tables alone takes seconds the first time.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("steady")


HERE = Path(__file__).parent
QUICK = (HERE, HERE / "core")
"""Folders whose tests start no server."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-faults", action="store_true", help="write what the fault matrix saw into docs/faults.md")
    parser.addoption("--write-drawing", action="store_true", help="draw the machine into docs/design.md")
    parser.addoption("--write-settings", action="store_true", help="write the settings into docs/configuration.md")
    group = parser.getgroup("proof")
    group.addoption("--schedules", type=int, default=2_000, help="random schedules to play (default 2,000)")
    group.addoption("--node-schedules", type=int, default=40, help="random schedules over nodes to play (default 40)")
    group.addoption("--seed", type=int, help="play the random schedule of this seed only")
    group.addoption("--cuts", type=int, default=250, help="cuts per listener (default 250)")
    group.addoption("--node-cuts", type=int, default=100, help="cuts of clients of three nodes (default 100)")
    group.addoption("--kills", type=int, default=4, help="nodes to kill in mid-answer (default 4)")
    group.addoption("--store", choices=("valkey", "redis"), default="valkey", help="the store of three nodes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is quick comes last: then the workers end together, not one of them minutes after the other."""
    items.sort(key=lambda item: item.path.parent in QUICK)


@pytest.fixture(scope="module", params=LISTENERS)
def listener(request: pytest.FixtureRequest) -> str:
    """Every test that uses it runs once per listener."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(
    listener: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Server]:
    """The module's server; its flags are the module's `FLAGS`, its service the module's `SERVICE`."""
    flags, service = getattr(request.module, "FLAGS", ()), getattr(request.module, "SERVICE", "chat:service")
    with running(tmp_path_factory.mktemp("server"), listener, flags, service) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if isinstance(server, Server) and report.when == "call" and report.failed:
        report.sections.append(("server log", server.log()[-8000:]))
    return report
