"""`auth/port.py`: which credential of a request counts."""

from __future__ import annotations

import pytest

from trialogue_adapters.auth import Caller, Denied
from trialogue_adapters.auth.port import is_principal

SHOWN = [
    ({}, (), None),
    ({"x-api-key": "k"}, (), "k"),
    ({"X-API-Key": " k "}, (), "k"),
    ({"authorization": "Bearer t"}, (), "t"),
    ({"Authorization": "bearer   t"}, (), "t"),
    ({"authorization": "Basic dTpw"}, (), None),
    ({"authorization": "Bearer"}, (), ""),
    ({"authorization": "Bearer t", "x-api-key": "k"}, (), "k"),
    ({"x-api-key": "k"}, ("trialogue.v1", "bearer.s"), "s"),
    ({}, ("trialogue.v1",), None),
    ({}, ("bearer.a.b.c",), "a.b.c"),
]


@pytest.mark.parametrize(("headers", "offers", "token"), SHOWN)
def test_the_credential_that_counts(headers: dict[str, str], offers: tuple[str, ...], token: str | None) -> None:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert Caller(fields, offers).token == token


def test_neither_a_request_nor_a_refusal_shows_a_credential() -> None:
    request = Caller([(b"x-api-key", b"secret")], ["bearer.secret"])
    assert "secret" not in repr(request)
    assert str(Denied(401, "no")) == "401: no"


@pytest.mark.parametrize(
    ("name", "good"),
    [("a", True), ("앨리스", True), ("x" * 256, True), ("x" * 257, False), ("", False), ("a\nb", False), (5, False)],
)
def test_what_may_be_a_principal(name: object, good: bool) -> None:
    assert is_principal(name) is good
