"""`servers/asgi.py` without a server: an ASGI host in memory, lifespan, late injection, and the HTTP endpoints."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trialogue_adapters.servers.asgi import App, ConfiguredApp, create_app


async def service(message: str, session_id: str) -> AsyncGenerator[Any, None]:
    yield {"event": "chunk", "data": message}


async def get(app: App, path: str, method: str = "GET", **scope: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app({"type": "http", "method": method, "path": path, "headers": [], **scope}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


class Client:
    """One WebSocket on an app, over plain ASGI."""

    def __init__(self) -> None:
        self.to_app, self._receive = trio.open_memory_channel[Any](100)
        self._send, self.from_app = trio.open_memory_channel[Any](1000)

    async def run(self, app: App, query: str = "session_id=s&lang=en", **scope: Any) -> None:
        whole = {"type": "websocket", "path": "/chat-ws", "query_string": query.encode(), "headers": [], **scope}
        await app(whole, self._receive.receive, self._send.send)

    async def next(self) -> Any:
        with trio.fail_after(5):
            message = await self.from_app.receive()
        return json.loads(message["text"]) if message["type"] == "websocket.send" else message

    def say(self, **frame: Any) -> None:
        self.to_app.send_nowait({"type": "websocket.receive", "text": json.dumps({"session_id": "s", **frame})})


@asynccontextmanager
async def connected(app: App, **scope: Any) -> AsyncGenerator[Client]:
    client = Client()
    async with trio.open_nursery() as nursery:
        client.to_app.send_nowait({"type": "websocket.connect"})
        nursery.start_soon(lambda: client.run(app, **scope))
        assert (await client.next())["type"] == "websocket.accept"
        yield client
        client.to_app.send_nowait({"type": "websocket.disconnect", "code": 1006})


async def test_a_turn_over_plain_asgi() -> None:
    app = create_app(service, runtime="trio")
    async with app.lifespan(), connected(app) as client:
        client.say(message_id="m", content="hello")
        kinds = [(await client.next())["type"] for _ in range(4)]
        assert kinds == ["stream_start", "stream_token", "stream_sources", "stream_end"]
    assert repr(app) == "<App <Hub closed, 0 sessions, 0 connections>>"


async def test_the_service_may_come_late() -> None:
    app = create_app()
    async with app.lifespan(), connected(app) as client:
        client.say(message_id="m", content="hello")
        assert (await client.next())["error_code"] == "WS-002"
        assert (await get(app, "/readyz"))[0] == 503
        app.set_chat_service(service, runtime="trio")
        with trio.fail_after(5):
            while not app.hub.ready:
                await trio.lowlevel.checkpoint()
        assert (await get(app, "/readyz"))[0] == 200
        client.say(message_id="m", content="hello")
        assert (await client.next())["type"] == "stream_start"
        with pytest.raises(RuntimeError, match="already"):
            app.set_chat_service(service)


async def test_the_service_may_come_before_the_start() -> None:
    app = create_app()
    app.set_chat_service(service, runtime="trio")
    async with app.lifespan():
        assert app.hub.ready


async def test_a_late_service_that_cannot_be_opened_leaves_the_app_standing() -> None:
    app = create_app()
    async with app.lifespan():
        app.set_chat_service(object(), runtime="trio")
        await trio.testing.wait_all_tasks_blocked()
        assert (await get(app, "/livez"))[0] == 200
        assert (await get(app, "/readyz"))[0] == 503
        app.set_chat_service(service, runtime="trio")
        await trio.testing.wait_all_tasks_blocked()
        assert app.hub.ready


async def starts(app: Any) -> Any:
    """What the app answers to a server that starts it."""
    to_app, receive = trio.open_memory_channel[Any](10)
    send, from_app = trio.open_memory_channel[Any](10)
    to_app.send_nowait({"type": "lifespan.startup"})
    await app({"type": "lifespan"}, receive.receive, send.send)
    return await from_app.receive()


async def test_a_server_hears_why_it_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await starts(create_app(object(), runtime="trio"))
    assert answer["type"] == "lifespan.startup.failed"
    assert "stream_rag_pipeline" in answer["message"]
    monkeypatch.setenv("TRIALOGUE_SERVICE", "no_such_module:service")
    answer = await starts(ConfiguredApp())
    assert answer["type"] == "lifespan.startup.failed"
    assert "no_such_module" in answer["message"]


async def test_the_lifespan_protocol() -> None:
    app = create_app(service, runtime="trio")
    to_app, receive = trio.open_memory_channel[Any](10)
    send, from_app = trio.open_memory_channel[Any](10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, {"type": "lifespan"}, receive.receive, send.send)
        to_app.send_nowait({"type": "lifespan.startup"})
        assert (await from_app.receive())["type"] == "lifespan.startup.complete"
        assert app.hub.ready
        to_app.send_nowait({"type": "lifespan.shutdown"})
        assert (await from_app.receive())["type"] == "lifespan.shutdown.complete"
    assert not app.hub.running


async def test_a_server_whose_host_opened_the_lifespan_need_not() -> None:
    app = create_app(service, runtime="trio")
    to_app, receive = trio.open_memory_channel[Any](10)
    send, from_app = trio.open_memory_channel[Any](10)
    async with app.lifespan(), trio.open_nursery() as nursery:
        nursery.start_soon(app, {"type": "lifespan"}, receive.receive, send.send)
        to_app.send_nowait({"type": "lifespan.startup"})
        assert (await from_app.receive())["type"] == "lifespan.startup.complete"
        to_app.send_nowait({"type": "lifespan.shutdown"})
        assert (await from_app.receive())["type"] == "lifespan.shutdown.complete"
        assert app.hub.running


REFUSED = [("session_id=", "/chat-ws", 400), ("session_id=s", "/other", 404)]


@pytest.mark.parametrize(("query", "path", "status"), REFUSED)
async def test_a_bad_handshake_is_an_http_answer(query: str, path: str, status: int) -> None:
    app, client = create_app(service, runtime="trio"), Client()
    async with app.lifespan():
        client.to_app.send_nowait({"type": "websocket.connect"})
        await client.run(app, query, path=path, extensions={"websocket.http.response": {}})
        start, body = await client.next(), await client.next()
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert json.loads(body["body"])["error"]["status"] == status


async def test_where_the_server_cannot_answer_it_is_closed() -> None:
    app, client = create_app(service, runtime="trio"), Client()
    async with app.lifespan():
        client.to_app.send_nowait({"type": "websocket.connect"})
        await client.run(app, "session_id=")
        assert (await client.next())["type"] == "websocket.close"


async def test_binary_frames_are_told_apart() -> None:
    app = create_app(service, runtime="trio")
    async with app.lifespan(), connected(app) as client:
        client.to_app.send_nowait({"type": "websocket.receive", "bytes": b"x"})
        message = await client.next()
        assert (message["type"], message["code"]) == ("websocket.close", 1003)


PAGES = [
    ("/", 200, b"text/html; charset=utf-8"),
    ("/bot", 200, b"text/html; charset=utf-8"),
    ("/static/page.js", 200, b"text/javascript; charset=utf-8"),
    ("/static/../asgi.py", 404, b"application/json"),
    ("/static/nothing", 404, b"application/json"),
    ("/nothing", 404, b"application/json"),
    ("/livez", 200, b"application/json"),
    ("/readyz", 200, b"application/json"),
    ("/healthz", 200, b"application/json"),
    ("/chat-ws", 426, b"application/json"),
]


@pytest.mark.parametrize(("path", "status", "content_type"), PAGES)
async def test_every_endpoint(path: str, status: int, content_type: bytes) -> None:
    app = create_app(service, runtime="trio")
    async with app.lifespan():
        got, headers, body = await get(app, path)
        assert (got, headers[b"content-type"]) == (status, content_type)
        assert int(headers[b"content-length"]) == len(body) > 0
        got, headers, body = await get(app, path, "HEAD")
        assert (got, body) == (status, b"")
        assert int(headers[b"content-length"]) > 0


async def test_the_page_has_a_strict_policy() -> None:
    app = create_app(service, runtime="trio")
    _, headers, _ = await get(app, "/")
    assert b"default-src 'none'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"


async def test_the_page_can_be_left_out_and_posts_are_refused() -> None:
    app = create_app(service, runtime="trio", page=False)
    assert (await get(app, "/"))[0] == 404
    assert (await get(app, "/livez", "POST"))[0] == 405


async def test_mounted_below_a_path() -> None:
    app = create_app(service, runtime="trio")
    assert (await get(app, "/chat/livez", root_path="/chat"))[0] == 200


async def test_metrics_count_what_happened() -> None:
    app = create_app(service, runtime="trio")
    async with app.lifespan(), connected(app) as client:
        client.say(message_id="m", content="hello")
        while (await client.next())["type"] != "stream_end":
            pass
        client.say(message_id="", content="x")
        assert (await client.next())["error_code"] == "WS-001"
        _, headers, body = await get(app, "/metrics")
    text = body.decode()
    assert headers[b"content-type"].startswith(b"text/plain")
    assert "trialogue_turns_accepted_total 1.0" in text
    assert 'trialogue_turns_ended_total{code="",ending="completed"} 1.0' in text
    assert 'trialogue_refusals_total{code="WS-001"} 1.0' in text
    assert "trialogue_connections 1.0" in text
    assert "hello" not in text


async def test_an_unknown_scope_is_said() -> None:
    with pytest.raises(ValueError, match="carrier-pigeon"):
        await create_app()({"type": "carrier-pigeon"}, None, None)  # type: ignore[arg-type]
