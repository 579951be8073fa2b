"""Every way to serve, one process of each per module."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from support.server import LISTENERS, PLAIN, Server, running


@pytest.fixture(scope="module", params=[*LISTENERS, PLAIN])
def listener(request: pytest.FixtureRequest) -> str:
    """The listeners of `trialogue serve`, and the plain hypercorn, after it has hardened itself."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(
    listener: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Server]:
    """The module's server; its settings are the module's `VARIABLES`, which every way to serve reads."""
    variables = getattr(request.module, "VARIABLES", {})
    with running(tmp_path_factory.mktemp("server"), listener, variables=variables) as server:
        yield server
