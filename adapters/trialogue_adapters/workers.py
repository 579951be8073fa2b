"""Several processes behind one listening socket: started, watched, started again if they crash, and ended together.

The parent does nothing else: it holds no sessions and runs no loop, so nothing that a client sends can reach it. It
forks before anything is loaded. A worker is in a process group of its own, so Ctrl-C reaches the parent alone, which
passes it on; and when the parent is gone, however that came about, the workers drain.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

logger = logging.getLogger(__name__)

BACKLOG = 1024
RESTART_SECONDS = 1.0
"""How long after its crash a worker is started again: one that crashes at once must not fill the machine."""

LOOK_SECONDS = 0.1

STOPPING = (signal.SIGTERM, signal.SIGINT)
WATCHED = (*STOPPING, signal.SIGCHLD)

Ready = Callable[[str], None]
Work = Callable[[int, socket.socket, Ready], object]
"""What a worker does: its number, from 0, the socket to accept from, and whom to tell the address once it does.
Returning is exit code 0; SystemExit says another."""


def listen(host: str, port: int) -> socket.socket:
    """The socket that the workers share. Raises OSError."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class Workers:
    """`count` processes that do `work`. `announce` is told the address when all of them accept."""

    def __init__(self, count: int, sock: socket.socket, work: Work, announce: Ready) -> None:
        self._count = count
        self._sock = sock
        self._work = work
        self._announce = announce
        self._numbers: dict[int, int] = {}  # by process id
        self._code = 0
        self._alive, self._parent = os.pipe()  # whose end is ours alone: it closes when we are gone

    def __repr__(self) -> str:
        return f"<Workers {sorted(self._numbers)} of {self._count}>"

    def run(self) -> int:
        """Until a signal has ended them all. Returns the exit code: 0, or the greatest of the workers'."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        address = self._start()
        if address is not None:
            self._announce(address)
            self._watch()
        self._end()
        return self._code

    def _start(self) -> str | None:
        """Start them all, and wait until they accept. Returns the address; None if one has failed, or we are to end."""
        waiting = {self._spawn(number) for number in range(self._count)}
        address = ""
        while waiting:
            if signal.sigtimedwait(STOPPING, 0):
                return None
            for pipe in select.select(list(waiting), [], [], LOOK_SECONDS)[0]:
                said = os.read(pipe, 1024).decode()
                os.close(pipe)
                waiting.discard(pipe)
                if not said:
                    return None
                address = said
        return address

    def _spawn(self, number: int) -> int:
        """Fork. Returns the pipe over which the worker says its address."""
        heard, said = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(heard)
            self._become_worker(number, said)
        os.close(said)
        self._numbers[pid] = number
        return heard

    def _become_worker(self, number: int, said: int) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)
            os.close(self._parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            threading.Thread(target=self._outlive, daemon=True).start()
            self._work(number, self._sock, lambda address: _say(said, address))
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        finally:
            os._exit(code)

    def _outlive(self) -> None:
        """Drain when the parent has gone."""
        os.read(self._alive, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _watch(self) -> None:
        """Start again what crashes, until we are to stop."""
        again: list[tuple[float, int]] = []
        while True:
            happened = signal.sigtimedwait(WATCHED, LOOK_SECONDS if again else RESTART_SECONDS)
            if happened and happened.si_signo in STOPPING:
                return
            for number, code in self._reap():
                logger.error("worker %d has ended with %d; it is started again", number, code)
                again.append((time.monotonic() + RESTART_SECONDS, number))
            while again and again[0][0] <= time.monotonic():
                os.close(self._spawn(again.pop(0)[1]))

    def _reap(self) -> list[tuple[int, int]]:
        """The workers that have ended: number and exit code, negative for a signal."""
        ended = []
        for pid in tuple(self._numbers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                ended.append((self._numbers.pop(pid), os.waitstatus_to_exitcode(status)))
        return ended

    def _end(self) -> None:
        """Tell them to drain, and wait until all have ended. A second signal is passed on: they leave at once, then."""
        self._pass_on(signal.SIGTERM)
        while self._numbers:
            happened = signal.sigtimedwait(WATCHED, RESTART_SECONDS)
            if happened and happened.si_signo in STOPPING:
                self._pass_on(happened.si_signo)
            for _, code in self._reap():
                if -code not in STOPPING:  # one that was told to end before it had begun has done so
                    self._code = max(self._code, code if code >= 0 else 128 - code)

    def _pass_on(self, number: int) -> None:
        for pid in self._numbers:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _say(pipe: int, address: str) -> None:
    with suppress(BrokenPipeError):  # one that was started again: nobody listens
        os.write(pipe, address.encode())
    os.close(pipe)
