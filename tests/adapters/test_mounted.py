"""The application inside a host's: real uvicorn and hypercorn processes, a raw client; and Starlette's TestClient.

What the wire says is checked by the conformance suite, which runs on the mounted application, too.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse

from support.raw_client import Refused, fresh, kinds, of, open_client, open_wire, tokens, upgraded
from support.server import MOUNTED, MOUNTED_ON_TRIO, Server, running
from trialogue_adapters.auth import Caller, Denied, Gate, Grant, Origins
from trialogue_adapters.servers.asgi import App, create_app

# ── Real servers ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=[MOUNTED, MOUNTED_ON_TRIO])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    flags = ("--max-answer-bytes", str(100 << 20))
    with running(tmp_path_factory.mktemp("host"), request.param, flags) as server:
        yield server


async def get(server: Server, path: str) -> Any:
    async with open_wire(server) as wire:
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await wire.answer()
    assert answer.status == 200
    return answer.json()


async def test_a_message_interrupts_an_answer(server: Server) -> None:
    async with open_client(server) as client:
        first = await client.say(tokens=10_000, pace=0.005)
        await client.wait_for("stream_token")
        asked = time.monotonic()
        second = await client.say(tokens=2)
        frames = await client.turn(second)
        assert time.monotonic() - asked < 1
    assert of(frames, first)[-1]["finish_reason"] == "interrupted"
    assert kinds(of(frames, second)) == ["stream_start", "stream_sources", *["stream_token"] * 2, "stream_end"]
    since = frames.index(of(frames, second)[0])
    assert of(frames[since:], first) == [], "nothing of the old answer after the new one's start"
    assert (await server.recorded("closed", first))["at"] - asked < 1


async def test_the_host_serves_its_own_beside_it(server: Server) -> None:
    async with open_client(server) as client:
        await client.say(tokens=10_000, pace=0.005)
        await client.wait_for("stream_token")
        assert (await get(server, "/health"))["pid"] in server.pids()


async def test_connections_leave_no_task_behind(server: Server) -> None:
    session = fresh("s")
    async with open_client(server, session) as client:
        await client.quiet()
        with_one = (await get(server, "/health"))["tasks"]
    for how in 3 * ("reset", "fin", 1000, 1001):
        async with open_client(server, session) as client:
            await client.turn(await client.say(tokens=5))
            if isinstance(how, str):
                await client.vanish(how)
            else:
                await client.close(how)
    with trio.fail_after(5):
        while (await get(server, "/health"))["tasks"] >= with_one:  # twelve leftovers would be more than one takes
            await trio.sleep(0.02)


async def test_what_is_refused_is_an_http_answer(server: Server) -> None:
    with pytest.raises(Refused) as refused:
        async with open_client(server, "not allowed"):
            pass
    assert refused.value.status == 400
    assert "session_id" in refused.value.json()["error"]["message"]


async def test_a_token_in_the_query_is_not_logged(server: Server) -> None:
    async with open_client(server, query={"ws_token": "s3cret"}) as client:
        await client.quiet()
    assert "s3cret" not in server.log()


async def test_many_at_once_each_get_their_own(server: Server) -> None:
    async def one() -> None:
        async with open_client(server) as client:
            turn = await client.turn(await client.say(tokens=20, pace=0.005))
            assert tokens(turn) == [f"t{n} " for n in range(20)]

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)


async def test_who_does_not_read_holds_up_its_own_upstream_and_nobody_else(server: Server) -> None:
    async with open_wire(server) as wire, open_client(server) as other:
        wire.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = await upgraded(wire)
        flood = await client.say(tokens=200_000, size=200)
        await server.recorded("opened", flood)
        turn = await other.turn(await other.say(tokens=20, pace=0.005))
        assert len(tokens(turn)) == 20
        assert server.record("closed", flood) == [], "it waits: 40 MB are in no buffer"
        assert sum(_resident(pid) for pid in server.pids()) < 400 << 20


def _resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


LEFTOVERS = ("Traceback", "was never awaited", "was destroyed", "never retrieved", "Warning", "CRITICAL")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_uvicorn_leaves_in_mid_answer_without_a_trace(tmp_path: Path, loop: str) -> None:
    variables = {"PYTHONWARNINGS": "error", "PYTHONASYNCIODEBUG": "1", "UVICORN_LOOP": loop}
    with running(tmp_path, MOUNTED, variables=variables) as server:
        async with open_client(server) as client:
            message_id = await client.say(tokens=10_000, pace=0.005)
            await client.wait_for("stream_token")
            server.signal(signal.SIGTERM)
            assert (await client.end()).code == 1012
        assert await server.exit_code() == -signal.SIGTERM, "uvicorn ends by the signal that it got"
        await server.recorded("closed", message_id)
        log = server.log()
    assert "Application shutdown complete" in log
    assert not [word for word in LEFTOVERS if word in log], log


# ── In one process: Starlette's TestClient runs the host in another thread, on asyncio or on Trio ────────────────


class Words:
    """The service of these tests."""

    async def stream_rag_pipeline(self, message: str, session_id: str) -> AsyncGenerator[Any, None]:
        for word in message.split():
            yield {"event": "chunk", "data": word}


async def trio_words(message: str, session_id: str) -> AsyncGenerator[Any, None]:
    await trio.lowlevel.checkpoint()
    yield {"event": "chunk", "data": message}


BACKENDS = ("asyncio", "trio")


def three_lines() -> tuple[FastAPI, App]:
    chat = create_app(Words)
    app = FastAPI(lifespan=chat.lifespan)
    app.router.add_websocket_route("/chat-ws", chat)
    return app, chat


def ask(client: TestClient, path: str = "/chat-ws") -> list[str]:
    """A turn's tokens."""
    session = fresh("s")
    with client.websocket_connect(f"{path}?session_id={session}") as ws:
        ws.send_json({"message_id": "m", "content": "one two", "session_id": session})
        return [event["token"] for event in until_end(ws) if event["type"] == "stream_token"]


def until_end(ws: Any) -> Sequence[dict[str, Any]]:
    events = [ws.receive_json()]
    while events[-1]["type"] not in ("stream_end", "stream_error"):
        events.append(ws.receive_json())
    return events


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_three_lines_under_starlettes_test_client(backend: Any) -> None:
    app, chat = three_lines()
    for _ in range(2):  # a suite enters it again and again
        with TestClient(app, backend=backend) as client:
            assert ask(client) == ["one", "two"]
            assert chat.hub.ready
        assert not chat.hub.running


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_its_lifespan_it_says_what_to_do(backend: Any) -> None:
    app, _ = three_lines()
    with pytest.raises(RuntimeError, match=r"lifespan=chat\.lifespan"):
        ask(TestClient(app, backend=backend))  # not entered: TestClient runs the lifespan for a `with` block only


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_hosts_own_lifespan_holds_ours(backend: Any) -> None:
    order, chat = [], create_app(Words)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, str], None]:
        order.append("pool opened")
        async with chat.lifespan(app):
            order.append(f"engine {'up' if chat.hub.ready else 'down'}")
            yield {"pool": "a pool"}
        order.append(f"engine {'up' if chat.hub.running else 'down'}")

    app = FastAPI(lifespan=lifespan)
    app.mount("/assistant", chat)
    with TestClient(app, backend=backend) as client:
        assert ask(client, "/assistant/chat-ws") == ["one", "two"]
    assert order == ["pool opened", "engine up", "engine down"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_mounts_in_one_application(backend: Any) -> None:
    first, second = create_app(Words), create_app(trio_words, runtime="trio")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        async with first.lifespan(app), second.lifespan(app):
            yield

    app = Starlette(lifespan=lifespan, routes=[Mount("/first", first), Mount("/second", second)])
    with TestClient(app, backend=backend) as client:
        assert ask(client, "/first/chat-ws") == ["one", "two"]
        assert ask(client, "/second/chat-ws") == ["one two"]
        assert "trialogue_turns_accepted_total 1.0" in client.get("/first/metrics").text
        assert client.get("/second/healthz").json()["status"] == "ready"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mount_brings_the_other_endpoints_too(backend: Any) -> None:
    chat = create_app(Words)
    app = Starlette(lifespan=chat.lifespan, routes=[Mount("/a", chat)])
    with TestClient(app, backend=backend) as client:
        for path, status in [("/a/livez", 200), ("/a/readyz", 200), ("/a/", 200), ("/a/nothing", 404), ("/livez", 404)]:
            assert client.get(path).status_code == status, path
        streamed = client.post("/a/chat/stream", json={"message": "one two", "message_id": "m", "session_id": "s"})
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert re.findall(r'"token":"(\w+)"', streamed.text) == ["one", "two"]
        assert client.post("/a/chat/cancel", json={"session_id": "s"}).status_code == 200
        assert client.post("/a/auth/ws-token", json={"session_id": "s"}).status_code != 500


def test_a_route_alone_brings_nothing_else() -> None:
    chat = create_app(Words)
    app = Starlette(lifespan=chat.lifespan, routes=[WebSocketRoute("/chat-ws", chat)])
    with TestClient(app) as client:
        assert ask(client) == ["one", "two"]
        for path in ("/metrics", "/readyz", "/", "/chat-ws"):
            assert client.get(path).status_code == 404, path


class Cookies:
    """Whoever has logged in to the host."""

    challenges = ('Cookie realm="host"',)

    def identify(self, caller: Caller) -> Grant:
        if caller.first("cookie") != "login=alice":
            raise Denied(401, "please log in")
        return Grant("alice")

    def principals(self) -> None:
        return None


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_is_let_in_is_the_gates_to_say(backend: Any) -> None:
    chat = create_app(Words, gate=Gate(Cookies(), origins=Origins(["https://friend.example"])))
    app = FastAPI(lifespan=chat.lifespan)
    app.mount("/a", chat)
    login = {"cookie": "login=alice"}
    requests: list[tuple[dict[str, str], int]] = [
        ({}, 401),
        ({**login, "origin": "https://stranger.example"}, 403),
        ({**login, "origin": "https://friend.example"}, 101),
        ({**login, "origin": "http://testserver"}, 101),
    ]
    with TestClient(app, backend=backend) as client:
        for headers, status in requests:
            assert handshake(client, headers) == status, headers


def handshake(client: TestClient, headers: dict[str, str]) -> int:
    try:
        with client.websocket_connect("/a/chat-ws?session_id=s", headers=headers):
            return 101
    except WebSocketDenialResponse as refused:
        return refused.status_code


def test_the_hosts_handlers_call_the_hub_directly() -> None:
    app, chat = three_lines()

    @app.get("/announce")
    async def announce() -> dict[str, int]:
        return {"told": chat.hub.broadcast({"type": "notice", "text": "lunch"})}

    with TestClient(app) as client, client.websocket_connect("/chat-ws?session_id=s") as ws:
        assert client.get("/announce").json() == {"told": 1}
        assert ws.receive_json() == {"type": "notice", "text": "lunch"}


def test_a_service_may_come_late_from_the_hosts_loop() -> None:
    chat = create_app()
    app = Starlette(lifespan=chat.lifespan, routes=[WebSocketRoute("/chat-ws", chat)])
    with TestClient(app) as client:
        assert client.portal
        client.portal.call(chat.set_chat_service, Words)
        deadline = time.monotonic() + 5
        while not chat.hub.ready:
            assert time.monotonic() < deadline
            client.portal.call(asyncio.sleep, 0)
        assert ask(client) == ["one", "two"]


def test_a_service_that_cannot_be_opened_is_the_hosts_failure_to_start() -> None:
    chat = create_app(object())
    app = Starlette(lifespan=chat.lifespan, routes=[WebSocketRoute("/chat-ws", chat)])
    with pytest.raises(ExceptionGroup) as raised, TestClient(app):
        pytest.fail("it has started")
    assert raised.group_contains(TypeError, match="stream_rag_pipeline", depth=None)


def test_an_engine_that_has_crashed_turns_everybody_away_and_the_host_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    chat = create_app(Words)
    app = FastAPI(lifespan=chat.lifespan)
    app.get("/own")(lambda: "mine")
    app.mount("/a", chat)

    async def crash() -> None:
        async def bug() -> None:
            raise LookupError("a bug")

        assert chat._injection
        chat._injection.start_soon(bug)

    seen: list[Any] = []
    with pytest.raises(ExceptionGroup) as raised, TestClient(app) as client:  # noqa: PT012 - its end raises
        assert client.portal
        with client.websocket_connect("/a/chat-ws?session_id=s"):
            client.portal.call(crash)
            deadline = time.monotonic() + 5
            while chat.hub.running:
                assert time.monotonic() < deadline
                client.portal.call(asyncio.sleep, 0.01)
        seen += [client.get("/own").json(), client.get("/a/readyz").status_code]
        with pytest.raises(WebSocketDenialResponse) as refused:
            ask(client, "/a/chat-ws")
        seen.append(refused.value.status_code)
    assert seen == ["mine", 503, 503]  # out here: the end's error would hide another
    assert raised.group_contains(LookupError, match="a bug", depth=None)
    assert "turns everybody away" in caplog.text
