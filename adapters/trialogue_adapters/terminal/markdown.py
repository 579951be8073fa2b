"""Markdown as terminals show it, while it is still coming in.

A block is *settled* when the next one has begun: nothing that comes can change it, so it is printed once and scrolls
away. Only the last one is drawn again and again. Whatever is painted has been cleaned, also after Markdown's entities
were decoded: the only escape sequences that come out of here are rich's styles.
"""

from __future__ import annotations

from io import StringIO
from typing import Literal

from markdown_it import MarkdownIt
from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.segment import Segment, Segments
from rich.text import Text

from trialogue_adapters.terminal.clean import clean

ColorSystem = Literal["standard", "256", "truecolor"] | None
MAX_FORMATTED = 8_000
"""Characters of the last block; a longer one (a listing) is drawn plain until it is settled: formatting takes time."""


class Painter:
    """Paints for a terminal of `width` columns, which may change between two calls."""

    def __init__(self, color_system: ColorSystem, width: int = 80) -> None:
        self.width = width
        self._color_system = color_system
        self._parser = MarkdownIt().enable("strikethrough").enable("table")  # as rich's own

    def settled(self, source: str) -> int:
        """How many characters of a growing Markdown text, cleaned, are settled."""
        starts = [token.map[0] for token in self._parser.parse(source) if token.level == 0 and token.map]
        lines = source.split("\n")[: max(starts, default=0)]
        return sum(len(line) + 1 for line in lines)

    def blocks(self, source: str) -> str:
        """Formatted, and ending with a newline; "" for blank Markdown."""
        return self._paint(Markdown(clean(source), hyperlinks=False, code_theme="ansi_dark")) if source.strip() else ""

    def tail(self, source: str) -> str:
        """As `blocks`, for a block that may go on, and may be long."""
        if len(source) > MAX_FORMATTED:
            return self.line(source[-MAX_FORMATTED:])
        return self.blocks(source)

    def line(self, text: str, style: str = "") -> str:
        """Plain text in one style, wrapped, and ending with a newline."""
        return self._paint(Text(text, style, overflow="fold"))

    def _paint(self, what: RenderableType) -> str:
        console = Console(
            file=StringIO(),
            width=max(self.width - 1, 10),
            force_terminal=True,
            color_system=self._color_system,
            legacy_windows=False,
            _environ={},
        )
        segments = (Segment(clean(part.text), part.style) for part in console.render(what) if not part.control)
        with console.capture() as captured:
            console.print(Segments(segments), end="")
        lines = [line.rstrip() for line in captured.get().splitlines()]
        while lines and not lines[0]:
            del lines[0]
        while lines and not lines[-1]:
            del lines[-1]
        return "".join(f"{line}\n" for line in lines)
