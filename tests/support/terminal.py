"""A program in a real pseudo-terminal: it is typed into, and its screen is read as a person reads it.

pexpect runs it; pyte is the terminal: it interprets every sequence, keeps what has scrolled away, and answers what
programs ask terminals.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

import pexpect
import pyte

PATIENCE = 8.0
CTRL_C, CTRL_D = "\x03", "\x04"
ROWS, COLUMNS = 30, 90


class Terminal:
    """`raw` is every byte that the program has written."""

    def __init__(self, words: Sequence[str], variables: Mapping[str, str]) -> None:
        self.raw = bytearray()
        self._child = pexpect.spawn(words[0], list(words[1:]), dimensions=(ROWS, COLUMNS), env=dict(variables))  # type: ignore[arg-type]
        self._screen = pyte.HistoryScreen(COLUMNS, ROWS, history=2000)
        self._screen.write_process_input = self.type  # type: ignore[method-assign]
        self._stream = pyte.ByteStream(self._screen)

    def __repr__(self) -> str:
        return f"<Terminal\n{self.text()}\n>"

    def type(self, text: str) -> None:
        self._child.send(text)

    def resize(self, columns: int) -> None:
        self._screen.resize(ROWS, columns)
        self._child.setwinsize(ROWS, columns)

    def text(self) -> str:
        """All that stands on the screen, after all that has scrolled away; blank lines left out."""
        gone = [
            "".join(line[column].data for column in range(self._screen.columns)) for line in self._screen.history.top
        ]
        return "\n".join(line.rstrip() for line in [*gone, *self._screen.display] if line.strip())

    def last_line(self) -> str:
        """The one with the cursor: where the user types."""
        return self._screen.display[self._screen.cursor.y].rstrip()

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something is true of the screen. Raises AssertionError with what stands there instead."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"{what} did not come: {self!r}"
            self.read()

    def until_ready(self) -> None:
        """Wait for the empty line that is typed into."""
        self.until(lambda: self.last_line() == ">", "the input line")

    def until_shown(self, *texts: str) -> None:
        """Wait until all of these stand there, in this order."""
        self.until(lambda: _in_order(self.text(), texts), f"{texts}")

    def read(self) -> bool:
        """Take what the program writes now. False: it has ended."""
        try:
            data = self._child.read_nonblocking(65536, 0.02)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def exit_code(self) -> int:
        """Waited for."""
        deadline = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < deadline, f"the program goes on: {self!r}"
        self._child.close()
        return int(self._child.exitstatus if self._child.exitstatus is not None else -self._child.signalstatus)

    def kill(self) -> None:
        self._child.close(force=True)


def _in_order(text: str, wanted: Sequence[str]) -> bool:
    place = 0
    for one in wanted:
        place = text.find(one, place)
        if place < 0:
            return False
        place += len(one)
    return True


@contextmanager
def chatting(url: str, *flags: str, **variables: str) -> Generator[Terminal]:
    """`trialogue chat URL` in a terminal, for the length of the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRIALOGUE_", "NO_COLOR", "LC_"))}
    words = [sys.executable, "-m", "trialogue_adapters", "chat", url, *flags]
    terminal = Terminal(words, {**kept, "TERM": "xterm-256color", "LANG": "en_US.UTF-8", **variables})
    try:
        yield terminal
    finally:
        terminal.kill()
