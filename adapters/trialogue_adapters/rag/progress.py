"""A progress bar for a long index: one line on a terminal, nothing anywhere else, nothing when it is quick.

It is called from the indexing thread and only writes to the stream that it was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

QUIET_SECONDS = 0.5
REDRAW_SECONDS = 0.05
WIDTH = 30


def progress_bar(stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> Callable[[int, int], None]:
    """A `progress(done, total)` that draws on `stream` once indexing has taken half a second, and wipes itself."""
    began: float | None = None
    drawn = 0.0
    visible = False

    def progress(done: int, total: int) -> None:
        nonlocal began, drawn, visible
        now = clock()
        began = now if began is None else began
        if not stream.isatty() or now - began < QUIET_SECONDS:
            return
        if done >= total:
            stream.write("\r\x1b[K" if visible else "")
            visible = False
        elif now - drawn >= REDRAW_SECONDS or not visible:
            filled = WIDTH * done // max(1, total)
            stream.write(f"\rindexing [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total} documents\x1b[K")
            drawn, visible = now, True
        stream.flush()

    return progress
