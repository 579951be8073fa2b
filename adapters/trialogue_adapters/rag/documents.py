"""Which documents there are, and how each is cut into passages of 120 to 200 words under its trail of headings.

Walking and cutting are apart because the index walks always and cuts only what changed. A document's name is its
path relative to the docs folder, with forward slashes: no path of this machine may ever reach a client. What cannot
be read is skipped; only a folder without a single readable document is an error, and it is named.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import DocsError
from .markup import Block, Heading, Paragraph, parse
from .text import sentences

SUFFIXES = frozenset({".md", ".markdown", ".txt", ".rst", ".html", ".htm"})
MAX_BYTES = 5 * 1024 * 1024
TARGET_WORDS = 160
MAX_WORDS = 200
MIN_WORDS = 40
CODE_INDENT = "    "
TOPICS = "pydoc_data/topics/"


@dataclass(frozen=True, slots=True)
class Found:
    """A document before it is read: enough to tell whether the index knows it already."""

    name: str
    size: int
    mtime_ns: int
    path: Path | None
    text: str = ""

    def read(self) -> str:
        """Its text; bytes that are no UTF-8 become replacement characters rather than an error."""
        if self.path is None:
            return self.text
        return self.path.read_bytes()[:MAX_BYTES].decode("utf-8-sig", errors="replace")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: `title` is its trail of headings, code in `body` is indented by four spaces."""

    title: str
    body: str
    lead: bool  # the first under its heading, where things are usually defined


def default_sources() -> list[tuple[str, Path]]:
    """Where our own documents are: in the wheel beside this file, else at the root of an editable checkout."""
    packed = Path(__file__).parent / "own_docs"
    root = packed if packed.is_dir() else Path(__file__).resolve().parents[3]
    return [("docs/", root / "docs"), ("", root / "README.md")]


def find_documents(docs: Path | None) -> list[Found]:
    """Everything to be indexed, in a stable order; with no folder given, our own docs and Python's topics."""
    if docs is None:
        found = [doc for prefix, place in default_sources() if place.exists() for doc in _walk(place, prefix)]
        return sorted(found, key=lambda doc: doc.name) + list(_topics())
    if not docs.exists():
        raise DocsError(f"the documents folder {docs} does not exist")
    if not docs.is_dir():
        raise DocsError(f"{docs} is not a folder: --docs wants one")
    found = sorted(_walk(docs, ""), key=lambda doc: doc.name)
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        raise DocsError(f"the documents folder {docs} holds no readable document ({kinds}, up to 5 MiB each)")
    return found


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()


def split(name: str, text: str) -> tuple[str, list[Passage]]:
    """(the document's title, its passages)."""
    topic = name.removeprefix(TOPICS) if name.startswith(TOPICS) else ""
    blocks = parse(text, ".rst" if topic else Path(name).suffix.lower())
    first = next((block.text for block in blocks if isinstance(block, Heading)), "")
    title = first or (topic or Path(name).stem.replace("-", " ").replace("_", " "))
    if topic:
        title = f"Python: {topic} › {first}" if first else f"Python: {topic}"
    passages: list[Passage] = []
    for trail, paragraphs in _sections(blocks):
        heading = " › ".join(dict.fromkeys([title, *trail[1 if trail[:1] == [first] else 0 :]]))
        passages.extend(Passage(heading, body, lead=i == 0) for i, body in enumerate(_bodies(paragraphs)))
    return title, passages


def _walk(place: Path, prefix: str) -> Iterator[Found]:
    if place.is_file():
        yield from _one(place, prefix + place.name)
        return
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(place, followlinks=True):
        here = Path(folder).stat()
        if (here.st_dev, here.st_ino) in seen:  # a symbolic link that leads back up, or twice to one place
            subfolders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        subfolders[:] = sorted(sub for sub in subfolders if not sub.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            yield from _one(path, prefix + path.relative_to(place).as_posix())


def _one(path: Path, name: str) -> Iterator[Found]:
    if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
        return
    try:
        stat = path.stat()
    except OSError:  # vanished meanwhile, or a link to nowhere
        return
    if path.is_file() and stat.st_size <= MAX_BYTES and os.access(path, os.R_OK):
        yield Found(name, stat.st_size, stat.st_mtime_ns, path)


def _topics() -> Iterator[Found]:
    from pydoc_data.topics import topics

    for key, text in sorted(topics.items()):
        yield Found(f"{TOPICS}{key}", len(text), 0, None, text)


def _sections(blocks: list[Block]) -> Iterator[tuple[list[str], list[Paragraph]]]:
    trail: list[tuple[int, str]] = []
    under: list[Paragraph] = []
    for block in blocks:
        if isinstance(block, Heading):
            if under:
                yield [text for _, text in trail], under
            trail = [(level, text) for level, text in trail if level < block.level]
            trail.append((block.level, block.text))
            under = []
        else:
            under.append(block)
    if under:
        yield [text for _, text in trail], under


def _bodies(paragraphs: list[Paragraph]) -> Iterator[str]:
    parts: list[str] = []
    words = 0
    for piece in (piece for paragraph in paragraphs for piece in _pieces(paragraph)):
        size = len(piece.split())
        if parts and words + size > (MAX_WORDS if words < MIN_WORDS else TARGET_WORDS):
            yield "\n\n".join(parts)
            parts, words = [], 0
        parts.append(piece)
        words += size
    if parts:
        yield "\n\n".join(parts)


def _pieces(paragraph: Paragraph) -> Iterator[str]:
    """A paragraph, in parts of at most MAX_WORDS: prose is cut between sentences, code between lines."""
    if paragraph.code:
        units, glue = [CODE_INDENT + line for line in paragraph.text.splitlines() if line.strip()], "\n"
    elif len(paragraph.text.split()) <= MAX_WORDS:
        yield " ".join(paragraph.text.split())
        return
    else:
        units, glue = [part for sentence in sentences(paragraph.text) for part in _by_words(sentence)], " "
    piece: list[str] = []
    words = 0
    for unit in units:
        size = len(unit.split())
        if piece and words + size > MAX_WORDS:
            yield glue.join(piece)
            piece, words = [], 0
        piece.append(unit)
        words += size
    if piece:
        yield glue.join(piece)


def _by_words(sentence: str) -> Iterator[str]:
    words = sentence.split()
    for i in range(0, len(words), MAX_WORDS):
        yield " ".join(words[i : i + MAX_WORDS])
