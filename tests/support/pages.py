"""What the pages of the docs hold, for tests that hold them to it: fenced code blocks and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS, EXAMPLES = ROOT / "docs", ROOT / "examples"
GUIDE, KOREAN = DOCS / "websocket-api-guide.md", DOCS / "ko" / "websocket-api-guide.md"
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(EXAMPLES.glob("**/README.md")),
    *sorted(DOCS.glob("*.md")),
)
"""All that people read, but for the Korean guide."""


@dataclass(frozen=True, eq=False)
class Block:
    """A fenced block: where it is, its language, its directives and its text."""

    page: Path
    line: int
    language: str
    text: str
    directives: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.stem}:{self.line}-{self.language}"


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order. A fence that is not closed, or a block without a language, is an error."""
    blocks: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = re.fullmatch(r"(`{3,})(\w*)", lines[number])
        if opening:
            end = lines.index(opening[1], number + 1)
            assert opening[2], f"{page.name}:{number + 1}: a block without a language"
            text = "".join(f"{line}\n" for line in lines[number + 1 : end])
            blocks.append(Block(page, number + 1, opening[2], text, read_directives(lines[number - 1])))
            number = end
        number += 1
    return blocks


def read_directives(line: str) -> dict[str, str]:
    comment = re.fullmatch(r"<!-- (.*) -->", line)
    parts = comment[1].split("; ") if comment else []
    return {name: value.strip() for name, _, value in (part.partition(":") for part in parts)}


def texts(page: str, language: str) -> list[str]:
    """The texts of a page's blocks in that language, in order."""
    return [block.text for block in read_blocks(DOCS / page) if block.language == language]


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = page.read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[0].splitlines()[2:]]


@dataclass(frozen=True)
class WrittenPart:
    """The part of a page that a program writes: what stands between two marks."""

    page: Path
    begin: str
    end: str

    def committed(self) -> str:
        """As it stands in the page."""
        return self._cut()[1]

    def commit(self, text: str) -> None:
        """Put a text into the page, in place of the one there."""
        before, _, after = self._cut()
        self.page.write_text(before + self.begin + text + self.end + after, encoding="utf-8")

    def _cut(self) -> tuple[str, str, str]:
        before, begin, rest = self.page.read_text(encoding="utf-8").partition(self.begin)
        written, end, after = rest.partition(self.end)
        assert begin, f"{self.page} has no {self.begin!r}"
        assert end, f"{self.page} has no {self.end!r}"
        return before, written, after
