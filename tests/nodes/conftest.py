"""Three nodes for all tests of a worker: what a test kills it starts again, so the next one finds them as they were."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from support.cluster import Cluster, cluster
from support.valkey import debian_binary, store_server, valkey_binary

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    nodes = getattr(item, "funcargs", {}).get("three")
    if isinstance(nodes, Cluster) and report.when == "call" and report.failed:
        for node in nodes.nodes:
            report.sections.append((f"log of {node}", node.log()[-4000:]))
    return report
