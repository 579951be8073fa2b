"""How much CPU the server and the load used between two moments, by the clock of each."""

from __future__ import annotations

import time

from common.process import Server


class Stopwatch:
    """Wall time, the server's CPU and our own between two moments."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._marks = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), self._server.cpu(), time.process_time()

    def read(self) -> tuple[float, float, float]:
        """Seconds of wall time, of the server's CPU, and of the load's CPU."""
        wall, server, load = (now - then for now, then in zip(self._now(), self._marks, strict=True))
        return wall, server, load
