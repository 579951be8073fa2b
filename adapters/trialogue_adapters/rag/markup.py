"""Markdown, reStructuredText, HTML and plain text, reduced to headings and paragraphs.

It keeps what a reader would read and drops what steers a renderer: no attempt at a full parser of any of them. Code
stays (it is searched) but is marked, so that nobody quotes it as a sentence. It never raises on odd input: the worst
document is one long paragraph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str
    code: bool = False


Block = Heading | Paragraph

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s+")
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$")
_RULE = re.compile(r"^([=\-~`'\"^*+#:.<>_])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*\.\.(\s|$)")
_PROSE = re.compile(r"^\s*(?:[-*+•]\s+|\d+[.)]\s+)?[\"'“(`*A-Z가-힣].*[.:!?)]$", re.DOTALL)


def parse(text: str, suffix: str) -> list[Block]:
    """Blocks of a document, by the suffix of its name."""
    match suffix:
        case ".md" | ".markdown":
            return _markdown(text)
        case ".rst":
            return _restructured(text)
        case ".html" | ".htm":
            return _html(text)
        case _:
            return [Paragraph(part.rstrip()) for part in re.split(r"\n\s*\n", text) if part.strip()]


# Markdown.


def _markdown(text: str) -> list[Block]:
    text = re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<!--.*?(?:-->|\Z)", "", text, flags=re.DOTALL)
    reader = _MarkdownReader()
    for line in text.splitlines():
        reader.line(line)
    reader.flush()
    return reader.blocks


class _MarkdownReader:
    """One line at a time; `_pending` is the paragraph, or the code, that is being read."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._pending: list[str] = []
        self._fence: str | None = None

    def line(self, line: str) -> None:
        mark = _FENCE.match(line)
        if self._fence is not None:
            if mark and mark[1].startswith(self._fence):
                self.flush()
                self._fence = None
            else:
                self._pending.append(line)
        elif mark:
            self.flush()
            self._fence = mark[1]
        elif heading := _ATX.match(line):
            self.flush()
            self.blocks.append(Heading(len(heading[1]), _markdown_inline(heading[2])))
        elif len(self._pending) == 1 and re.match(r"^(=+|-{2,})\s*$", line):
            self.blocks.append(Heading(1 if line.startswith("=") else 2, _markdown_inline(self._pending.pop())))
        elif not line.strip():
            self.flush()
        elif not _TABLE_RULE.match(line) and not _RULE.match(line):
            if _LIST_ITEM.match(line) or line.lstrip().startswith("|"):
                self.flush()
            self._pending.append(line)

    def flush(self) -> None:
        code = self._fence is not None
        joined = "\n".join(self._pending)
        self._pending.clear()
        if joined.strip():
            self.blocks.append(Paragraph(joined if code else _markdown_inline(joined), code))


def _markdown_inline(text: str) -> str:
    text = re.sub(r"^\s*>+ ?", "", text, flags=re.MULTILINE)
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"</?[a-zA-Z][^<>\n]*>", "", text)
    text = re.sub(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2", text, flags=re.DOTALL)
    if text.lstrip().startswith("|"):
        cells = re.split(r"(?<!\\)\|", text.strip().strip("|"))
        return " — ".join(cell.strip().replace("\\|", "|") for cell in cells if cell.strip())
    return text.strip()


# reStructuredText, and the text that pydoc ships, which is what Sphinx leaves of it.


def _restructured(text: str) -> list[Block]:
    lines = [line.expandtabs(8).rstrip() for line in text.splitlines()]
    blocks: list[Block] = []
    pending: list[str] = []
    levels: dict[str, int] = {}

    def flush() -> None:
        if pending:
            raw = "\n".join(pending)
            blocks.append(Paragraph(raw if _is_code(raw, blocks) else _rst_inline(raw), _is_code(raw, blocks)))
            pending.clear()

    i = 0
    while i < len(lines):
        line = lines[i]
        under = lines[i + 1] if i + 1 < len(lines) else ""
        if not pending and line and line[0] != " " and _RULE.match(under) and len(under.strip()) >= len(line) * 0.7:
            blocks.append(Heading(levels.setdefault(under[0], len(levels) + 1), _rst_inline(line)))
            i += 1
        elif not line or (_RULE.match(line) and not pending) or _DIRECTIVE.match(line):
            flush()
        else:
            if _LIST_ITEM.match(line):
                flush()
            pending.append(line)
        i += 1
    flush()
    return blocks


def _is_code(raw: str, before: list[Block]) -> bool:
    """An indented paragraph is code unless it reads like prose: a note or a list item is indented as well."""
    if not raw.startswith("  "):
        return "::=" in raw or raw.startswith((">>> ", "|", "+-"))
    prose = _PROSE.match(raw.strip()) is not None and len(raw.split()) >= 7 and "::=" not in raw
    introduced = bool(before) and isinstance(before[-1], Paragraph) and before[-1].text.endswith("::")
    return introduced or not prose


def _rst_inline(text: str) -> str:
    text = re.sub(r":[a-zA-Z:+-]+:`~?([^`<]+?)(?:\s*<[^>]*>)?`", r"`\1`", text)
    text = re.sub(r"`([^`<]+?)\s*<[^>]*>`__?", r"\1", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"(?<!\w)\*\*(\S.*?)\*\*", r"\1", text)
    return re.sub(r"::$", ":", text).strip()


# HTML.


class _Reader(HTMLParser):
    _SKIP = frozenset({"script", "style", "template", "noscript", "svg", "head"})
    _BREAK = frozenset(
        {"p", "div", "section", "article", "main", "header", "footer", "nav", "aside", "ul", "ol", "li", "dl", "dt"}
        | {
            "dd",
            "table",
            "tr",
            "blockquote",
            "figure",
            "figcaption",
            "hr",
            "form",
            "body",
            "html",
            "details",
            "summary",
        }
    )
    _VOID = frozenset({"br", "hr", "img", "input", "meta", "link"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.page_title = ""
        self._text: list[str] = []
        self._skipping: list[str] = []
        self._in_title = False
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._in_title = True
        elif tag in self._SKIP and tag not in self._VOID:
            self._skipping.append(tag)
        elif tag == "br":
            self._text.append("\n")
        elif tag in {"td", "th"}:
            self._text.append(" — " if "".join(self._text).strip() else "")
        elif tag == "pre":
            self.flush()
            self._pre += 1
        elif tag in self._BREAK or re.fullmatch(r"h[1-6]", tag):
            self.flush()

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in self._SKIP:
            if tag in self._skipping:
                del self._skipping[self._skipping.index(tag) :]
        elif tag == "pre":
            self.flush()
            self._pre = max(0, self._pre - 1)
        elif re.fullmatch(r"h[1-6]", tag):
            text = " ".join("".join(self._text).split())
            self._text.clear()
            if text:
                self.blocks.append(Heading(int(tag[1]), text))
        elif tag in self._BREAK:
            self.flush()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.page_title += data
        elif not self._skipping:
            self._text.append(data)

    def flush(self) -> None:
        raw = "".join(self._text)
        self._text.clear()
        text = raw.strip("\n") if self._pre else " ".join(raw.split())
        if text.strip():
            self.blocks.append(Paragraph(text, code=self._pre > 0))


def _html(text: str) -> list[Block]:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.flush()
    title = " ".join(reader.page_title.split())
    has_top = any(isinstance(block, Heading) and block.level == 1 for block in reader.blocks)
    return [Heading(1, title), *reader.blocks] if title and not has_top else reader.blocks
