"""`servers/handshake.py`: who may come in, and what the others are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trialogue import Hub, Limits, Position
from trialogue_adapters.auth import Caller, Gate
from trialogue_adapters.auth.api_keys import ApiKeys
from trialogue_adapters.servers.handshake import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_TARGET_BYTES,
    Reception,
    Rejected,
    Welcome,
    check_head,
    check_upgrade,
    is_upgrade,
    without_token,
)


async def knock(
    query: str = "session_id=s",
    hub: Hub | None = None,
    language: str = "",
    offers: Any = (),
    gate: Gate | None = None,
    **headers: str,
) -> Welcome:
    fields = [(b"accept-language", language.encode())]
    fields += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    async with (hub or Hub()).open() as open_hub:
        try:
            request = Caller(fields, offers)
            return Reception(open_hub, gate or Gate()).welcome(query.encode(), request)
        except Rejected as error:
            rejected = error
    raise rejected  # outside of the hub's nursery, which would put it into a group


async def test_a_session_id_is_enough() -> None:
    welcome = await knock()
    assert (welcome.handshake.session_id, welcome.handshake.after, welcome.subprotocol) == ("s", None, None)
    assert repr(welcome.dialect) == "<SeedDialect seed ko>"


async def test_the_subprotocol_is_accepted_only_when_it_is_offered() -> None:
    assert (await knock(offers=["chat", "trialogue.v1"])).subprotocol == "trialogue.v1"
    assert (await knock(offers=["chat"])).subprotocol is None


async def test_a_position_is_read() -> None:
    assert (await knock("session_id=s&after=7:9")).handshake.after == Position(7, 9)


@pytest.mark.parametrize("session_id", ["a", "A-z0.9_~:", "x" * 128])
async def test_good_session_ids(session_id: str) -> None:
    assert (await knock(f"session_id={session_id}")).handshake.session_id == session_id


BAD = [
    ("", "session_id"),
    ("session_id=", "session_id"),
    ("session_id=a&session_id=a", "session_id"),
    ("session_id=" + "x" * 129, "session_id"),
    ("session_id=a%20b", "session_id"),
    ("session_id=%EA%B0%80", "session_id"),
    ("session_id=a%0A", "session_id"),
    ("session_id=a/b", "session_id"),
    ("Session_Id=a", "session_id"),
    ("session_id=s&after=", "after"),
    ("session_id=s&after=x", "after"),
    ("session_id=s&after=1:2&after=1:2", "after"),
    ("session_id=s&lang=fr", "lang"),
    ("session_id=s&" + "&".join("a=b" for _ in range(40)), "query"),
]


@pytest.mark.parametrize(("query", "field"), BAD, ids=[query[:30] for query, _ in BAD])
async def test_bad_queries_are_400_and_say_why(query: str, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        await knock(query)
    assert caught.value.status == 400
    assert field in json.loads(caught.value.body)["error"]["message"]


LANGUAGES = [
    ("", "ko"),
    ("en", "en"),
    ("en-US,en;q=0.9", "en"),
    ("fr, en;q=0.5", "en"),
    ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
    ("en;q=0.3, ko;q=0.7", "ko"),
    ("fr", "ko"),
    ("*", "ko"),
    ("en;q=nonsense", "en"),
]


@pytest.mark.parametrize(("header", "lang"), LANGUAGES)
async def test_the_language_is_the_first_that_we_speak(header: str, lang: str) -> None:
    assert (await knock(language=header)).dialect.lang == lang
    assert (await knock("session_id=s&lang=en", language=header)).dialect.lang == "en"


async def test_a_full_a_draining_and_a_closed_hub_are_503() -> None:
    full = Hub(limits=Limits(max_connections=1))
    full.connections = 1
    leaving = Hub()
    leaving.draining = True
    for hub in (full, leaving):
        with pytest.raises(Rejected) as caught:
            await knock(hub=hub)
        assert caught.value.status == 503
    with pytest.raises(Rejected) as caught:
        Reception(Hub(), Gate()).welcome(b"session_id=s", Caller())
    assert caught.value.status == 503


async def test_who_passes_is_the_principal_and_others_hear_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("alice:a-key")
    gate = Gate(ApiKeys(tmp_path / "keys"))
    welcome = await knock(gate=gate, x_api_key="a-key")
    assert (welcome.handshake.principal, welcome.handshake.credential) == ("alice", None)
    with pytest.raises(Rejected) as caught:
        await knock(gate=gate)
    assert caught.value.status == 401
    assert [name for name, _ in caught.value.headers] == [b"www-authenticate"] * 2
    token, expires_at = gate.mint(gate.enter(Caller([(b"x-api-key", b"a-key")])), "s")
    welcome = await knock(f"session_id=s&ws_token={token}", gate=gate)
    assert welcome.handshake.principal == "alice"
    assert welcome.handshake.credential is not None
    assert welcome.handshake.credential.remaining() == pytest.approx(expires_at - gate.now(), abs=5)
    with pytest.raises(Rejected) as caught:
        await knock(f"session_id=s&ws_token={token}&ws_token={token}", gate=gate)
    assert caught.value.status == 400


async def test_a_page_from_elsewhere_is_403_and_our_own_is_let_in() -> None:
    assert (await knock(origin="https://chat.example", host="chat.example")).handshake.session_id == "s"
    with pytest.raises(Rejected) as caught:
        await knock(origin="https://evil.example", host="chat.example")
    assert caught.value.status == 403


async def test_a_bearer_subprotocol_is_never_answered() -> None:
    assert (await knock(offers=["trialogue.v1", "bearer.secret"])).subprotocol == "trialogue.v1"
    assert (await knock(offers=["bearer.secret"])).subprotocol is None


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"session_id=s", b"session_id=s"),
        (b"ws_token=secret&lang=en", b"ws_token=***&lang=en"),
        (b"a=b&%77s%5Ftoken=secret", b"a=b&ws_token=***"),
        (b"a=b&ws_token", b"a=b&ws_token=***"),
        (b"", b""),
    ],
)
def test_the_query_as_it_may_be_logged(query: bytes, shown: bytes) -> None:
    assert without_token(query) == shown


def head(*headers: tuple[bytes, bytes], host: bytes | None = b"localhost:8000") -> list[tuple[bytes, bytes]]:
    return [*([(b"host", host)] if host is not None else []), *headers]


UPGRADE = [
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Upgrade", b"WebSocket"),
    (b"Sec-WebSocket-Key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
    (b"Sec-WebSocket-Version", b"13"),
]


def status(check: Any, *arguments: Any) -> int:
    try:
        check(*arguments)
    except Rejected as rejected:
        return rejected.status
    return 200


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        (b"/" * MAX_TARGET_BYTES, head(), 200),
        (b"/" * (MAX_TARGET_BYTES + 1), head(), 414),
        (b"/", head(*[(b"a", b"")] * (MAX_HEADERS - 1)), 200),
        (b"/", head(*[(b"a", b"")] * MAX_HEADERS), 431),
        (b"/", head((b"a", b"x" * (MAX_HEAD_BYTES - 1)), host=None), 200),
        (b"/", head((b"a", b"x" * MAX_HEAD_BYTES), host=None), 431),
        (b"/", head((b"Host", b"other")), 400),
        *((b"/", head(host=host), 200) for host in (b"a", b"1.2.3.4", b"[::1]:80", b"xn--9n2bp8q.kr", b"a_b", None)),
        *(
            (b"/", head(host=host), 400)
            for host in (b"", b"a b", b"a/b", b"a@b", b"\xff", b"a:b", b"a:", b"[::1", b"a,b")
        ),
    ],
)
def test_a_requests_head_is_bounded(target: bytes, headers: list[tuple[bytes, bytes]], expected: int) -> None:
    assert status(check_head, target, headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 200),
        ([(b"content-length", b"0")], 200),
        ([(b"content-length", b"5")], 400),
        ([(b"transfer-encoding", b"chunked")], 400),
        ([(b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")], 400),
        ([(b"sec-websocket-version", b"13")], 426),
    ],
)
def test_a_handshake_says_each_thing_once_and_has_no_body(headers: list[tuple[bytes, bytes]], expected: int) -> None:
    assert is_upgrade(UPGRADE)
    assert status(check_upgrade, [*UPGRADE, *headers]) == expected


@pytest.mark.parametrize("left_out", range(4))
def test_a_handshake_needs_all_of_it(left_out: int) -> None:
    rest = [header for n, header in enumerate(UPGRADE) if n != left_out]
    assert is_upgrade(rest) is (left_out > 1)
    assert status(check_upgrade, rest) == [200, 200, 400, 426][left_out]
