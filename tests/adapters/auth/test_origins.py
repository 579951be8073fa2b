"""`auth/origins.py`: which pages may connect."""

from __future__ import annotations

import pytest

from trialogue_adapters.auth import Caller, Misconfigured, Origins


def allowed(origins: Origins, origin: str | None, host: str = "chat.example", *, secure: bool = False) -> bool:
    fields = [(b"Host", host.encode())]
    if origin is not None:
        fields.append((b"Origin", origin.encode("latin-1")))
    return origins.allow(Caller(fields, secure=secure))


OWN = [
    (None, "chat.example", True),
    ("http://chat.example", "chat.example", True),
    ("https://chat.example", "chat.example", True),  # a proxy ends TLS
    ("https://chat.example", "chat.example:443", True),
    ("https://chat.example:8443", "chat.example:8443", True),
    ("http://localhost:8000", "localhost:8000", True),
    ("http://[::1]:8000", "[::1]:8000", True),
    ("HTTPS://Chat.Example", "chat.EXAMPLE", True),
    ("https://chat.example", "chat.example:80", False),
    ("https://chat.example:8443", "chat.example", False),
    ("http://localhost:8001", "localhost:8000", False),
    ("http://127.0.0.1:8000", "localhost:8000", False),
    ("https://evil.example", "chat.example", False),
    ("https://chat.example.evil.example", "chat.example", False),
    ("https://evil.example", "", False),
    ("null", "chat.example", False),
    ("", "chat.example", False),
    ("chat.example", "chat.example", False),
    ("//chat.example", "chat.example", False),
    ("https://chat.example/", "chat.example", False),
    ("https://chat.example?", "chat.example", False),
    ("https://evil.example@chat.example", "chat.example", False),
    ("https://@chat.example", "chat.example", False),
    ("https://chat.example:x", "chat.example", False),
    ("https://[::1", "[::1", False),
    ("https://chat.example", "evil@chat.example", False),
]


@pytest.mark.parametrize(("origin", "host", "good"), OWN)
def test_the_own_origin_is_the_host_s(origin: str | None, host: str, good: bool) -> None:
    assert allowed(Origins(), origin, host) is good


def test_where_tls_ends_here_a_plain_page_is_another_origin() -> None:
    assert allowed(Origins(), "https://chat.example", secure=True)
    assert not allowed(Origins(), "http://chat.example", secure=True)


def test_listed_origins_are_let_in_besides() -> None:
    origins = Origins(["https://app.example", "http://dev.example:3000", "chrome-extension://abcdef"])
    for good in ("https://app.example", "https://app.example:443", "http://dev.example:3000", "https://chat.example"):
        assert allowed(origins, good), good
    assert allowed(origins, "chrome-extension://abcdef")
    for bad in ("http://app.example", "https://app.example:444", "http://dev.example", "https://x.app.example", "null"):
        assert not allowed(origins, bad), bad
    assert repr(origins) == "<Origins same and 3>"


def test_a_star_lets_all_in() -> None:
    for origin in ("https://evil.example", "null", "nonsense"):
        assert allowed(Origins(["*"]), origin)
    assert repr(Origins(["*"])) == "<Origins all>"


def test_a_second_origin_cannot_hide_behind_the_first() -> None:
    fields = [(b"host", b"chat.example"), (b"origin", b"https://chat.example"), (b"origin", b"https://evil.example")]
    assert not Origins().allow(Caller(fields))


@pytest.mark.parametrize("entry", ["app.example", "https://app.example/", "https://*.app.example/x", "", "null"])
def test_an_entry_that_is_no_origin_is_said_at_the_start(entry: str) -> None:
    with pytest.raises(Misconfigured, match="allowed origin"):
        Origins([entry])
