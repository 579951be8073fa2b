"""A server as a process of its own on a core of its own: started, pinned, measured from outside, stopped."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 30.0


def cores() -> tuple[int | None, int | None]:
    """The server's core and the load's; None, None on a machine with one core (then figures are worth little)."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def prepare_load(connections: int) -> None:
    """Pin this process, the load, to its core, and allow it (and the servers that it starts) many sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < connections + 100:
        sys.exit(f"{connections} connections need {connections + 100} open files, the hard limit is {hard}: ulimit -Hn")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a server is never left behind
    _, core = SHARED
    if core is None:
        print("warning: one core for server and load; take no figure from this run", file=sys.stderr)
    else:
        os.sched_setaffinity(0, {core})


SHARED = cores()
"""Read once: pinning ourselves would change the answer."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """`with Server(command) as server:` a listening server. `{port}` in the command becomes a free port; with
    `announces` the command picks one and prints it (`listening on http://…:PORT`)."""

    def __init__(self, command: Sequence[str], *, announces: bool = False) -> None:
        self.announces = announces
        self.port = 0 if announces else free_port()
        self.command = [word.replace("{port}", str(self.port)) for word in command]

    def __enter__(self) -> Server:
        core, _ = SHARED
        self._output = tempfile.TemporaryFile("w+")  # it lives as long as the process
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.announces else self._output,
            stderr=self._output,
            text=True,
            start_new_session=True,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - Linux only
        )
        try:
            if self.announces:
                self._read_port()
            self._wait_until_listening()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _read_port(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            found = re.search(r"listening on http://.*:(\d+)", line)
            if found:
                self.port = int(found[1])
                return
        raise RuntimeError(f"{self.command}: ended without listening\n{self.output()}")

    def _wait_until_listening(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.command}: exit code {self.process.returncode}\n{self.output()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.command}: does not listen\n{self.output()}")

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # a drain is not what is measured here
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()[-4000:]

    def cpu(self) -> float:
        """Seconds of CPU so far, user and system, of all its threads (and of its workers, where a server forks)."""
        return sum(_cpu(pid) for pid in _family(self.process.pid)) / TICK

    def rss(self) -> int:
        """Resident bytes."""
        return sum(_rss(pid) for pid in _family(self.process.pid))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _cpu(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _rss(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0
