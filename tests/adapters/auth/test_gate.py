"""`auth/gate.py`: who is let in, who may mint, and how a lease is renewed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trialogue_adapters.auth import Caller, Denied, Gate, Grant, Origins, WsTokens
from trialogue_adapters.auth.api_keys import ApiKeys

NOW = 1_800_000_000.0


class Clock:
    time = NOW

    def __call__(self) -> float:
        return self.time


def shows(key: str, *more: tuple[bytes, bytes]) -> Caller:
    return Caller([(b"authorization", f"Bearer {key}".encode()), *more])


ALICE, BOB = shows("key-of-a"), shows("key-of-b")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(tmp_path: Path, clock: Clock) -> Gate:
    (tmp_path / "keys").write_text("alice:key-of-a\nbob:key-of-b\n")
    return Gate(ApiKeys(tmp_path / "keys"), WsTokens(lifetime=100, now=clock), now=clock)


def minted(gate: Gate, request: Caller = ALICE, session_id: str = "s") -> str:
    return gate.mint(gate.enter(request), session_id)[0]


def denied(call: Callable[[], object]) -> int:
    with pytest.raises(Denied) as caught:
        call()
    assert bool(caught.value.challenges) is (caught.value.status == 401)
    return caught.value.status


def test_a_key_or_a_token_minted_with_it_is_the_same_principal(gate: Gate) -> None:
    assert gate.admit(ALICE, "s") == Grant("alice")
    token = minted(gate)
    assert gate.admit(Caller(), "s", token) == Grant("alice", NOW + 100)
    assert gate.admit(Caller(subprotocols=["trialogue.v1", f"bearer.{token}"]), "s") == Grant("alice", NOW + 100)
    assert gate.admit(Caller(subprotocols=["trialogue.v1", "bearer.key-of-b"]), "s") == Grant("bob")
    assert gate.admit(Caller(), "s", minted(gate, BOB)).principal == "bob"


def test_the_query_s_token_counts_before_all_else(gate: Gate) -> None:
    assert gate.admit(BOB, "s", minted(gate)).principal == "alice"
    assert denied(lambda: gate.admit(BOB, "s", "v1.0.x")) == 401
    assert denied(lambda: gate.admit(BOB, "s", "")) == 401
    assert denied(lambda: gate.admit(Caller(), "s", "key-of-b")) == 401  # the query is for ws_tokens only


def test_a_token_opens_its_session_only_and_begets_no_token(gate: Gate) -> None:
    token = minted(gate)
    assert denied(lambda: gate.admit(Caller(), "t", token)) == 401
    assert denied(lambda: gate.enter(shows(token))) == 401


def test_without_anything_it_says_what_is_wanted(gate: Gate) -> None:
    with pytest.raises(Denied) as caught:
        gate.admit(Caller(), "s")
    assert any("X-API-Key" in challenge for challenge in caught.value.challenges)


def test_a_page_from_elsewhere_is_refused_whatever_it_shows(gate: Gate) -> None:
    page = (b"origin", b"https://evil.example")
    assert denied(lambda: gate.admit(shows("key-of-a", page), "s")) == 403
    assert denied(lambda: gate.enter(shows("key-of-a", page))) == 403
    listed = Gate(origins=Origins(["https://evil.example"]))
    assert listed.admit(shows("x", page), "s") == Grant("")


def test_an_open_gate_lets_everybody_in_as_nobody_whatever_they_show() -> None:
    gate = Gate()
    assert gate.admit(Caller(), "s") == gate.admit(ALICE, "s", "nonsense") == gate.enter(Caller()) == Grant("")
    token, _ = gate.mint(Grant(""), "s")
    assert gate.admit(Caller(), "t", token) == Grant("")
    assert gate.lease(Grant(""), "s") is None
    assert repr(gate) == "<Gate open, <Origins same and 0>>"


def test_a_lease_is_renewed_by_the_same_principal_for_the_same_session(gate: Gate, clock: Clock) -> None:
    lease = gate.lease(gate.admit(Caller(), "s", minted(gate)), "s")
    assert lease is not None
    clock.time += 60
    assert lease.remaining() == 40
    for wrong in (minted(gate, BOB), minted(gate, ALICE, "t"), "key-of-b", "v1.1.x", "", "\ud800", "한"):
        assert not lease.renew(wrong)
    assert lease.remaining() == 40
    assert lease.renew(minted(gate))
    assert lease.remaining() == 100
    assert repr(lease) == "<Lease 100 s>"


def test_a_shorter_credential_takes_nothing_away_and_a_key_is_for_ever(gate: Gate, clock: Clock) -> None:
    early = minted(gate)
    clock.time += 50
    lease = gate.lease(gate.admit(Caller(), "s", minted(gate)), "s")
    assert lease is not None
    assert lease.renew(early)
    assert lease.remaining() == 100
    assert lease.renew("key-of-a")
    assert lease.remaining() == float("inf")


def test_who_does_not_expire_has_no_lease(gate: Gate) -> None:
    assert gate.lease(gate.admit(ALICE, "s"), "s") is None


def test_a_principal_whose_keys_are_gone_has_no_tokens(gate: Gate, tmp_path: Path) -> None:
    token = minted(gate)
    (tmp_path / "keys").write_text("bob:key-of-b\n")
    assert denied(lambda: gate.admit(Caller(), "s", token)) == 401


def test_what_does_not_depend_on_the_session_is_judged_before_it_is_known(gate: Gate) -> None:
    for caller in (ALICE, shows(minted(gate)), shows(minted(gate, session_id="another"))):
        gate.screen(caller)
    for caller in (Caller(), shows("wrong")):
        assert denied(lambda caller=caller: gate.screen(caller)) == 401  # type: ignore[misc]
    evil = (b"origin", b"https://evil.example")
    assert denied(lambda: gate.screen(shows("key-of-a", evil))) == 403
    assert denied(lambda: gate.screen(shows(minted(gate), evil))) == 403
