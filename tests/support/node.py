"""Node and the npm packages that tests run with (`tests/js/package.json`; `make test` installs them)."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

JS = Path(__file__).parents[1] / "js"


@cache
def command(name: str = "node") -> str:
    """The program; skips the test where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def with_packages() -> Path:
    """The folder with the packages; skips the test where they are not installed."""
    command()
    if not (JS / "node_modules" / "ws").is_dir():
        pytest.skip("the npm packages of tests/js are not installed: npm install --prefix tests/js")
    return JS


def environment() -> dict[str, str]:
    """Ours, without what would make node say or do other things."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NODE_", "npm_"))}


def run(*words: str | Path, cwd: Path | None = None, timeout: float = 30) -> str:
    """Run node to its end. Returns what it printed; fails with what it said aside."""
    done = subprocess.run(
        [command(), *words], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
