"""What a page of the deployed server asks over HTTP, of a real server: sessions, history, facts, deletion."""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from support.auth import ALICE, BOB, LISTED, write_files
from support.raw_client import Refused, fresh, kinds, open_client, open_wire
from support.server import Server, running

NEW = "/api/chat/session"
SOURCE = {"title": "A guide", "score": 0.5, "content_preview": "how it works", "page": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with running(tmp_path_factory.mktemp("http"), "hypercorn", ("--dialect", "onerag")) as server:
        yield server


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("locked")
    with running(folder, "hypercorn", ("--dialect", "onerag", *write_files(folder))) as server:
        yield server


async def call(
    server: Server, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Refused:
    fields = {"Host": f"{server.host}:{server.port}", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    async with open_wire(server) as wire:
        await wire.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return await wire.answer()


async def history(server: Server, session_id: str, query: str = "") -> Any:
    answer = await call(server, "GET", f"/api/chat/history/{session_id}{query}")
    assert answer.status == 200, answer
    return answer.json()


async def said(server: Server, session_id: str) -> list[tuple[str, str]]:
    return [(told["role"], told["content"]) for told in (await history(server, session_id))["messages"]]


async def test_a_new_session_is_there_before_its_first_connection(server: Server) -> None:
    for body in (b"{}", b"", b'{"metadata":{"page":"/"}}', b'{"metadata":null}'):
        made = (await call(server, "POST", NEW, body)).json()
        assert set(made) == {"session_id", "message", "timestamp"}
        assert made["timestamp"].endswith("Z")
        assert str(uuid.UUID(made["session_id"])) == made["session_id"]
        assert await history(server, made["session_id"]) == {
            "session_id": made["session_id"],
            "messages": [],
            "total_messages": 0,
            "limit": 20,
            "offset": 0,
            "has_more": False,
        }
    async with open_client(server, made["session_id"]) as client:
        frames = await client.turn(await client.say(tokens=1))
        assert kinds(frames) == ["stream_start", "stream_token", "stream_sources", "stream_end"]


async def test_the_history_is_what_was_asked_and_the_answers_as_the_user_has_them(server: Server) -> None:
    async with open_client(server) as client:
        whole = await client.say(texts=["안녕", " there"])
        await client.turn(whole)
        cut = await client.say(tokens=100, pace=0.02)
        await client.until("stream_token", cut)
        bare = await client.say(metadata=None, done=None, texts=["y"])
        await client.turn(bare)
        failed = await client.say(tokens=2, at={"1": ["raise", "ValueError"]})
        await client.turn(failed)
        running = await client.say(tokens=100, pace=0.02)
        waiting = await client.say(on_busy="enqueue")
        await client.until("stream_token", running)
        told = (await history(server, client.session_id))["messages"]
        shown = "".join(json.loads(text).get("token", "") for text in client.texts if f'"{cut}"' in text)
        assert [(message["role"], message["content"]) for message in told] == [
            ("user", whole),
            ("assistant", "안녕 there"),
            ("user", cut),
            ("assistant", shown),
            ("user", bare),
            ("assistant", "y"),
            ("user", failed),
            ("assistant", "t0 "),
            ("user", running),
            ("user", waiting),
        ]
        assert told[1]["sources"] == [SOURCE]
        assert list(told[0]) == ["role", "content", "timestamp"]
        assert "sources" not in told[5]
        times = [message["timestamp"] for message in told]
        assert all(time.endswith("Z") for time in times)
        assert times[0] <= times[1] <= times[2]


async def test_what_was_retracted_is_forgotten(server: Server) -> None:
    async with open_client(server) as client:
        first = await client.say(tokens=100, pace=0.02)
        await client.until("stream_token", first)
        second = await client.say(on_busy="rollback", texts=["better"])
        await client.turn(second)
        assert await said(server, client.session_id) == [("user", second), ("assistant", "better")]


async def test_the_history_comes_in_pages(server: Server) -> None:
    async with open_client(server) as client:
        asked = [await client.say(texts=["a"], on_busy="enqueue") for _ in range(3)]
        await client.turn(asked[-1])
        for query, contents, more in (
            ("?limit=2", [asked[0], "a"], True),
            ("?limit=2&offset=4", [asked[2], "a"], False),
            ("?offset=5", ["a"], False),
            ("?offset=6&limit=1000", [], False),
        ):
            page = await history(server, client.session_id, query)
            assert ([message["content"] for message in page["messages"]], page["has_more"]) == (contents, more)
            assert page["total_messages"] == 6


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(("limit=" + value, "limit") for value in ("0", "1001", "-1", "x", "", "1.5", "%D9%A3", "9" * 5000)),
        *(("offset=" + value, "offset") for value in ("-1", "x", "1e3", "9" * 30)),
        ("limit=1&limit=2", "limit"),
    ],
    ids=lambda value: value[:20],
)
async def test_a_bad_page_is_refused_by_its_field(server: Server, query: str, field: str) -> None:
    made = (await call(server, "POST", NEW)).json()
    refused = await call(server, "GET", f"/api/chat/history/{made['session_id']}?{query}")
    assert refused.status == 400
    assert refused.json()["error"]["message"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{no json", 400, "not JSON"),
        (b"[]", 400, "object"),
        (b"[" * 10_000, 400, "not JSON"),
        (b'{"metadata":7}', 400, "metadata"),
        (b"x" * 20_000, 413, "16384"),
    ],
    ids=["no JSON", "array", "deep", "metadata", "long"],
)
async def test_a_bad_body_is_refused(server: Server, body: bytes, status: int, said: str) -> None:
    refused = await call(server, "POST", NEW, body)
    assert refused.status == status
    assert said in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/api/chat/history/{}", "/api/chat/session/{}/info"])
async def test_unknown_and_impossible_ids(server: Server, path: str) -> None:
    for session_id, status in ((fresh("never"), 404), ("a%20b", 400), ("x" * 129, 400)):
        refused = await call(server, "GET", path.format(session_id))
        assert (refused.status, refused.json()["error"]["message"][:11]) == (status, "session_id:")


async def test_other_methods_and_paths(server: Server) -> None:
    for method, path, allowed in (
        ("GET", NEW, "POST"),
        ("POST", "/api/chat/history/s", "GET, HEAD"),
        ("GET", "/api/chat/session/s", "DELETE"),
        ("DELETE", "/api/chat/session/s/info", "GET, HEAD"),
    ):
        refused = await call(server, method, path)
        assert (refused.status, refused.headers["allow"]) == (405, allowed)
    for path in ("/api/chat/", "/api/chat/history/", "/api/chat/session/s/x", "/api/chat/history/s/t"):
        assert (await call(server, "GET", path)).status == 404


async def test_the_facts_about_a_session(server: Server) -> None:
    async with open_client(server) as client:
        await client.turn(await client.say(tokens=3, done={"model_info": {"name": "m"}}))
        await client.turn(await client.say(tokens=4))
        info = (await call(server, "GET", f"/api/chat/session/{client.session_id}/info")).json()
        assert info.pop("timestamp").endswith("Z")
        assert 0 <= info.pop("processingTime") < 5
        assert info == {
            "session_id": client.session_id,
            "messageCount": 4,
            "tokensUsed": 7,
            "modelInfo": {"name": "m"},
        }


async def test_a_deleted_session_stops_says_goodbye_and_is_gone(server: Server) -> None:
    async with open_client(server) as client, open_client(server, client.session_id, v1=True) as v1:
        running = await client.say(tokens=100, pace=0.02)
        await client.until("stream_token", running)
        deleted = await call(server, "DELETE", f"/api/chat/session/{client.session_id}")
        assert (deleted.status, deleted.json()["session_id"]) == (200, client.session_id)
        assert (await client.wait_for("stream_end", running))["finish_reason"] == "cancelled"
        await v1.until("stream_receipt", running)
        assert (await client.end()).code == (await v1.end()).code == 1000
        await server.recorded("cancelled", running)
        assert (await call(server, "DELETE", f"/api/chat/session/{client.session_id}")).status == 404
        assert (await call(server, "GET", f"/api/chat/history/{client.session_id}")).status == 404
        async with open_client(server, client.session_id, v1=True) as again:
            assert again.ready["resumed"] == "new"


# Who may.


async def test_a_session_and_its_token_are_its_principal_s(locked: Server) -> None:
    refused = await call(locked, "POST", NEW)
    assert refused.status == 401
    assert "www-authenticate" in refused.headers
    made = (await call(locked, "POST", NEW, headers=ALICE)).json()
    path, token = f"/api/chat/history/{made['session_id']}", made["ws_token"]
    async with open_client(locked, made["session_id"], query={"ws_token": token}) as client:
        await client.turn(await client.say(texts=["mine"]))
    mine = await call(locked, "GET", path, headers=ALICE)
    assert [message["content"] for message in mine.json()["messages"]][1:] == ["mine"]
    for method, target in (("GET", path), ("DELETE", f"/api/chat/session/{made['session_id']}")):
        assert (await call(locked, method, target, headers=BOB)).status == 404
        assert (await call(locked, method, target, headers={"Authorization": f"Bearer {token}"})).status == 401
    assert (await call(locked, "DELETE", f"/api/chat/session/{made['session_id']}", headers=ALICE)).status == 200


async def test_a_page_from_elsewhere_may_if_it_is_listed(locked: Server) -> None:
    for origin, status in ((LISTED, 200), ("https://evil.example", 403)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = await call(locked, "OPTIONS", NEW, headers=asked)
        made = await call(locked, "POST", NEW, headers={**ALICE, "Origin": origin})
        assert preflight.status == made.status == status
        for answer in (preflight, made):
            assert answer.headers.get("access-control-allow-origin") == (origin if status == 200 else None)
            assert answer.headers["vary"] == "origin"
    missing = await call(locked, "POST", NEW, headers={"Origin": LISTED})
    assert (missing.status, missing.headers["access-control-allow-origin"]) == (401, LISTED)
    allowed = (await call(locked, "OPTIONS", NEW, headers={"Origin": LISTED})).headers
    assert "DELETE" in allowed["access-control-allow-methods"]
    assert "x-api-key" in allowed["access-control-allow-headers"]


async def test_the_subprotocol_wins_and_other_servers_know_none_of_this(server: Server, tmp_path: Path) -> None:
    async with open_client(server, v1=True) as client:
        assert kinds(await client.turn(await client.say()))[:2] == ["user_message", "stream_start"]
    with running(tmp_path, "hypercorn") as seed:
        with trio.fail_after(5):
            assert (await call(seed, "GET", "/api/chat/history/s")).status == 404
            assert (await call(seed, "POST", NEW)).status == 405


async def test_too_many_requests_of_one_address_are_told_to_wait(tmp_path: Path) -> None:
    with running(tmp_path, "hypercorn", ("--dialect", "onerag", "--handshakes-per-second", "3")) as server:
        answers = [await call(server, "POST", NEW) for _ in range(6)]
    assert answers[0].status == 200
    assert answers[-1].status == 429
    assert answers[-1].headers["retry-after"] == "1"
