"""How tests run what a page, or a file of `examples/`, tells its reader to run: real processes on free ports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url


def environment(**more: str) -> dict[str, str]:
    """Ours, without settings of whoever runs the tests, with the virtual environment's commands."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIALOGUE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "PYTHONUTF8": "1", **more}


NUMBERS = count(1)
"""For session ids that nobody else has."""

DEFAULT_HTTP = "http://127.0.0.1:8000"
OURS = re.compile(r"listening on http(://127\.0\.0\.1:\d+)\n")
FOREIGN = re.compile(r".*[Rr]unning on http(://127\.0\.0\.1:\d+) .*\n")
"""What hypercorn and uvicorn say."""
GIVEN = {"PORT": "0", "TRIALOGUE_ANSWER": "extractive"}
FREE_PORTS = {"hypercorn": "--bind 127.0.0.1:0", "uvicorn": "--port 0"}


@contextmanager
def serving(command: list[str], folder: Path, announcement: re.Pattern[str] = OURS) -> Iterator[str]:
    """Run a server on a free port; yields its ws:// address. It must announce itself, and end well on SIGTERM.

    One that is given no service answers with the documents' own words: the local model takes ten seconds of processor
    time for an answer, and has tests of its own (tests/adapters/rag/test_local_model_real.py).
    """
    aside = subprocess.DEVNULL if announcement is OURS else subprocess.STDOUT
    with subprocess.Popen(
        command, cwd=folder, env=environment(**GIVEN), stdout=subprocess.PIPE, stderr=aside, text=True
    ) as process:
        try:
            assert process.stdout
            lines = islice(process.stdout, 1 if announcement is OURS else 4)  # others talk first
            announced = next(filter(None, map(announcement.fullmatch, lines)), None)
            assert announced, "the server did not say where it listens"
            yield f"ws{announced[1]}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def node() -> list[str]:
    """How to call a node that has WebSocket, or skip."""
    command = shutil.which("node")
    for flags in ([], ["--experimental-websocket"]) if command else ():
        asked = [str(command), *flags, "--eval", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return [str(command), *flags]
    pytest.skip("no node with a WebSocket implementation (20.10 or later)")


async def ask(url: str, mount: str = "") -> None:
    """Ask something, over both dialects; a whole answer must come."""
    for subprotocols in (None, ["trialogue.v1"]):
        session = f"docs-{next(NUMBERS)}"
        async with open_websocket_url(f"{url}{mount}/chat-ws?session_id={session}", subprotocols=subprotocols) as ws:
            await until_served(ws, session)
            await ws.send_message(frame("q", "one two", session))
            seen = [json.loads(await ws.get_message())]
            while seen[-1]["type"] not in ("stream_end", "stream_error"):
                seen.append(json.loads(await ws.get_message()))
            assert seen[-1].get("finish_reason") == "stop", seen
            assert any(event["type"] == "stream_token" for event in seen)


def frame(message_id: str, content: str, session: str) -> str:
    return json.dumps({"message_id": message_id, "content": content, "session_id": session})


async def until_served(ws: WebSocketConnection, session: str) -> None:
    """A service may come late: ask until it is there."""
    for number in count():
        await ws.send_message(frame(f"ready-{number}", "ready?", session))
        while True:
            event = json.loads(await ws.get_message())
            if event["type"] == "stream_end":
                return
            if event["type"] == "stream_error":
                assert event["error_code"] == "WS-002", event
                await trio.sleep(0.05)
                break
