"""`names.py`: a hash tells names apart, is the same everywhere, and nothing without the key."""

from __future__ import annotations

from typing import Any

import pytest

from trialogue_adapters.observability.names import HASH_BYTES, as_attributes, hashing, hide_names, plain


def test_the_same_name_has_the_same_hash_with_the_same_key_only() -> None:
    hide, again, other = hashing(b"k"), hashing(b"k"), hashing(b"l")
    assert hide("s1") == again("s1") != other("s1")
    assert len({hide(f"s{n}") for n in range(1000)}) == 1000
    assert len(hide("s1")) == 2 * HASH_BYTES
    assert hide("한국어\ud800"), "whatever a client may send"


def test_a_key_may_be_long_and_must_be_there() -> None:
    assert hashing(b"k" * 1000)("s") != hashing(b"k" * 999)("s")
    with pytest.raises(ValueError, match="key"):
        hashing(b"")


def test_names_are_hidden_and_nothing_else() -> None:
    fields: dict[str, Any] = {"session_id": "s", "principal": "", "message_id": None, "event": "s", "connection": 3}
    hide_names(lambda name: f"<{name}>", fields)
    assert fields == {"session_id": "<s>", "principal": "<>", "message_id": None, "event": "s", "connection": 3}
    assert as_attributes(plain, {"session_id": "s"}) == {"trialogue.session_id": "s"}
