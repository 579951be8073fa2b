"""The nginx configuration of `docs/deploy.md`, in a real nginx, before real servers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import trio

from support.auth import ALICE, token, write_files
from support.event_stream import Stream, fields_of, post
from support.nginx import Nginx, running_nginx
from support.pages import texts
from support.raw_client import Client, Closed, Refused, fresh, request, tokens
from support.server import Server, running
from trialogue_adapters.settings import Settings

pytestmark = pytest.mark.slow

WHOLE, UPSTREAMS = texts("deploy.md", "nginx")
SEVERAL = UPSTREAMS + WHOLE.partition("}\n")[2]
READ_TIMEOUT = re.search(r"proxy_read_timeout (\d+)s;", WHOLE)
assert READ_TIMEOUT
PATIENCE = int(READ_TIMEOUT[1])
CONNECTIONS = 3
FLAGS = ("--proxies", "1", "--max-connections-per-client", str(CONNECTIONS))


@pytest.fixture(scope="module")
def nginx(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Generator[Nginx]:
    with running_nginx(WHOLE, [server], tmp_path_factory.mktemp("nginx")) as nginx:
        yield nginx


def middle_gap(arrivals: list[float]) -> float:
    return median(later - earlier for earlier, later in pairwise(arrivals))


async def test_tokens_arrive_one_by_one(nginx: Nginx) -> None:
    count, pace = 15, 0.08
    async with nginx.client() as client:
        message_id = await client.say(tokens=count, pace=pace)
        arrivals = []
        while (body := await client.next())["type"] != "stream_end":
            if body["type"] == "stream_token":
                arrivals.append(time.monotonic())
        assert body["message_id"] == message_id
    assert len(arrivals) == count
    assert pace / 2 < middle_gap(arrivals) < pace * 2, "held back, and then sent together"


@pytest.mark.parametrize("buffering", ["", "proxy_buffering off;"], ids=["nginx's own", "as told"])
async def test_server_sent_events_arrive_one_by_one(
    buffering: str, server: Server, listener: str, tmp_path: Path
) -> None:
    if listener != "hypercorn":
        pytest.skip("this listener serves WebSockets only")
    count, pace = 15, 0.08
    question = json.dumps(fields_of(options={"tokens": count, "pace": pace})).encode()
    with running_nginx(WHOLE, [server], tmp_path, changes={"proxy_buffering off;": buffering}) as nginx:
        arrivals = []
        async with nginx.wire() as wire:
            await wire.send(post("/chat/stream", question))
            status, headers = await wire.head()
            assert status == 200
            stream = Stream(wire, headers)
            while event := await stream.next():
                if event.name == "chunk":
                    arrivals.append(time.monotonic())
    assert len(arrivals) == count
    assert pace / 2 < middle_gap(arrivals) < pace * 2, "held back, and then sent together"


async def test_an_interrupt_goes_through(nginx: Nginx) -> None:
    async with nginx.client() as client:
        first = await client.say(tokens=1000, pace=0.02)
        await client.wait_for("stream_token", first)
        before = time.monotonic()
        second = await client.say()
        assert (await client.turn(first))[-1]["finish_reason"] == "interrupted"
        assert time.monotonic() - before < 1
        assert (await client.turn(second))[-1]["finish_reason"] == "stop"


async def test_budgets_are_those_of_the_address_that_nginx_sees(nginx: Nginx) -> None:
    async with AsyncExitStack() as stack:
        for n in range(CONNECTIONS):
            lie = {"X-Forwarded-For": f"10.0.0.{n}"}
            await stack.enter_async_context(nginx.client(local="127.0.0.2", headers=lie))
        with pytest.raises(Refused) as refused:
            await stack.enter_async_context(
                nginx.client(local="127.0.0.2", headers={"X-Forwarded-For": "10.0.0.9, 10.0.0.10"})
            )
        assert refused.value.status == 429
        assert "connections" in refused.value.json()["error"]["message"], "as the server says it"
        async with nginx.client(local="127.0.0.3") as other:
            await other.quiet()


async def test_a_stream_outlives_a_reload_and_is_resumed_when_the_old_worker_goes(
    server: Server, tmp_path: Path
) -> None:
    count = 60
    with running_nginx(WHOLE, [server], tmp_path, patience=1) as nginx:
        session = fresh("s")
        async with nginx.client(session, v1=True) as client:
            epoch = client.ready["position"].split(":")[0]
            message_id = await client.say(tokens=count, pace=0.05)
            frames = await client.until("stream_token", message_id)
            nginx.reload()
            frames += await rest(client, 1006)
        seen = len(tokens(frames, message_id))
        assert 10 < seen < count, "it went on for a second, and was then cut"
        last = [body["offset"] for body in frames if "offset" in body][-1]
        async with nginx.client(session, v1=True, query={"after": f"{epoch}:{last}"}) as client:
            assert client.ready["resumed"] == "replayed"
            frames += await client.turn(message_id)
            indices = [body["index"] for body in frames if body["type"] == "stream_token"]
            assert indices == list(range(count)), "not one twice, not one missing"


async def rest(client: Client, code: int) -> list[dict[str, Any]]:
    """What comes until the connection ends, which it must do with that code."""
    before = len(client.texts)
    assert (await client.end()).code == code
    return [json.loads(text) for text in client.texts[before:]]


@pytest.mark.parametrize(("heartbeat", "stays"), [(20.0, True), (1000.0, False)], ids=["as told", "rarer"])
async def test_an_idle_connection_lives_on_the_heartbeat(
    listener: str, tmp_path: Path, heartbeat: float, stays: bool
) -> None:
    """The page's patience and the heartbeat, both 50 times as fast; without heartbeats nginx would end it."""
    patience = PATIENCE / 50
    changes = {f"proxy_read_timeout {PATIENCE}s": f"proxy_read_timeout {patience * 1000:.0f}ms"}
    with (
        running(tmp_path, listener, ("--heartbeat", str(heartbeat / 50))) as server,
        running_nginx(WHOLE, [server], tmp_path, changes=changes) as nginx,
    ):
        async with nginx.client() as client:
            with trio.move_on_after(2 * patience), pytest.raises(Closed) as closed:
                await client.receive()  # answers pings meanwhile
            if stays:
                await client.turn(await client.say())
            else:
                assert closed.value.code == 1006
                client.gone = True


def test_the_server_is_less_patient_than_nginx() -> None:
    assert 2 * Settings.model_fields["heartbeat"].default + 1 < PATIENCE


async def test_the_drain_is_told_and_newcomers_find_the_other_process(listener: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "nginx")]
    for folder in folders:
        folder.mkdir()
    with (
        running(folders[0], listener) as one,
        running(folders[1], listener) as two,
        running_nginx(SEVERAL, [one, two], folders[2]) as nginx,
    ):
        session = fresh("s")
        async with nginx.client(session, v1=True) as client, nginx.client(session, v1=True) as tab:
            assert tab.ready["connections"] == 2, "both are in the same process"
            message_id = await client.say(tokens=80, pace=0.02)
            await client.wait_for("stream_token", message_id)
            owner, other = (one, two) if one.record("opened", message_id) else (two, one)
            owner.signal()
            async with nginx.client(session, v1=True, query={"after": client.ready["position"]}) as early:
                assert early.ready["resumed"] == "gap", "the one that drains says 503, and is passed by"
            assert (await client.turn(message_id))[-1]["finish_reason"] == "stop"
            assert "goaway" in [body["type"] for body in await rest(client, 1012)]
            tab.gone = True
        assert await owner.exit_code() == 0
        async with nginx.client(session) as late:
            again = await late.say()
            await late.turn(again)
            assert other.record("opened", again)


# ── What is HTTP, with keys ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Generator[Nginx]:
    """nginx before a server with keys."""
    folder = tmp_path_factory.mktemp("locked")
    with (
        running(folder, "hypercorn", ("--proxies", "1", *write_files(folder))) as server,
        running_nginx(WHOLE, [server], folder) as nginx,
    ):
        yield nginx


PLAIN = dict.fromkeys(["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])


async def asked(nginx: Nginx, path: str, headers: dict[str, str | None] | None = None, **options: str) -> Refused:
    """The HTTP answer to a GET."""
    async with nginx.wire(**options) as wire:
        await wire.send(request(path, {**PLAIN, "Host": nginx.host, **(headers or {})}))
        return await wire.answer()


@pytest.mark.parametrize(("page", "status"), [("https://{}", 101), ("https://elsewhere.example", 403)])
async def test_pages_of_our_own_origin_may_connect(locked: Nginx, page: str, status: int) -> None:
    session, headers = fresh("s"), {"Origin": page.format(locked.host)}
    try:
        async with locked.client(session, headers=headers, query={"ws_token": token(session)}) as client:
            await client.turn(await client.say())
            answered = 101
    except Refused as refused:
        answered = refused.status
    assert answered == status


async def test_a_browser_s_way_in(locked: Nginx) -> None:
    """A token minted over HTTP through nginx opens the session, and stays out of the access log."""
    session = fresh("s")
    body = json.dumps({"session_id": session})
    page = {"Host": locked.host, "Origin": f"https://{locked.host}", "Content-Length": str(len(body))}
    async with locked.wire() as wire:
        await wire.send(request("/auth/ws-token", {**PLAIN, **page, **ALICE}, "POST") + body.encode())
        minted = (await wire.answer()).json()["ws_token"]
    async with locked.client(session, query={"ws_token": minted}) as client:
        await client.turn(await client.say())
    with trio.fail_after(5):
        while locked.log.count("/chat-ws") == 0:
            await trio.sleep(0.01)
    assert '"POST /auth/ws-token" 200' in locked.log
    assert "ws_token=" not in locked.log
    assert minted not in locked.log


async def test_a_refusal_comes_as_the_server_says_it(locked: Nginx) -> None:
    with pytest.raises(Refused) as refused:
        async with locked.client():
            pass
    assert refused.value.status == 401
    assert refused.value.headers["www-authenticate"]
    assert refused.value.json()["error"]["status"] == 401


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), *((path, 404) for path in ("/livez", "/readyz", "/healthz", "/metrics"))]
)
async def test_the_page_is_shown_and_the_operators_endpoints_are_not(locked: Nginx, path: str, status: int) -> None:
    answer = await asked(locked, path)
    assert answer.status == status
    if status == 404:
        assert b"nginx" in answer.body, "the server was not even asked"


async def test_only_websockets_are_upgraded(locked: Nginx) -> None:
    """HTTP/2 in an upgraded connection would be a tunnel: nginx sees none of the requests in it."""
    h2c = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
    assert (await asked(locked, "/", h2c)).status == 200


async def test_foreign_names_get_nowhere(locked: Nginx) -> None:
    with pytest.raises(Closed):
        await asked(locked, "/", {"Host": "elsewhere.example"})
    with pytest.raises(trio.BrokenResourceError):
        await asked(locked, "/", name="elsewhere.example")
