"""Workers: real processes behind one socket; watched, started again, ended together with the right exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.server import _family, environment
from support.valkey import StoreServer, store_server, valkey_binary

SERVICE = """
async def answer(message, session_id, options=None):
    yield {"event": "chunk", "data": message}
"""


@pytest.fixture(scope="module")
def valkey():  # type: ignore[no-untyped-def]
    with store_server(valkey_binary()) as server:
        yield server


class Parent:
    """`trialogue serve --workers 2` in a folder with a service."""

    def __init__(self, folder: Path, url: str, *flags: str) -> None:
        (folder / "chat.py").write_text(SERVICE)
        words = [sys.executable, "-m", "trialogue_adapters", "serve", "--port", "0", "--service", "chat:answer"]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*words, "--workers", "2", "--redis-url", url, *flags],
                cwd=folder,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout
        self.said = self.process.stdout.readline()
        self.address = self.said.removeprefix("listening on ").strip()

    def workers(self) -> list[int]:
        return _family(self.process.pid)[1:]

    def metrics(self) -> str:
        return urlopen(f"{self.address}/metrics").read().decode()

    def __enter__(self) -> Parent:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.workers() if self.process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


def until(ready: Callable[[], object], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("listener", ["hypercorn", "trio-websocket"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_they_serve_and_leave_together(tmp_path: Path, valkey: StoreServer, listener: str, number: int) -> None:
    with Parent(tmp_path, valkey.url, "--listener", listener) as parent:
        workers = parent.workers()
        assert parent.said.startswith("listening on http://127.0.0.1:")
        assert len(workers) == 2
        assert all(os.getpgid(pid) == pid for pid in workers)  # a Ctrl-C at the terminal is the parent's to pass on
        os.kill(parent.process.pid, number)
        assert parent.process.wait(10) == 0
        assert all(map(gone, workers))


def test_one_that_is_killed_is_started_again_and_the_other_goes_on(tmp_path: Path, valkey: StoreServer) -> None:
    with Parent(tmp_path, valkey.url) as parent:
        first, second = parent.workers()
        os.kill(first, signal.SIGKILL)
        assert "trialogue_ready" in parent.metrics()
        until(lambda: len(parent.workers()) == 2)
        assert second in parent.workers()
        assert "started again" in parent.log.read_text()
        os.kill(parent.process.pid, signal.SIGTERM)
        assert parent.process.wait(10) == 0


def test_they_drain_when_their_parent_is_killed(tmp_path: Path, valkey: StoreServer) -> None:
    with Parent(tmp_path, valkey.url) as parent:
        workers = parent.workers()
        parent.process.kill()
        until(lambda: all(map(gone, workers)))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--service", "chat:nothing"), "nothing"),
        (("--redis-url", "http://somewhere"), "--redis-url: must begin with redis://"),
    ],
)
def test_one_that_cannot_start_ends_them_all_with_its_code(
    tmp_path: Path, valkey: StoreServer, flags: tuple[str, ...], words: str
) -> None:
    with Parent(tmp_path, valkey.url, *flags) as parent:
        assert parent.said == ""
        assert parent.process.wait(10) == 2
        assert words in parent.log.read_text()
