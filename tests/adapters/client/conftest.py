"""Fixtures of the client's tests: which loop it runs on, and a back-off that does not make them wait."""

from __future__ import annotations

import pytest

from support.loops import LOOPS, Loop
from trialogue_adapters.client import returning


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Loop:
    """Every test that uses it runs once per loop."""
    return Loop(request.param)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back within hundredths of a second."""
    monkeypatch.setattr(returning, "BACKOFF", 0.01)
    monkeypatch.setattr(returning, "BACKOFF_MAX", 0.05)
