"""Clients that say nothing: before their request is whole, and after they have vanished from the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio

from support.raw_client import Closed, Wire, chat_path, fresh, open_client, open_wire, request
from support.server import LISTENERS, PLAIN, Server, running
from trialogue_adapters.servers.guard import HANDSHAKE_SECONDS

HEARTBEAT = 1.0


async def seconds_until_closed(server: Server, name: str, found: dict[str, float]) -> None:
    head = request(chat_path(fresh("s")))
    async with open_wire(server) as wire, trio.open_nursery() as nursery:
        started = trio.current_time()
        if name == "half a request":
            await wire.send(head[: len(head) // 2])
        if name == "a request that drips":
            nursery.start_soon(drip, wire, head)
        with pytest.raises(Closed):
            await wire.until(b"no such thing")
        found[f"{name}, {server.listener}"] = trio.current_time() - started
        nursery.cancel_scope.cancel()


async def drip(wire: Wire, head: bytes) -> None:
    for n in range(len(head)):
        await wire.shove(head[n : n + 1])
        await trio.sleep(0.25)


@pytest.mark.slow
async def test_who_makes_no_request_is_gone_after_the_handshakes_deadline(tmp_path: Path) -> None:
    found: dict[str, float] = {}
    with ExitStack() as stack:
        servers = []
        for listener in (*LISTENERS, PLAIN):
            folder = tmp_path / listener
            folder.mkdir()
            servers.append(stack.enter_context(running(folder, listener)))
        async with trio.open_nursery() as nursery:
            for server in servers:
                for name in ("nothing", "half a request", "a request that drips"):
                    nursery.start_soon(seconds_until_closed, server, name, found)
    assert len(found) == 9
    assert all(HANDSHAKE_SECONDS - 0.5 < seconds < HANDSHAKE_SECONDS + 2.5 for seconds in found.values()), found


# A client in a network namespace of its own, whose link is then taken down: no FIN, no RST, no answer any more.


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)


@contextmanager
def island() -> Generator[tuple[str, str]]:
    """A network namespace behind a pair of virtual interfaces. Yields its name, and our address in there."""
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` command")
    name, third = f"tlg{os.getpid()}", os.getpid() % 250 + 1
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted: {error.stderr.strip()}")
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        ip("addr", "add", f"10.213.{third}.1/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", name, "addr", "add", f"10.213.{third}.2/30", "dev", f"{name}b")
        ip("-n", name, "link", "set", f"{name}b", "up")
        yield name, f"10.213.{third}.1"
    finally:
        ip("netns", "del", name)


CLIENT = """
import socket, sys, time
end = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
end.sendall(sys.stdin.buffer.read())
time.sleep(60)
"""


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in mid answer"])
async def test_a_client_that_vanishes_is_noticed_within_two_heartbeats(
    listener: str, busy: bool, tmp_path: Path
) -> None:
    flags = ("--host", "0.0.0.0", "--insecure", "--heartbeat", str(HEARTBEAT))
    with island() as (name, address), running(tmp_path, listener, flags) as server:
        session_id = fresh("s")
        client = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-c", CLIENT, address, str(server.port)],
            stdin=subprocess.PIPE,
        )
        try:
            assert client.stdin
            async with open_client(server, session_id, v1=True) as tab:
                client.stdin.write(request(chat_path(session_id)))
                client.stdin.close()
                assert (await tab.wait_for("presence"))["connections"] == 2
                if busy:
                    await tab.say(tokens=10_000, pace=0.005)
                    await tab.wait_for("stream_token")
                ip("-n", name, "link", "set", f"{name}b", "down")
                before = time.monotonic()
                with trio.fail_after(2 * HEARTBEAT + 1):
                    assert (await tab.wait_for("presence"))["connections"] == 1
                print(f"\n{listener}: noticed after {time.monotonic() - before:.2f} s, heartbeat {HEARTBEAT:g} s")
        finally:
            client.kill()
            client.wait()
