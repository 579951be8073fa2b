"""A server process under test: started in the folder of its service, ended by its pid, its log kept for failures."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlsplit

import trio

from support import services
from support.zygote import Forked, zygote

LISTENERS = ("hypercorn", "trio-websocket")
PLAIN = "plain hypercorn"
"""The `hypercorn` command itself, running our application: it hardens itself when it starts."""
MOUNTED = "mounted, uvicorn"
"""A FastAPI application on uvicorn that mounts ours, with Trio as a guest of its loop."""
MOUNTED_ON_TRIO = "mounted, hypercorn"
"""The same application on hypercorn's Trio worker."""
HOSTED = {
    MOUNTED: ("uvicorn", "--port", "0"),
    MOUNTED_ON_TRIO: ("hypercorn", "-k", "trio", "--bind", "127.0.0.1:0"),
}
EVERYWHERE = (*LISTENERS, MOUNTED)
"""Where what matters most to a client is checked: on a server that is not ours, too."""
SERVICES = Path(services.__file__)
PLANTED = SERVICES.with_name("planted.py")
HOST = SERVICES.with_name("mounted.py")
Process = subprocess.Popen[str] | Forked
START_SECONDS = 20.0
STOP_SECONDS = 10.0
SAY_SECONDS = 15.0


class Server:
    """A running `serve`. `record` is what its service has written down."""

    def __init__(self, process: Process, folder: Path, listener: str, address: str) -> None:
        self.process = process
        self.folder = folder
        self.listener = listener
        self.address = address
        parts = urlsplit(address)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.tls: ssl.SSLContext | None = None
        """For clients of a server with a certificate."""

    def log(self) -> str:
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def record(self, what: str, message: str) -> list[dict[str, Any]]:
        path = self.folder / "record.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last may be half written
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if entry["what"] == what and entry["message"] == message]

    async def recorded(self, what: str, message: str, within: float = 5.0) -> dict[str, Any]:
        """The first such entry, waited for."""
        with trio.fail_after(within):
            while not (found := self.record(what, message)):
                await trio.sleep(0.01)
        return found[0]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def pids(self) -> list[int]:
        """The process and those that it has started: the plain hypercorn serves in one of these."""
        return _family(self.process.pid)

    def peak(self) -> int:
        """The most resident bytes that they all had, each on its own, since `forget_peak`."""
        status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in self.pids())
        return sum(int(size) * 1024 for size in re.findall(r"VmHWM:\s+(\d+) kB", status))

    def forget_peak(self) -> None:
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.process.pid, number)

    async def exit_code(self, within: float = STOP_SECONDS) -> int:
        with trio.fail_after(within):
            while (code := self.process.poll()) is None:
                await trio.sleep(0.01)
        return code


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def environment() -> dict[str, str]:
    """Ours, without what would configure the server."""
    return {key: value for key, value in os.environ.items() if not key.startswith("TRIALOGUE_") and key != "PORT"}


def serve_words(listener: str, service: str | None, *flags: str) -> list[str]:
    """What follows `trialogue`."""
    words = ["serve", "--port", "0", "--listener", listener]
    return [*words, *(["--service", service] if service else []), *flags]


def command(listener: str, service: str | None, *flags: str) -> list[str]:
    return [sys.executable, "-m", "trialogue_adapters", *serve_words(listener, service, *flags)]


def plain_command(*flags: str) -> list[str]:
    words = [sys.executable, "-m", "hypercorn", "-k", "trio", "--bind", "127.0.0.1:0", *flags]
    return [*words, "trialogue_adapters.servers.asgi:app"]


def host_command(listener: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", *HOSTED[listener], *flags, "mounted:app"]


def as_variables(flags: Sequence[str]) -> dict[str, str]:
    """The flags of `trialogue serve` as what a host has instead of them."""
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return {f"TRIALOGUE_{flag.removeprefix('--').replace('-', '_').upper()}": value for flag, value in pairs}


def said(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `trialogue WORDS`, which must end by itself, says there. Forked, see support.zygote."""
    given = {**environment(), **variables}
    with TemporaryFile("w+") as aside:
        process = zygote().start(words, folder, given, aside)
        assert process.stdout
        try:
            code = process.wait(SAY_SECONDS)  # what it says fits into a pipe
        finally:
            process.kill()
        with process.stdout:
            out = process.stdout.read()
        aside.seek(0)
        return subprocess.CompletedProcess(words, code, out, aside.read())


@contextmanager
def running(
    folder: Path,
    listener: str,
    flags: Sequence[str] = (),
    service: str | None = "chat:service",
    descriptors: int | None = None,
    variables: Mapping[str, str] | None = None,
    typed: bool = False,
) -> Generator[Server]:
    """Start a server in `folder`, with the misbehaving service as `chat.py` there (and `planted.py` beside it).

    Args:
        service: None for the embedded one.
        descriptors: the most that the process may have open, hard limit and soft.
        variables: more of its environment; what Python reads when it starts counts for one that is typed only.
        typed: as a person starts it, from nothing; otherwise ours are forked from one that has imported the command.
    """
    if not (folder / "chat.py").exists():
        shutil.copy(SERVICES, folder / "chat.py")
        shutil.copy(PLANTED, folder)
        shutil.copy(HOST, folder)
    foreign = listener == PLAIN or listener in HOSTED
    words = command(listener, service, *flags)
    variables = {**({"TRIALOGUE_SERVICE": service} if foreign and service else {}), **(variables or {})}
    if listener == PLAIN:
        words = plain_command(*flags)
    elif listener in HOSTED:
        words, variables = host_command(listener), {**variables, **as_variables(flags)}
    forked = not (foreign or typed or descriptors)
    limit = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(descriptors)] if descriptors else []
    given = {**environment(), **variables}
    process: Process
    with (folder / "server.log").open("w") as log:
        if forked:
            process = zygote().start(serve_words(listener, service, *flags), folder, given, log)
        else:
            process = subprocess.Popen(
                [*limit, *words], cwd=folder, env=given, stdout=subprocess.PIPE, stderr=log, text=True
            )
    try:
        address = _logged_address(process, folder) if foreign else _address(process, folder)
        yield Server(process, folder, listener, address)
    finally:
        _end(process)


def _address(process: Process, folder: Path) -> str:
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else ""
    if not line.startswith("listening on http"):
        raise AssertionError(f"no address but {line!r}: {(folder / 'server.log').read_text()}")
    return line.removeprefix("listening on ").strip()


def _logged_address(process: Process, folder: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"unning on (https?://\S+)", (folder / "server.log").read_text())
        if found:
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"no address: {(folder / 'server.log').read_text()}")


def _end(process: Process) -> None:
    """By its pid; a second signal leaves at once, so that no test waits for another's drain."""
    deadline = time.monotonic() + STOP_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        process.terminate()
        try:
            process.wait(0.3)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()
    assert process.stdout
    process.stdout.close()
