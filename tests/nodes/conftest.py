"""Three nodes for all tests of a worker: what a test kills it starts again, so the next one finds them as they were."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from inspect import iscoroutinefunction
from time import monotonic
from typing import Any

import pytest
import trio

from support.cluster import Cluster, cluster
from support.valkey import debian_binary, store_server, valkey_binary

MARGIN = 5.0
"""Seconds before pytest-timeout's own end of a test."""

BINARIES = {"valkey": valkey_binary, "redis": debian_binary}


@pytest.fixture(scope="session")
def _nodes(pytestconfig: pytest.Config) -> Generator[Cluster]:
    pytest.importorskip("coredis")
    with store_server(BINARIES[pytestconfig.getoption("store")]()) as store, cluster(store) as made:
        yield made


@pytest.fixture
def three(_nodes: Cluster) -> Generator[Cluster]:
    """Whatever was done to them, none of them may have met what it did not expect."""
    yield _nodes
    _nodes.store.thaw()
    for node in _nodes.nodes:
        node.thaw()
        if node.server is None:
            node.start()
    assert not _nodes.crashes()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that hangs is ended by Trio, in time.

    pytest-timeout ends one by an exception out of a signal: that tears its Trio run to pieces, no other test of the
    process can run one, and where the pieces are collected something else breaks (CPython 3.11's `ast.parse` cannot be
    interrupted by another one, which printing their remains is: pytest then ends with an INTERNALERROR).
    """
    if isinstance(item, pytest.Function) and iscoroutinefunction(item.obj):
        marker = item.get_closest_marker("timeout")
        limit = marker.args[0] if marker else float(item.config.getini("timeout"))
        item.obj = _until(monotonic() + limit - MARGIN, item.obj)


def _until(deadline: float, test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    @wraps(test)
    async def limited(**fixtures: Any) -> None:
        with trio.fail_after(max(0.0, deadline - monotonic())):
            await test(**fixtures)

    return limited


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    nodes = getattr(item, "funcargs", {}).get("three")
    if isinstance(nodes, Cluster) and report.when == "call" and report.failed:
        for node in nodes.nodes:
            report.sections.append((f"log of {node}", node.log()[-4000:]))
    return report
