"""`errors.py`: types and places of an exception, and of its text what cannot be somebody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from trialogue_adapters.auth import Misconfigured
from trialogue_adapters.observability.errors import MAX_FRAMES, describe, name_of

SECRET = "my-daughter-is-ill"


class Guest(Exception):
    """An exception of somebody's."""


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_a_name_has_no_text_but_ours_and_the_system_s_number() -> None:
    assert name_of(ValueError(SECRET)) == "ValueError"
    assert name_of(Guest(SECRET)).endswith("test_errors.Guest")
    assert name_of(FileNotFoundError(2, SECRET, SECRET)) == "FileNotFoundError (ENOENT)"
    assert name_of(OSError(SECRET)) == "OSError"
    assert name_of(Misconfigured("--auth jwt needs a key")).endswith("Misconfigured: --auth jwt needs a key")


def test_places_causes_and_members() -> None:
    first = raised(KeyError(SECRET))
    group = ExceptionGroup(SECRET, [first, ValueError(SECRET)])  # type: ignore[list-item]
    group.add_note(SECRET)
    told = describe(raised(group, cause=raised(OSError(13, SECRET))))
    assert SECRET not in told
    lines = told.splitlines()
    assert lines[0] == "ExceptionGroup"
    assert lines[1].startswith(f"  {Path(__file__)}:")
    assert lines[1].endswith(" in raised")
    assert lines[2] == "  | KeyError"
    assert "  | ValueError" in lines
    assert lines[-2] == "from PermissionError (EACCES)"


def test_rings_and_depths_are_bounded() -> None:
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
    assert describe(one) == "ValueError\nfrom ValueError"

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError(SECRET)

    with pytest.raises(ValueError, match=SECRET) as caught:
        deep(100)
    assert len(describe(caught.value).splitlines()) == 1 + MAX_FRAMES


def test_a_context_that_was_suppressed_is_not_told() -> None:
    with pytest.raises(Guest) as caught:
        fail(quietly=True)
    assert "KeyError" not in describe(caught.value)
    with pytest.raises(Guest) as caught:
        fail(quietly=False)
    assert "from KeyError" in describe(caught.value)


def fail(*, quietly: bool) -> None:
    try:
        raise KeyError
    except KeyError:
        if quietly:
            raise Guest from None
        raise Guest  # noqa: B904 - that is the case
