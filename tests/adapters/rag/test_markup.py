from __future__ import annotations

import time

import pytest

from trialogue_adapters.rag.markup import Heading, Paragraph, parse


def test_markdown() -> None:
    text = (
        "---\ntitle: x\n---\n# Top *one* #\n\nA [link](http://x) and **bold**,\nsecond line.<br>\n\n"
        "<!-- hidden\n\nstill -->\n"
        "- item one\n- item two\n\n```python\n# no heading\n\nx = 1\n```\n\nUnder\n-----\n> quoted\n"
    )
    assert parse(text, ".md") == [
        Heading(1, "Top *one*"),
        Paragraph("A link and bold,\nsecond line."),
        Paragraph("- item one"),
        Paragraph("- item two"),
        Paragraph("# no heading\n\nx = 1", code=True),
        Heading(2, "Under"),
        Paragraph("quoted"),
    ]


def test_markdown_tables_become_lines() -> None:
    assert parse("| a | b |\n|---|:--:|\n| 1 | x \\| y |\n", ".md") == [Paragraph("a — b"), Paragraph("1 — x | y")]


def test_an_open_fence_and_an_open_comment_end_with_the_document() -> None:
    assert parse("~~~\ncode", ".md") == [Paragraph("code", code=True)]
    assert parse("text\n\n<!-- open", ".md") == [Paragraph("text")]


def test_restructured_text() -> None:
    text = (
        "=====\nTitle\n=====\n\nUse :func:`~x.run` or ``go``, see `the site <http://x>`_.\n\nPart\n----\n\n"
        ".. note::\n\n   This note reads like prose and is kept as such.\n\nExample::\n\n   x = 1\n\n"
        "1. First one\n2. Second one\n"
    )
    assert parse(text, ".rst") == [
        Heading(1, "Title"),
        Paragraph("Use `x.run` or `go`, see the site."),
        Heading(2, "Part"),
        Paragraph("This note reads like prose and is kept as such."),
        Paragraph("Example:"),
        Paragraph("   x = 1", code=True),
        Paragraph("1. First one"),
        Paragraph("2. Second one"),
    ]


def test_html_without_its_machinery() -> None:
    text = (
        "<html><head><title>Page</title><style>p{}</style></head><body><script>evil()</script>"
        "<h2>Part&nbsp;A</h2><p>One<br>two &amp; three<p>Four</p><pre>a\n  b</pre><table><tr><td>x<td>y</table></body>"
    )
    assert parse(text, ".html") == [
        Heading(1, "Page"),
        Heading(2, "Part A"),
        Paragraph("One two & three"),
        Paragraph("Four"),
        Paragraph("a\n  b", code=True),
        Paragraph("x — y"),
    ]


def test_plain_text_is_paragraphs() -> None:
    assert parse("a\nb\n\n\nc\n", ".txt") == [Paragraph("a\nb"), Paragraph("c")]


@pytest.mark.parametrize("suffix", [".md", ".rst", ".html", ".txt"])
@pytest.mark.parametrize("unit", ["<!--", "**a", "[", "`x <", "<p><b ", "=\n", "```\n", "\x00\ufffd|", "- a\n  "])
def test_odd_input_is_neither_an_error_nor_slow(suffix: str, unit: str) -> None:
    began = time.perf_counter()
    parse(unit * 2_000, suffix)
    assert time.perf_counter() - began < 2
