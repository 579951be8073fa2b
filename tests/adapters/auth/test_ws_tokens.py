"""`auth/ws_tokens.py`: what is minted is good for one principal's one session until one second, and nothing else is."""

from __future__ import annotations

import re
import string
from base64 import urlsafe_b64encode
from collections.abc import Collection
from math import inf

import pytest

from trialogue_adapters.auth import Denied, Grant, Misconfigured, WsTokens

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> WsTokens:
    return WsTokens(SECRET, lifetime=100, now=clock)


def mint(tokens: WsTokens, principal: str = "alice", session_id: str = "s", *, named: bool = False) -> str:
    return tokens.mint(Grant(principal), session_id, named=named)[0]


def whose(tokens: WsTokens, token: str, session_id: str = "s", among: Collection[str] | None = ("bob", "alice")) -> str:
    return tokens.check(token, session_id, among).principal


def is_refused(tokens: WsTokens, token: str, session_id: str = "s", among: Collection[str] | None = ("alice",)) -> bool:
    try:
        tokens.check(token, session_id, among)
    except Denied as denied:
        return denied.status == 401 and (not token or token not in denied.reason)
    return False


def test_the_form_is_the_contract_s(tokens: WsTokens) -> None:
    token, expires_at = tokens.mint(Grant("alice"), "s", named=False)
    assert re.fullmatch(r"v1\.1800000100\.[A-Za-z0-9_-]{43}", token)
    assert expires_at == NOW + 100


def test_it_is_found_whose_it_is(tokens: WsTokens) -> None:
    assert tokens.check(mint(tokens), "s", ["bob", "alice"]) == Grant("alice", NOW + 100)
    assert whose(tokens, mint(tokens, "bob")) == "bob"
    assert whose(tokens, mint(tokens, ""), among=[""]) == ""
    assert whose(tokens, mint(tokens, "앨리스", named=True), among=None) == "앨리스"
    assert whose(tokens, mint(tokens, "alice", named=True)) == "alice"


def test_who_is_not_on_the_list_any_more_has_no_token_any_more(tokens: WsTokens) -> None:
    assert is_refused(tokens, mint(tokens, "carol"))
    assert is_refused(tokens, mint(tokens, "carol", named=True))
    assert is_refused(tokens, mint(tokens, "alice"), among=None)
    assert is_refused(tokens, mint(tokens, "alice"), among=[])


def test_it_is_good_for_its_session_only(tokens: WsTokens) -> None:
    for other in ("", "S", "s1", "ss", "t"):
        assert is_refused(tokens, mint(tokens), other)


def test_another_secret_s_tokens_are_refused(tokens: WsTokens, clock: Clock) -> None:
    assert is_refused(tokens, mint(WsTokens(SECRET[::-1], now=clock)))
    assert is_refused(WsTokens(now=clock), mint(WsTokens(now=clock)))


@pytest.mark.parametrize(("when", "good"), [(-1.0, True), (-0.001, True), (0.0, False), (0.001, False), (1e9, False)])
def test_its_last_moment_is_just_before_the_expiry(tokens: WsTokens, clock: Clock, when: float, good: bool) -> None:
    token, expires_at = tokens.mint(Grant("alice"), "s", named=False)
    clock.time = expires_at + when
    assert is_refused(tokens, token) is not good


@pytest.mark.parametrize("named", [False, True])
def test_every_single_character_counts(tokens: WsTokens, named: bool) -> None:
    """Also the last one, whose lowest bits base64 has no use for."""
    token = mint(tokens, named=named)
    assert not is_refused(tokens, token, among=None if named else ["alice"])
    tried = 0
    for place, now in enumerate(token):
        for other in set(string.printable) - {now}:
            for changed in (token[:place] + other + token[place + 1 :], token[:place] + other + token[place:]):
                assert is_refused(tokens, changed, among=None if named else ["alice"]), changed
                tried += 1
        assert is_refused(tokens, token[:place] + token[place + 1 :], among=None if named else ["alice"])
    assert tried > 10_000


FORGED = [
    "",
    ".",
    "..",
    "v1",
    "v1..",
    "v1...",
    "v1.x.y",
    "v1.1e9.x",
    "v1." + "9" * 900 + ".x",
    "x" * 100_000,
    "\ud800.a.b",
]


@pytest.mark.parametrize("token", FORGED, ids=range(len(FORGED)))
def test_nonsense_is_refused(tokens: WsTokens, token: str) -> None:
    assert is_refused(tokens, token)
    assert is_refused(tokens, token, among=None)


@pytest.mark.parametrize("expires", ["+1800000100", " 1800000100", "01800000100", "1_800_000_100", "١٨٠٠٠٠٠١٠٠"])
def test_an_expiry_has_one_spelling(tokens: WsTokens, expires: str) -> None:
    _, _, mac = mint(tokens).split(".")
    assert is_refused(tokens, f"v1.{expires}.{mac}")


def test_a_name_cannot_be_put_on_a_token(tokens: WsTokens) -> None:
    name = urlsafe_b64encode(b"bob").decode()
    assert is_refused(tokens, f"{mint(tokens)}.{name}", among=["alice", "bob"])
    mine = mint(tokens, named=True)
    assert is_refused(tokens, f"{mine.rpartition('.')[0]}.{name}", among=None)


def test_it_does_not_outlive_what_it_was_minted_with(tokens: WsTokens) -> None:
    assert tokens.mint(Grant("alice", NOW + 7.9), "s", named=True)[1] == NOW + 7
    assert tokens.mint(Grant("alice", NOW + 700), "s", named=True)[1] == NOW + 100
    assert tokens.mint(Grant("alice", inf), "s", named=True)[1] == NOW + 100


def test_a_secret_must_be_long() -> None:
    WsTokens(b"x" * 32)
    with pytest.raises(Misconfigured, match="32"):
        WsTokens(b"x" * 31)
    with pytest.raises(Misconfigured, match="32"):
        WsTokens(b"")
