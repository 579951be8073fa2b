"""The pages as a whole: each can be found, each link leads somewhere, two languages say the same, words are plain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pages import DOCS, GUIDE, KOREAN, PAGES, ROOT, read_blocks, rows

MAP = DOCS / "README.md"
EVERY = (*PAGES, KOREAN)
FENCED = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)

PEERS = ("fastapi_app.py", "socketio_app.py", "ws_server.js", "picows_server.py")

LONGEST = 50
"""Words of a sentence."""

INSTEAD = {
    r"abort\w*": "cancel, or stop",
    r"bailed|bails?": "stop",
    r"client-?side session|conversation thread": "session",
    r"subscri\w+": "follow, follower",
    r"replay buffer|event store|message bus": "log",
    r"preempt\w*|barge\w*": "interrupt",
    r"utili[sz]\w+|leverag\w+": "use",
    r"simply|easily|effortless\w*|seamless\w*|blazing\w*|powerful|robust\w*|elegant\w*|cutting[- ]edge|rich": "nothing",
    r"production[- ](?:ready|grade)|enterprise[- ]\w+|state[- ]of[- ]the[- ]art|(?:best|world)[- ]class": "a figure",
    r"in order to": "to",
    r"please note|note that": "nothing",
}
"""Words that the pages do without: other names for what DESIGN has one word for, and words that sell."""


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Without code, comments, and what stands in backticks."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`]+`", "`…`", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))


def links(page: Path) -> Iterator[str]:
    """Where the page's links and pictures lead, within the repository."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    yield from (target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target)


def slug(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", FENCED.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in map(slug, headings), target


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=named)
def test_a_page_begins_with_its_name_and_ways_to_others(page: Path) -> None:
    title, gap, ways, *_ = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert gap == ""
    if page != MAP:
        first, *others = ways.split(" · ")
        assert first == f"[{'모든 문서' if page == KOREAN else 'All pages'}]({'../' * (page == KOREAN)}README.md)"
        assert 1 <= len(others) <= 6
        assert all(re.fullmatch(r"\[[^]]+\]\([^)]+\)", way) for way in others)


def test_the_map_has_a_line_for_each_page() -> None:
    mapped = {(DOCS / target.partition("#")[0]).resolve() for target in links(MAP)}
    missing = [named(page) for page in (*DOCS.rglob("*.md"), ROOT / "examples" / "README.md") if page not in mapped]
    assert missing == [named(MAP)], "docs/README.md has a line for every page but itself"
    assert "docs/README.md" in set(links(ROOT / "README.md"))


def test_the_map_calls_pages_by_their_names() -> None:
    for name, target in re.findall(r"^\| \[([^]]+)\]\(([^)#]+)\)", MAP.read_text(encoding="utf-8"), re.MULTILINE):
        title = (DOCS / target).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert name == title, target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_words_are_plain(page: Path) -> None:
    text = prose(page)
    for words, better in INSTEAD.items():
        found = re.search(rf"\b(?:{words})\b", text, re.IGNORECASE)
        assert not found, f"{found[0]!r}: say {better}" if found else ""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_sentences_can_be_read_at_one_go(page: Path) -> None:
    for paragraph in re.split(r"\n\s*\n|^(?:[-*]|\d+\.) |^\|.*$|^#+ .*$", prose(page), flags=re.MULTILINE):
        for sentence in re.split(r"(?<=[.!?:;])\s", " ".join(paragraph.split())):
            assert len(sentence.split()) <= LONGEST, sentence


def test_the_readme_s_figures_were_measured() -> None:
    """They stand in the table of docs/performance.md that was measured in one run, and peers are as long as told."""
    measured = {row[0].strip(): row for row in rows(DOCS / "performance.md", "## What is compared")}
    for name, frame, cpu, idle, _ in rows(ROOT / "README.md", "## How it compares"):
        row = [cell.strip() for cell in measured[name.strip("| ")]]
        assert (cpu, idle) == (row[3], f"{row[6]} KB")
        assert frame == f"{row[5].split(' / ')[0]} ms"
    peers = [len((ROOT / "bench" / "peers" / name).read_text().splitlines()) for name in PEERS]
    assert f"in {min(peers)} to {max(peers)} lines" in prose(ROOT / "README.md")


def skeleton(page: Path) -> list[str]:
    """Headings' levels, tables' rows and blocks, in order: what two languages of a page have in common."""
    found = re.findall(
        r"^(?:#+ |BLOCK|\|(?=.)|- |<!-- .* -->)", FENCED.sub("BLOCK", page.read_text(encoding="utf-8")), re.MULTILINE
    )
    return list(found)


def test_the_korean_guide_is_the_same_guide() -> None:
    ours, theirs = read_blocks(GUIDE), read_blocks(KOREAN)
    assert [(block.language, block.text, block.directives) for block in theirs] == [
        (block.language, block.text, block.directives) for block in ours
    ]
    assert skeleton(KOREAN) == skeleton(GUIDE)
