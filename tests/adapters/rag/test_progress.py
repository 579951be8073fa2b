from __future__ import annotations

import io

from trialogue_adapters.rag import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def draw(stream: io.StringIO, seconds: list[float]) -> str:
    clock = iter(seconds)
    progress = progress_bar(stream, clock=lambda: next(clock))
    for n in range(1, len(seconds) + 1):
        progress(n, len(seconds))
    return stream.getvalue()


def test_a_long_index_gets_a_bar_that_wipes_itself() -> None:
    text = draw(Terminal(), [0.0, 0.6, 0.61, 0.7, 0.8])
    assert text.count("documents") == 2  # not at 0.61: too soon to be drawn again
    assert "\rindexing [############..................] 2/5 documents" in text
    assert text.endswith("\r\x1b[K")


def test_a_quick_one_gets_nothing() -> None:
    assert draw(Terminal(), [0.0, 0.1, 0.2]) == ""


def test_what_is_no_terminal_gets_nothing() -> None:
    assert draw(io.StringIO(), [0.0, 1.0, 2.0, 3.0]) == ""
