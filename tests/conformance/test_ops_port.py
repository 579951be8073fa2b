"""`--ops-port`: health and metrics beside either listener, and nothing else there."""

from __future__ import annotations

import json
import signal
import socket
from http.client import HTTPConnection
from pathlib import Path

import pytest
import trio

from support.metrics import ops_port
from support.raw_client import open_client
from support.server import LISTENERS, Server, running

FLAGS = ("--ops-port", "0")


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def test_it_tells_health_and_metrics_and_nothing_else(server: Server) -> None:
    port = ops_port(server)
    async with open_client(server) as client:
        await client.turn(await client.say())
        assert get(port, "/livez") == (200, '{"status": "alive"}')
        assert json.loads(get(port, "/readyz")[1]) == {"status": "ready"}
        assert json.loads(get(port, "/healthz")[1])["connections"] == 1
        assert "trialogue_turns_accepted_total" in get(port, "/metrics")[1]
    assert [get(port, path)[0] for path in ("/", "/chat-ws", "/chat/stream", "/static/page.js")] == [404] * 4
    assert get(port, "/metrics", "POST")[0] == 405


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_probe_sees_the_drain(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener, (*FLAGS, "--drain-timeout", "5")) as server:
        port = ops_port(server)
        async with open_client(server) as client:
            await client.say(tokens=1000, pace=0.01)
            await client.wait_for("stream_token")
            server.signal(signal.SIGTERM)
            with trio.fail_after(3):
                while get(port, "/readyz")[0] != 503:
                    await trio.sleep(0.05)
            assert json.loads(get(port, "/readyz")[1]) == {"status": "draining"}
            assert get(port, "/livez")[0] == 200
            await client.cancel()
            client.gone = True
            assert await server.exit_code() == 0


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_port_that_is_taken_is_named(listener: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(AssertionError, match=rf"--ops-port {port}: .*in use"),
            running(tmp_path, listener, ("--ops-port", str(port))),
        ):
            pytest.fail("it started")
