"""`servers/handshake.py`: who may come in, and what the others are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trialogue import Hub, Limits, Policy, Position
from trialogue_adapters.servers.handshake import Rejected, Welcome, read_handshake


async def knock(query: str = "session_id=s", hub: Hub | None = None, language: str = "", offers: Any = ()) -> Welcome:
    async with (hub or Hub()).open() as open_hub:
        try:
            return read_handshake(open_hub, query.encode(), language, offers, Policy.INTERRUPT, 20.0)
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
        read_handshake(Hub(), b"session_id=s", "", (), Policy.INTERRUPT, 20.0)
    assert caught.value.status == 503
