"""What a model, a document or a server says, made harmless for a terminal.

An answer is untrusted: an escape sequence in it could retitle the window, fill the clipboard or hide what was said. So
no control character of it reaches the terminal, and nothing that turns the direction of text; they show as U+FFFD.
"""

from __future__ import annotations

SHOWN_AS = "\N{REPLACEMENT CHARACTER}"
_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t"), ord("\r")}
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_SURROGATES = range(0xD800, 0xE000)
_TABLE: dict[int, str | None] = dict.fromkeys((*_CONTROLS, *_DIRECTIONS, *_SURROGATES), SHOWN_AS)
_TABLE[ord("\r")] = None  # of a line's end; alone it would overwrite what stands there
_TABLE[0x2028] = _TABLE[0x2029] = "\n"


def clean(text: str) -> str:
    """The text without anything but characters, tabs and newlines. Piece by piece it gives the same as at once."""
    return text.translate(_TABLE)
