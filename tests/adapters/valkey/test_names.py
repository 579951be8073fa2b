"""The names of keys: one hash tag per session, no two sessions with the same, no text of a user that means anything."""

from __future__ import annotations

import re
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from trialogue.store import Key
from trialogue_adapters.valkey.names import Names

texts = st.text(st.sampled_from("a{}/:%?한\ud800\ud801* \n"), max_size=4)
keys = st.tuples(texts, texts)


def tag(name: bytes) -> bytes:
    """What a cluster takes for the slot: between the first `{` and the first `}` after it."""
    found = re.search(rb"\{([^}]*)\}", name)
    assert found
    return found[1]


@given(st.lists(keys, min_size=2, max_size=5, unique=True))
def test_no_two_sessions_share_a_key(sessions: list[Key]) -> None:
    names = Names("trialogue")
    for one, other in combinations(sessions, 2):
        assert not set(names.session(one)) & set(names.session(other))


def test_a_lone_surrogate_is_no_question_mark() -> None:
    """A client may send one in a session id; the codec that most would choose makes all of them the same."""
    names = Names("p")
    assert len({names.session(("ann", text)) for text in ("\ud800", "\ud801", "?")}) == 3


@given(keys, texts)
def test_a_sessions_keys_are_in_one_slot_and_its_own(key: Key, prefix: str) -> None:
    names = Names(prefix).session(key)
    assert {tag(name) for name in names} == {tag(names.log)}
    assert len(set(names)) == 3
    for name in names:
        assert name.isascii()
        assert (name.count(b"{"), name.count(b"}")) == (1, 1)


def test_what_they_look_like() -> None:
    """Whoever looks into a store, or writes an ACL for it, relies on these."""
    names = Names("blue green")
    assert names.session(("ann", "a/b")) == (
        b"blue%20green:{ann/a%2Fb}:log",
        b"blue%20green:{ann/a%2Fb}:owner",
        b"blue%20green:{ann/a%2Fb}:floor",
    )
    assert names.lease("01ab") == b"blue%20green:node:{01ab}"
    assert names.inbox("01ab") == b"blue%20green:node:{01ab}:inbox"


def test_names_are_made_once_until_they_are_forgotten() -> None:
    names = Names("p")
    first = names.session(("a", "s"))
    assert names.session(("a", "s")) is first
    names.forget(("a", "s"))
    names.forget(("a", "s"))
    assert names.session(("a", "s")) is not first
    assert names.session(("a", "s")) == first
