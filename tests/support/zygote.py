"""Server processes without their imports: one process has imported `trialogue serve`, and forks whenever one is wanted.

Half a second of each server's processor time was its imports, the same hundreds of times over. A fork has its own pid,
folder, environment, arguments, sockets and exit code, and runs `python -m trialogue_adapters` from its first line; only
the modules are there already. What a start from nothing does is shown by those tests that type the command
(`running(…, typed=True)`) and by the docs' examples.

This file is the program, too: `python -P zygote.py FD`. Its parent asks over the socket FD, a datagram per server.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

MODULE = "trialogue_adapters"
READY = ("trialogue_adapters.cli", "trio_websocket", "hypercorn.trio.tcp_server", "uvloop", "sqlite3", "coredis")
"""What servers import sooner or later; those that are not installed are left out."""
LARGEST = 1 << 17
"""Bytes of a request: an environment and a dozen flags."""
NUMBER = struct.Struct("i")


class Forked:
    """As much of `subprocess.Popen` as tests of servers use. `_told` brings the pid, then the exit code."""

    def __init__(self, told: int, stdout: IO[str]) -> None:
        self._told = told
        self.pid = self._number()
        self.returncode: int | None = None
        self.stdout: IO[str] | None = stdout

    def _number(self) -> int:
        read = os.read(self._told, NUMBER.size)
        if not read:
            raise RuntimeError("the zygote has died")
        (number,) = NUMBER.unpack(read)
        return int(number)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            waiter = select.poll()
            waiter.register(self._told, select.POLLIN)
            if not waiter.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
            self.returncode = self._number()
            os.close(self._told)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The parent's end; the process ends when the parent does, whose socket is closed then."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [sys.executable, "-P", __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(words, pass_fds=[theirs.fileno()])
        atexit.register(self._end)

    def start(self, words: Sequence[str], folder: Path, variables: Mapping[str, str], log: IO[str]) -> Forked:
        """`python -m trialogue_adapters WORDS` in that folder, with these variables and no others."""
        request = json.dumps({"words": words, "folder": str(folder), "variables": dict(variables)}).encode()
        assert len(request) < LARGEST
        told, tell = os.pipe()
        read, write = os.pipe()
        socket.send_fds(self._socket, [request], [write, log.fileno(), tell])
        os.close(write)
        os.close(tell)
        return Forked(told, os.fdopen(read))

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


@functools.cache
def zygote() -> Zygote:
    """This process's."""
    return Zygote()


def serve(control: socket.socket) -> dict[str, object] | None:
    """Fork for each request. Returns twice: None in the zygote when its parent has gone, a request in each fork."""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data:  # a fork has ended
                    pid, tell = key.data
                    os.write(tell, NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    os.close(tell)
                    continue
                request, descriptors, _, _ = socket.recv_fds(control, LARGEST, 3)
                if not request:
                    return None
                *outputs, tell = descriptors
                pid = os.fork()
                if not pid:
                    for number, output in enumerate(outputs, 1):
                        os.dup2(output, number)
                    return dict(json.loads(request))
                for output in outputs:
                    os.close(output)
                os.write(tell, NUMBER.pack(pid))
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, tell))


def main() -> None:
    for name in READY:
        with contextlib.suppress(ImportError):
            __import__(name)
    control = socket.socket(fileno=int(sys.argv[1]))
    request = serve(control)
    if request is None:
        return
    control.detach()
    os.closerange(3, 1024)  # the zygote's own, and what it holds for other forks
    words, folder, variables = request["words"], request["folder"], request["variables"]
    assert isinstance(words, list)
    assert isinstance(folder, str)
    assert isinstance(variables, dict)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv[1:] = words
    sys.path.insert(0, folder)  # as `python -m` does
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
