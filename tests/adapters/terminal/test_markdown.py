"""Markdown that is still coming in: what is settled stays, and what is painted is harmless."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.talker import MARKDOWN
from trialogue_adapters.terminal import markdown as module
from trialogue_adapters.terminal.clean import clean
from trialogue_adapters.terminal.markdown import Painter

STYLES = re.compile(r"\x1b\[[0-9;]*m")


@given(ends=st.sets(st.integers(0, len(clean(MARKDOWN)))))
def test_settled_blocks_are_those_of_the_whole(ends: set[int]) -> None:
    """However it is cut, what is printed block by block is what the whole text would be."""
    painter, source = Painter(None), clean(MARKDOWN)
    printed, settled = "", 0
    for end in [*sorted(ends), len(source)]:
        rest = source[settled:end]
        done = painter.settled(rest)
        printed += painter.blocks(rest[:done])
        settled += done
    printed += painter.blocks(source[settled:])
    assert printed.split() == painter.blocks(source).split()


@pytest.mark.parametrize(
    ("source", "settled"),
    [
        ("", 0),
        ("one", 0),
        ("one\n\n", 0),
        ("one\n\ntwo", 5),
        ("- a\n- b\n\n", 0),
        ("```\na\n\nb\n", 0),
        ("# h\nx", 4),
        ("a\x0bb\n\nc", 5),
    ],
)
def test_settled(source: str, settled: int) -> None:
    assert Painter(None).settled(source) == settled


@given(st.text(st.characters() | st.sampled_from("\x1b\x9b\x07&#x1b;[]0`*\n")))
def test_only_styles_come_out(source: str) -> None:
    for painted in (Painter("truecolor").blocks(source), Painter("truecolor").line(source)):
        plain = STYLES.sub("", painted)
        assert plain == clean(plain)
        assert not plain or plain.endswith("\n")


def test_a_long_last_block_is_drawn_plain_until_it_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FORMATTED", 20)
    painter = Painter("standard")
    assert "\x1b[" in painter.tail("**bold** text")
    assert painter.tail("**bold** " + "x" * 20) == "x" * 20 + "\n"


def test_no_colours_if_none_are_wanted() -> None:
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]m", Painter(None).blocks("```python\ndef f(): pass\n```"))
