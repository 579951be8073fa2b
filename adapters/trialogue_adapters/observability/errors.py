"""An exception as a log may show it: its types and places, and not its text.

The text of an exception is written by whoever raises it, and often quotes what it could not digest: a user's question,
a document, a key. Types, files, lines and functions come from code alone, and nearly always say where to look. Errors
of our own, which are worded for operators, keep their text; so does the number of an operating system's error.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator

MAX_FRAMES = 20
"""The innermost ones are shown."""


def name_of(error: BaseException) -> str:
    """Its type, and of its text what cannot be somebody's."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.partition(".")[0] in ("trialogue", "trialogue_adapters"):
        return f"{name}: {error}"
    if isinstance(error, OSError) and isinstance(error.errno, int) and error.errno in errno.errorcode:
        return f"{name} ({errno.errorcode[error.errno]})"
    return name


def describe(error: BaseException) -> str:
    """Several lines: what it is and where it was raised; then what it came from, and the members of a group."""
    return "\n".join(_lines(error, set()))


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    if id(error) in seen:
        return
    seen.add(id(error))
    yield name_of(error)
    for frame, line in list(traceback.walk_tb(error.__traceback__))[-MAX_FRAMES:]:
        yield f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from (f"  | {line}" for line in _lines(member, seen))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from (f"from {line}" if number == 0 else line for number, line in enumerate(_lines(cause, seen)))
