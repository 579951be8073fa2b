"""What `pip wheel .` makes: installed into an empty environment it serves, and it holds what it should and no more.

Needs a package index for the dependencies, and takes half a minute.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Generator
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.raw_client import open_client, tokens
from support.server import STOP_SECONDS, Server, _address
from trialogue import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[1]
QUIET = ("--quiet", "--disable-pip-version-check", "--no-input")


def run(*words: str | Path, cwd: Path = ROOT) -> str:
    """Without our own sources on the path. Returns what it printed."""
    done = subprocess.run([*map(str, words)], cwd=cwd, env=bare(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bare() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PORT") and not name.startswith("TRIALOGUE_")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("package")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    run(sys.executable, "-m", "pip", "wheel", *QUIET, "--no-deps", "--wheel-dir", folder / "wheel", ".")
    (made,) = (folder / "wheel").glob("trialogue-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(folder: Path, wheel: Path) -> Path:
    """The `bin` of an environment with the wheel, its dependencies, and nothing else."""
    run(sys.executable, "-m", "venv", folder / "venv")
    run(folder / "venv" / "bin" / "pip", "install", *QUIET, wheel)
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def server(folder: Path, installed: Path) -> Generator[Server]:
    """The command itself, in an empty folder, without flags but the port."""
    home = folder / "home"
    home.mkdir()
    command = [str(installed / "trialogue"), "serve", "--port", "0"]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, env=bare(), stdout=subprocess.PIPE, stderr=log, text=True)
    with process:
        try:
            yield Server(process, home, "hypercorn", _address(process, home))
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def names(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_it_holds_the_sources_their_types_the_page_and_the_docs_and_no_more(wheel: Path) -> None:
    held = names(wheel)
    assert {name.split("/")[0] for name in held} == {"trialogue", "trialogue_adapters"}
    assert {"trialogue/py.typed", "trialogue_adapters/py.typed"} <= held
    web = {f"trialogue_adapters/web/{name}" for name in ("static/index.html", "static/page.js", "npm/trialogue.js")}
    own = {f"trialogue_adapters/rag/own_docs/{name}" for name in ("README.md", "docs/metrics.md", "docs/ko")}
    assert web <= held
    assert all(any(name.startswith(part) for name in held) for part in own)
    for root in ("engine", "adapters"):
        assert {str(path.relative_to(ROOT / root)) for path in sources(root)} <= held
    assert not [name for name in held if "/tests/" in name or "/bench/" in name or "__pycache__" in name]


def sources(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts]


def test_the_source_distribution_makes_the_same_wheel(folder: Path, wheel: Path) -> None:
    run(sys.executable, "-m", "venv", folder / "builder")
    python = folder / "builder" / "bin" / "python"
    run(python, "-m", "pip", "install", *QUIET, "hatchling>=1.27")
    run(python, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder / "sdist")
    (sdist,) = (folder / "sdist").glob("trialogue-*.tar.gz")
    run(python, "-m", "pip", "wheel", *QUIET, "--no-deps", "--wheel-dir", folder / "again", sdist)
    (again,) = (folder / "again").glob("*.whl")
    assert again.name == wheel.name
    assert names(again) == names(wheel)


def test_the_version_comes_from_one_place(wheel: Path, installed: Path, folder: Path) -> None:
    assert wheel.name == f"trialogue-{__version__}-py3-none-any.whl"
    assert run(installed / "trialogue", "--version", cwd=folder) == f"{__version__}\n"
    assert f"Version: {__version__}\n" in run(installed / "pip", "show", "trialogue", cwd=folder)
    others = [ROOT / "pyproject.toml", *sources("engine"), *sources("adapters")]
    told = re.compile(rf'\bversion\W+"{re.escape(__version__)}"|__version__ = "')
    assert [path.stem for path in others if told.search(path.read_text(encoding="utf-8"))] == ["_version"]


def test_dependencies_agree_and_none_is_an_extra_s(installed: Path, folder: Path) -> None:
    run(installed / "pip", "check", cwd=folder)
    listed = run(installed / "pip", "list", "--format=freeze", cwd=folder).lower()
    assert "hypercorn==" in listed
    assert not [extra for extra in ("opentelemetry", "uvloop", "pyjwt", "xllamacpp", "pytest") if extra in listed]


async def test_it_answers_from_its_own_docs(server: Server) -> None:
    async with open_client(server) as client:
        question = "What does trialogue_tokens_wasted_total count?"
        await client.send(message_id="m", content=question, session_id=client.session_id)
        turn = await client.turn("m")
    assert turn[-1]["finish_reason"] == "stop"
    assert "wasted" in "".join(tokens(turn))
    (told,) = [body for body in turn if body["type"] == "stream_sources"]
    assert any("metrics.md" in str(source) for source in told["sources"])


def test_the_page_and_the_metrics_are_served(server: Server) -> None:
    for path, wanted in (("/", "<script"), ("/static/trialogue.js", "export"), ("/metrics", __version__)):
        with urlopen(server.address + path, timeout=5) as answer:
            assert wanted in answer.read().decode()
