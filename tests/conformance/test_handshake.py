"""Before the upgrade: what is refused is a JSON answer with the right status; what is accepted is what was offered."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from support.raw_client import V1, Refused, chat_path, fresh, open_client, open_wire, request
from support.server import Server


async def answer(
    server: Server, path: str, headers: dict[str, str | None] | None = None, method: str = "GET"
) -> Refused:
    async with open_wire(server) as wire:
        await wire.send(request(path, headers, method))
        return await wire.answer()


def is_json_error(refused: Refused, status: int) -> bool:
    assert refused.status == status
    assert refused.headers["content-type"].startswith("application/json")
    assert isinstance(refused.json(), dict)
    return True


BAD_QUERIES = {
    "none": "",
    "no session_id": "?lang=ko",
    "an empty one": "?session_id=",
    "two": "?session_id=a&session_id=b",
    "the same twice": "?session_id=a&session_id=a",
    "129 characters": "?session_id=" + "x" * 129,
    "a space": "?session_id=a%20b",
    "a slash": "?session_id=a/b",
    "Hangul": "?session_id=%EA%B0%80",
    "a newline": "?session_id=a%0A",
    "no UTF-8": "?session_id=%FF",
    "another case": "?SESSION_ID=a",
}


@pytest.mark.parametrize("name", BAD_QUERIES)
async def test_a_missing_or_bad_session_id_is_400(server: Server, name: str) -> None:
    refused = await answer(server, "/chat-ws" + BAD_QUERIES[name])
    assert is_json_error(refused, 400)
    assert "session_id" in refused.body.decode()


@pytest.mark.parametrize("session_id", ["a", "x" * 128, "A-Z.a_z~0:9", "550e8400-e29b-41d4-a716-446655440000"])
async def test_a_good_session_id_is_accepted(server: Server, session_id: str) -> None:
    async with open_client(server, session_id) as client:
        await client.turn(await client.say(fresh("m")))


@pytest.mark.parametrize("after", ["", "x", "1", "1:", ":1", "1:x", "-1:0", "1:-1", "1:2:3", "1.5:0", "9" * 200, "١:٢"])
async def test_a_bad_after_is_400(server: Server, after: str) -> None:
    refused = await answer(server, chat_path(fresh("s"), {"after": after}))
    assert is_json_error(refused, 400)
    assert "after" in refused.body.decode()


@pytest.mark.parametrize("path", ["/", "/chat", "/chat-ws/", "/chat-ws/x", "/chat-wss", "//chat-ws", "/ws"])
async def test_a_wrong_path_is_404(server: Server, path: str) -> None:
    assert is_json_error(await answer(server, f"{path}?session_id=a"), 404)


@pytest.mark.parametrize("query", ["", "?session_id=a"])
async def test_a_plain_get_is_426(server: Server, query: str) -> None:
    refused = await answer(server, "/chat-ws" + query, dict.fromkeys(["Upgrade", "Sec-WebSocket-Key"], None))
    assert is_json_error(refused, 426)
    assert refused.headers["upgrade"].lower() == "websocket"


@pytest.mark.parametrize("version", ["8", "12", "14", "", "x"])
async def test_another_version_of_the_protocol_is_426_and_ours_is_named(server: Server, version: str) -> None:
    refused = await answer(server, chat_path(fresh("s")), {"Sec-WebSocket-Version": version})
    assert is_json_error(refused, 426)
    assert refused.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("key", [None, "", "short", "not base64 at all!!!!!!!!!"])
async def test_a_bad_key_is_400(server: Server, key: str | None) -> None:
    assert is_json_error(await answer(server, chat_path(fresh("s")), {"Sec-WebSocket-Key": key}), 400)


async def test_the_upgrade_is_answered_as_rfc_6455_says(server: Server) -> None:
    key = base64.b64encode(b"sixteen bytes ok").decode()
    async with open_client(server, headers={"Sec-WebSocket-Key": key}) as client:
        accept = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        assert client.headers["sec-websocket-accept"] == base64.b64encode(accept).decode()
        assert client.headers["upgrade"].lower() == "websocket"
        assert "upgrade" in client.headers["connection"].lower()


@pytest.mark.parametrize("offered", [V1, f"{V1}, other", f"other, {V1}"])
async def test_v1_is_accepted_when_it_is_offered(server: Server, offered: str) -> None:
    async with open_client(server, headers={"Sec-WebSocket-Protocol": offered}) as client:
        assert client.headers["sec-websocket-protocol"] == V1
        assert (await client.next())["type"] == "session_ready"


@pytest.mark.parametrize("offered", [None, "other", "other, another", "trialogue.v2"])
async def test_no_subprotocol_is_answered_that_was_not_offered(server: Server, offered: str | None) -> None:
    headers = {"Sec-WebSocket-Protocol": offered} if offered else {}
    async with open_client(server, headers=headers) as client:
        assert "sec-websocket-protocol" not in client.headers
        assert await client.quiet() == []


async def test_no_extension_is_answered_that_was_not_offered(server: Server) -> None:
    async with open_client(server) as client:
        assert "sec-websocket-extensions" not in client.headers


async def test_header_names_and_values_are_read_in_any_case(server: Server) -> None:
    headers = {"Upgrade": "WebSocket", "Connection": "keep-alive, upgrade"}
    async with open_client(server, headers=headers) as client:
        await client.turn(await client.say())


async def test_a_refused_handshake_starts_no_session(server: Server) -> None:
    session_id = fresh("s")
    await answer(server, chat_path(session_id, {"after": "x"}))
    async with open_client(server, session_id, v1=True) as client:
        assert client.ready["resumed"] == "new"


async def test_a_session_id_may_be_percent_encoded(server: Server) -> None:
    async with open_wire(server) as wire:
        await wire.send(request("/chat-ws?session%5Fid=%61bc"))
        assert (await wire.head())[0] == 101


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics", "/"])
async def test_the_other_endpoints_answer_on_hypercorn(server: Server, path: str) -> None:
    plain = dict.fromkeys(["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"], None)
    refused = await answer(server, path, plain)
    assert refused.status == (200 if server.listener == "hypercorn" else 404)
    if path == "/readyz":
        assert isinstance(json.loads(refused.body), dict)
