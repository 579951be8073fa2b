"""The server that the terminal's tests talk to."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from support import talker
from support.server import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(Path(talker.__file__), folder / "talker.py")
    with running(folder, "hypercorn", service="talker:Talker") as server:
        yield server
