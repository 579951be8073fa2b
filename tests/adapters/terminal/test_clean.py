"""Nothing that steers a terminal gets through, in whatever pieces it comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trialogue_adapters.terminal.clean import SHOWN_AS, clean

STEERS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u202e", "\u2066", "\ud800"]


def test_what_is_seen_instead() -> None:
    assert clean("a\tb\r\nc\x1b[31m\x9b\x07\u202e\ud800안녕👩‍👧") == f"a\tb\nc{SHOWN_AS}[31m{SHOWN_AS * 4}안녕👩‍👧"


@given(st.lists(st.text(st.characters() | st.sampled_from(STEERS))))
def test_piece_by_piece_is_the_same_as_at_once(pieces: list[str]) -> None:
    whole = clean("".join(pieces))
    assert "".join(map(clean, pieces)) == whole == clean(whole)
    assert not {*whole} & {*STEERS} - {"\t", "\n"}
    whole.encode()
