from __future__ import annotations

import os
from pathlib import Path

import pytest

from trialogue_adapters.rag import DocsError
from trialogue_adapters.rag.documents import MAX_BYTES, MAX_WORDS, TOPICS, find_documents, split

from .conftest import write


def names(folder: Path) -> list[str]:
    return [doc.name for doc in find_documents(folder)]


def test_kinds_order_and_relative_names(docs: Path) -> None:
    write(docs / "page.HTML", "<p>x</p>")
    write(docs / "notes.rst", "x")
    write(docs / "code.py", "x = 1")
    assert names(docs) == ["guide/shipping.txt", "ko.md", "notes.rst", "page.HTML", "refunds.md"]


def test_hidden_folders_large_files_and_dead_links_are_skipped(docs: Path) -> None:
    before = names(docs)
    write(docs / ".git" / "readme.md", "no")
    write(docs / "huge.txt", "x" * (MAX_BYTES + 1))
    (docs / "dead.md").symlink_to(docs / "nowhere.md")
    assert names(docs) == before


def test_a_symbolic_link_that_leads_back_ends(docs: Path) -> None:
    before = names(docs)
    (docs / "guide" / "up").symlink_to(docs, target_is_directory=True)
    assert names(docs) == before


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "latin"
    folder.mkdir()
    (folder / "a.txt").write_bytes("caf\xe9 cr\xe8me".encode("latin-1"))
    assert find_documents(folder)[0].read() == "caf\ufffd cr\ufffdme"
    (folder / "a.txt").write_bytes("\ufeffx".encode())
    assert find_documents(folder)[0].read() == "x"


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_a_folder_that_gives_nothing_is_named(tmp_path: Path, what: str) -> None:
    place = tmp_path / what
    if what == "empty":
        (place / ".hidden").mkdir(parents=True)
    if what == "file":
        place.write_text("x")
    with pytest.raises(DocsError, match=str(place)):
        find_documents(place)


def test_the_default_is_our_own_docs_and_pythons_topics() -> None:
    found = [doc.name for doc in find_documents(None)]
    assert {f"{TOPICS}with", f"{TOPICS}try"} <= set(found)
    assert len([name for name in found if name.startswith(TOPICS)]) > 60
    assert not [name for name in found if name.startswith("/") or ".." in name or os.sep + os.sep in name]


def test_passages_carry_their_trail_of_headings() -> None:
    title, passages = split("a.md", "# Book\n\nIntro.\n\n## Part\n\nText.\n\n### Deep\n\nMore.\n\n## Next\n\nEnd.\n")
    assert title == "Book"
    assert [(passage.title, passage.body) for passage in passages] == [
        ("Book", "Intro."),
        ("Book › Part", "Text."),
        ("Book › Part › Deep", "More."),
        ("Book › Next", "End."),
    ]


def test_a_document_without_a_heading_is_called_like_its_file() -> None:
    assert split("some/my_long-name.txt", "Text.")[1][0].title == "my long name"


def test_long_sections_are_cut_between_paragraphs_and_sentences() -> None:
    sentence = "This sentence has exactly eight words in it. "
    _, passages = split("a.txt", f"{sentence * 60}\n\n{sentence * 12}\n\n{sentence * 12}")
    sizes = [len(passage.body.split()) for passage in passages]
    assert sum(sizes) == 84 * 8
    assert all(40 <= size <= MAX_WORDS for size in sizes)
    assert all(passage.body.endswith(".") for passage in passages)
    assert [passage.lead for passage in passages] == [True, *[False] * (len(sizes) - 1)]


def test_one_endless_word_and_endless_code_are_cut_too() -> None:
    _, passages = split("a.txt", "word " * 1_000)
    assert max(len(passage.body.split()) for passage in passages) <= MAX_WORDS
    _, passages = split("a.md", "```\n" + "x = 1\n" * 500 + "```\n")
    assert max(len(passage.body.split()) for passage in passages) <= MAX_WORDS
    assert all(line.startswith("    ") for passage in passages for line in passage.body.splitlines())


def test_topics_are_recognised() -> None:
    topic = next(doc for doc in find_documents(None) if doc.name == f"{TOPICS}with")
    title, passages = split(topic.name, topic.read())
    assert title == 'Python: with › The "with" statement'
    assert passages[0].lead
    assert passages[0].body.startswith('The "with" statement is used to wrap')
