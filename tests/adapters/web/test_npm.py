"""The npm package: that it installs, runs and type-checks in an empty project, and that nothing in it has drifted."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support import node
from support.server import running
from trialogue import __version__
from trialogue.core.errors import ERRORS
from trialogue_adapters import spec, web

ROOT = Path(__file__).parents[3]
PACKAGE = json.loads((web.CLIENT / "package.json").read_text())


def npm(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        [node.command("npm"), *words], cwd=cwd, env=node.environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project into which the packed package was installed; nothing is fetched for it."""
    node.with_packages()
    folder = tmp_path_factory.mktemp("project")
    (packed,) = json.loads(npm("pack", "--json", "--pack-destination", str(folder), cwd=web.CLIENT))
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    npm("install", "--no-audit", "--no-fund", "--offline", f"./{packed['filename']}", cwd=folder)
    return folder


def test_it_holds_the_client_and_nothing_of_the_page(project: Path) -> None:
    installed = {path.name for path in (project / "node_modules" / "trialogue").iterdir()}
    assert installed == {"package.json", "README.md", "LICENSE", "trialogue.js", "trialogue.d.ts", "frames.d.ts"}


def test_it_runs_where_it_was_installed(project: Path, tmp_path: Path) -> None:
    shutil.copy(node.JS / "installed.mjs", project)
    ws = node.JS / "node_modules" / "ws" / "wrapper.mjs"
    with running(tmp_path, "hypercorn") as server:
        url = f"{server.address.replace('http', 'ws')}/chat-ws"
        assert node.run("installed.mjs", ws, url, cwd=project) == "t0 t1 t2 | stop\n"


def test_it_compiles_strictly_and_misuse_does_not(project: Path) -> None:
    shutil.copy(node.JS / "program.ts", project)
    tsc = node.JS / "node_modules" / "typescript" / "bin" / "tsc"
    flags = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022", "--module", "nodenext", "--types", ""]
    node.run(tsc, *flags, "program.ts", cwd=project)


def test_the_declarations_are_those_of_the_code(tmp_path: Path) -> None:
    node.with_packages()
    (tmp_path / "spec.json").write_bytes(spec.as_json())
    node.run(node.JS / "declarations.mjs", tmp_path / "spec.json", web.CLIENT, tmp_path)
    for name in ("frames.d.ts", "trialogue.d.ts"):
        assert (tmp_path / name).read_text() == (web.CLIENT / name).read_text(), f"{name}: run `make declarations`"


def test_its_version_and_license_are_ours() -> None:
    assert PACKAGE["version"] == __version__
    assert PACKAGE["license"] == "MIT"
    assert (web.CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert "dependencies" not in PACKAGE


def test_the_client_knows_which_errors_are_worth_another_try() -> None:
    node.command()
    script = """
      const { TrialogueError } = await import(process.argv[1]);
      const known = JSON.parse(process.argv[2]).map((code) => [code, new TrialogueError(code, "").retryable]);
      console.log(JSON.stringify(Object.fromEntries(known)));
    """
    codes = [*ERRORS, "GEN-001"]
    told = json.loads(node.run("--input-type=module", "--eval", script, web.CLIENT / "trialogue.js", json.dumps(codes)))
    assert told == {**{code: row.retryable for code, row in ERRORS.items()}, "GEN-001": False}
