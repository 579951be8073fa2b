"""`examples/three-nodes`: one command starts it, turns go through its nginx, one signal ends all of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import trio
from trio_websocket import open_websocket_url

from support.server import _family, environment
from support.valkey import free_port, valkey_binary

RUN = Path(__file__).parents[2] / "examples" / "three-nodes" / "run.py"


@pytest.mark.slow
async def test_the_example_runs(tmp_path: Path) -> None:
    if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("nginx is not installed")
    valkey_binary()
    port, log = free_port(), tmp_path / "log"
    with log.open("w") as aside:
        process = subprocess.Popen(
            [sys.executable, str(RUN), str(port)],
            env={**environment(), "TRIALOGUE_ANSWER": "extractive"},
            stdout=subprocess.PIPE,
            stderr=aside,
            text=True,
        )
    try:
        assert process.stdout
        assert process.stdout.readline() == f"listening on http://127.0.0.1:{port}\n", log.read_text()
        family = _family(process.pid)
        for number in range(6):
            assert await answered(port, f"s-{number}")
        addresses = re.findall(r"127\.0\.0\.1:\d+", log.read_text().split("nodes: ")[1].split(";")[0])
        assert len(addresses) == 3
        for address in addresses:
            metrics = await trio.to_thread.run_sync(
                lambda url=f"http://{address}/metrics": urlopen(url).read().decode()
            )
            assert "trialogue_store_reachable" in metrics
        process.send_signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(process.wait, 40) == 0
        assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    finally:
        for pid in _family(process.pid) if process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def fetched(url: str) -> str:
    text: str = urlopen(url).read().decode()
    return text


async def answered(port: int, session_id: str) -> bool:
    """Ask something over a random node; has the answer come to its end?"""
    url = f"ws://127.0.0.1:{port}/chat-ws?session_id={session_id}"
    with trio.fail_after(20):
        async with open_websocket_url(url) as client:
            await client.send_message(
                f'{{"type":"message","message_id":"m","content":"What is a session?","session_id":"{session_id}"}}'
            )
            while '"stream_end"' not in (frame := str(await client.get_message())):
                assert '"stream_error"' not in frame
    return True
