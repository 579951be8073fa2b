"""Who is let in, as whom, for how long, and what the others are told: on both listeners, with real keys and tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from support.auth import ALICE, BOB, LISTED, damaged, token, write_files
from support.raw_client import (
    V1,
    Client,
    Refused,
    fresh,
    kinds,
    of,
    open_client,
    open_wire,
    request,
    tokens,
)
from support.server import LISTENERS, Server, running


@pytest.fixture(scope="module")
def server(listener: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("auth")
    with running(folder, listener, write_files(folder)) as server:
        yield server


async def refusal(server: Server, session_id: str = "s", **options: Any) -> Refused:
    """The answer to a handshake that must be refused: JSON, and with a 401 what is wanted."""
    with pytest.raises(Refused) as caught:
        async with open_client(server, session_id, **options):
            pass
    refused = caught.value
    assert refused.headers["content-type"] == "application/json"
    assert refused.json()["error"]["status"] == refused.status
    assert ("www-authenticate" in refused.headers) is (refused.status == 401)
    return refused


# Coming in.


async def test_without_a_credential_it_is_401_and_says_what_is_wanted(server: Server) -> None:
    refused = await refusal(server)
    assert refused.status == 401
    assert "API key" in refused.json()["error"]["message"]


GOOD: Mapping[str, Mapping[str, str]] = {
    "X-API-Key": ALICE,
    "Bearer": BOB,
    "another case": {"x-api-key": "key-of-bob", "authorization": "basic dTpw"},
}


@pytest.mark.parametrize("how", GOOD)
async def test_a_key_in_a_header(server: Server, how: str) -> None:
    async with open_client(server, headers=GOOD[how]) as client:
        assert kinds(await client.turn(await client.say()))[0] == "stream_start"


@pytest.mark.parametrize("credential", ["key-of-alice", "a ws_token"])
async def test_a_bearer_subprotocol_counts_and_is_never_answered(server: Server, credential: str) -> None:
    session_id = fresh("s")
    shown = token(session_id) if credential == "a ws_token" else credential
    for offer in (f"{V1}, bearer.{shown}", f"bearer.{shown}, {V1}"):
        async with open_client(server, session_id, headers={"Sec-WebSocket-Protocol": offer}) as client:
            assert client.headers["sec-websocket-protocol"] == V1
            assert (await client.next())["type"] == "session_ready"
    async with open_client(server, session_id, headers={"Sec-WebSocket-Protocol": f"bearer.{shown}"}) as client:
        assert "sec-websocket-protocol" not in client.headers


async def test_a_token_in_the_query(server: Server) -> None:
    session_id = fresh("s")
    async with open_client(server, session_id, query={"ws_token": token(session_id)}) as client:
        await client.turn(await client.say())


BAD: Mapping[str, Mapping[str, Any]] = {
    "an unknown key": {"headers": {"X-API-Key": "key-of-mallory"}},
    "an empty key": {"headers": {"X-API-Key": ""}},
    "a name for a key": {"headers": {"X-API-Key": "alice"}},
    "a whole line": {"headers": {"X-API-Key": "alice:key-of-alice"}},
    "bytes": {"headers": {"X-API-Key": "\xff\xfe"}},
    "another scheme": {"headers": {"Authorization": "Basic a2V5LW9mLWFsaWNl"}},
    "a key in the query": {"query": {"ws_token": "key-of-alice"}},
    "an empty token": {"query": {"ws_token": ""}},
    "a bad token beside a good key": {"query": {"ws_token": "v1.1.x"}, "headers": ALICE},
    "a damaged token": {"query": {"ws_token": damaged(token("s"))}},
    "an expired token": {"query": {"ws_token": token("s", lifetime=-1)}},
    "another session's token": {"query": {"ws_token": token("t")}},
    "the token of nobody we know": {"query": {"ws_token": token("s", "mallory")}},
    "an unknown bearer": {"headers": {"Sec-WebSocket-Protocol": f"{V1}, bearer.key-of-mallory"}},
    "an empty bearer": {"headers": {"Sec-WebSocket-Protocol": f"{V1}, bearer."}},
}


@pytest.mark.parametrize("name", BAD)
async def test_a_credential_that_does_not_count_is_401_and_is_not_repeated(server: Server, name: str) -> None:
    refused = await refusal(server, **BAD[name])
    assert refused.status == 401
    for secret in ("mallory", "key-of-alice", token("s")[:20]):
        assert secret not in refused.body.decode()


async def test_a_bad_session_id_is_400_before_all_that(server: Server) -> None:
    assert (await refusal(server, "a b")).status == 400


# Pages.

ORIGINS = {
    None: 101,
    "http://localhost": 101,
    "https://localhost": 101,
    LISTED: 101,
    "http://localhost:1": 403,
    "https://evil.example": 403,
    "null": 403,
    "": 403,
}


@pytest.mark.parametrize("origin", ORIGINS)
async def test_pages_of_our_own_and_listed_origins_only(server: Server, origin: str | None) -> None:
    headers = {**ALICE, **({} if origin is None else {"Origin": origin})}
    if ORIGINS[origin] == 101:
        async with open_client(server, headers=headers) as client:
            await client.quiet()
    else:
        refused = await refusal(server, headers=headers)
        assert refused.status == 403
        assert "origin" in refused.json()["error"]["message"]


# As whom.


async def test_two_principals_with_one_session_id_never_meet(server: Server) -> None:
    session_id = fresh("s")
    async with open_client(server, session_id, v1=True, headers=ALICE) as alice:
        mine = await alice.turn(await alice.say("m1", tokens=3))
        assert of(mine, "m1")[-1]["finish_reason"] == "stop"
        await alice.wait_for("stream_receipt")
        async with (
            open_client(server, session_id, v1=True, headers=BOB) as bob,
            open_client(server, session_id, v1=True, query={"ws_token": token(session_id, "bob")}) as too,
        ):
            assert (bob.ready["resumed"], bob.ready["connections"], too.ready["connections"]) == ("new", 1, 2)
            theirs = await bob.turn(await bob.say("m1", tokens=5))  # his own turn, under her id
            assert tokens(theirs) == tokens(await too.turn("m1")) != tokens(mine)
        assert await alice.quiet() == []


async def test_a_key_and_its_token_are_the_same_principal(server: Server) -> None:
    session_id = fresh("s")
    async with (
        open_client(server, session_id, v1=True, headers=ALICE) as first,
        open_client(server, session_id, v1=True, query={"ws_token": token(session_id)}) as second,
    ):
        assert second.ready["connections"] == 2
        message_id = await first.say(tokens=2)
        assert tokens(await second.turn(message_id)) == tokens(await first.turn(message_id))


# For how long.


async def ends(client: Client, expires_at: int) -> None:
    """It is told goodbye, and closed, within a second of the expiry, and not before."""
    closed = await client.end()
    assert (closed.code, 0 <= time.time() - expires_at < 1) == (1008, True)


@pytest.mark.parametrize("v1", [True, False])
async def test_an_expired_token_ends_the_connection(server: Server, v1: bool) -> None:
    session_id = fresh("s")
    short = token(session_id, lifetime=2)
    async with open_client(server, session_id, v1=v1, query={"ws_token": short}) as client:
        await client.say(tokens=1000, pace=0.01)
        await ends(client, int(short.split(".")[1]))
        last = [json.loads(text) for text in client.texts if '"goaway"' in text]
        assert last == ([{"type": "goaway", "reason": "expired", "retry_after_ms": 0}] if v1 else [])


async def test_a_renewed_token_keeps_it_open_in_the_middle_of_a_turn(server: Server) -> None:
    session_id = fresh("s")
    short = token(session_id, lifetime=2)
    async with open_client(server, session_id, v1=True, query={"ws_token": short}) as client:
        message_id = await client.say(tokens=250, pace=0.01)
        await client.wait_for("stream_token")
        await client.send(type="auth", token=token(session_id))
        frames = await client.turn(message_id)
        assert time.time() > int(short.split(".")[1])
        assert frames[-1]["finish_reason"] == "stop"
        assert "goaway" not in kinds(await client.quiet())


async def test_a_renewal_for_another_principal_or_session_is_refused(server: Server) -> None:
    session_id = fresh("s")
    short = token(session_id, lifetime=2)
    async with open_client(server, session_id, v1=True, query={"ws_token": short}) as client:
        for wrong in (token(session_id, "bob"), token("t"), "key-of-bob", damaged(token(session_id)), "한"):
            await client.send(type="auth", token=wrong)
            error = await client.wait_for("stream_error")
            assert (error["error_code"], wrong in error["message"]) == ("WS-001", False)
        await ends(client, int(short.split(".")[1]))


# The keys' file.


async def test_keys_are_rotated_while_it_runs(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener, write_files(tmp_path)) as server:
        async with open_client(server, headers=ALICE) as old:
            (tmp_path / "keys").write_text("alice:new-key-of-alice\n")
            assert (await refusal(server, headers=ALICE)).status == 401
            async with open_client(server, old.session_id, headers={"X-API-Key": "new-key-of-alice"}) as new:
                message_id = await new.say(tokens=1)
                await new.turn(message_id)
                await old.turn(message_id)  # the same principal, so the same session


# The endpoint that mints.

PLAIN = dict.fromkeys(["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])


async def post(server: Server, body: bytes, headers: Mapping[str, str | None], method: str = "POST") -> Refused:
    """The HTTP answer, whatever it is."""
    async with open_wire(server) as wire:
        fields = {**PLAIN, "Content-Length": str(len(body)), **headers}
        with suppress(trio.BrokenResourceError):
            await wire.send(request("/auth/ws-token", fields, method) + body)
        return await wire.answer()


@pytest.fixture(scope="module")
def minting(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("minting")
    with running(folder, "hypercorn", write_files(folder)) as server:
        yield server


async def test_a_minted_token_opens_its_session_and_no_other(minting: Server) -> None:
    session_id = fresh("s")
    answer = await post(minting, json.dumps({"session_id": session_id}).encode(), ALICE)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    minted = answer.json()
    assert 890 <= minted["expires_in"] <= 900
    assert minted["expires_at"] == int(minted["ws_token"].split(".")[1])
    async with open_client(minting, session_id, query={"ws_token": minted["ws_token"]}) as client:
        await client.turn(await client.say())
    assert (await refusal(minting, fresh("s"), query={"ws_token": minted["ws_token"]})).status == 401
    for headers in ({"X-API-Key": minted["ws_token"]}, {"Authorization": f"Bearer {minted['ws_token']}"}):
        assert (await post(minting, b'{"session_id":"s"}', headers)).status == 401


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"session_id":"s"}', {}, 401),
        (b"", {"X-API-Key": "key-of-mallory"}, 401),
        (b'{"session_id":"s"}', {**ALICE, "Origin": "https://evil.example"}, 403),
        (b'{"session_id":"s"}', {**ALICE, "Origin": "http://localhost"}, 200),
        (b'{"session_id":"s"}', {**ALICE, "Origin": LISTED}, 200),
        (b"", ALICE, 400),
        (b"{", ALICE, 400),
        (b"[" * 4000, ALICE, 400),
        (b"null", ALICE, 400),
        (b"{}", ALICE, 400),
        (b'{"session_id":5}', ALICE, 400),
        (b'{"session_id":"a b"}', ALICE, 400),
        (b'{"session_id":"a\\n"}', ALICE, 400),
        (b'{"session_id":"%s"}' % (b"x" * 129), ALICE, 400),
        (b'{"session_id":"%s"}' % (b"x" * 128), ALICE, 200),
        (b"\xff", ALICE, 400),
        (b" " * 4097, ALICE, 413),
    ],
)
async def test_the_minting_endpoint(minting: Server, body: bytes, headers: dict[str, str], status: int) -> None:
    answer = await post(minting, body, headers)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert ("ws_token" in answer.json()) is (status == 200)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_it_is_for_post_only(minting: Server, method: str) -> None:
    answer = await post(minting, b"", ALICE, method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_an_open_server_mints_too_and_needs_no_token(tmp_path: Path) -> None:
    with running(tmp_path, "hypercorn") as server:
        minted = (await post(server, b'{"session_id":"s"}', {})).json()
        for query in ({"ws_token": minted["ws_token"]}, {"ws_token": "nonsense"}, {}):
            async with open_client(server, "s", query=query) as client:
                await client.quiet()
        assert (await post(server, b'{"session_id":"s"}', {"Origin": "https://evil.example"})).status == 403
        assert (await refusal(server, headers={"Origin": "https://evil.example"})).status == 403


async def test_the_other_listener_has_no_such_endpoint(tmp_path: Path) -> None:
    with running(tmp_path, LISTENERS[1], write_files(tmp_path)) as server:
        assert (await post(server, b'{"session_id":"s"}', ALICE)).status == 404
