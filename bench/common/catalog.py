"""Every server that is compared: the baseline, the peers, and ours; how each is started and what it speaks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from common.process import ROOT, Server

BASELINE = "fastapi"
OPEN_LIMITS = (
    "max-generations",
    "max-abandoned",
    "max-connections",
    "max-connections-per-client",
    "messages-per-minute",
    "turns-per-minute",
    "handshakes-per-second",
)
"""Limits that a load from one address would meet; 0 opens them. A version that lacks one is not given it."""


@dataclass(frozen=True)
class Peer:
    """One server. `lead`: what stands before the JSON in its frames. `path`: where its WebSocket is."""

    name: str
    title: str
    command: tuple[str, ...]
    ours: bool = False
    lead: bytes = b""
    path: str = "/chat-ws?session_id={session_id}"
    needs: str = ""

    def launch(self) -> Server:
        return Server([*self.command, *(_opened() if self.ours else ())], announces=self.ours)

    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        if self.needs == "node":
            return _node_lacks()
        absent = [module for module in self.needs.split() if find_spec(module) is None]
        return f"not installed: {' '.join(absent)}" if absent else ""


def _trialogue() -> str:
    beside = Path(sys.executable).with_name("trialogue")
    return str(beside) if beside.exists() else shutil.which("trialogue") or "trialogue"


@cache
def _opened() -> tuple[str, ...]:
    known = subprocess.run([_trialogue(), "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return tuple(word for flag in OPEN_LIMITS if f"--{flag} " in known for word in (f"--{flag}", "0"))


@cache
def _node_lacks() -> str:
    if not shutil.which("node"):
        return "node is not installed"
    tried = subprocess.run(["node", "-e", "require('ws')"], cwd=ROOT / "bench", capture_output=True, check=False)
    return "" if tried.returncode == 0 else "node cannot require('ws'): npm install ws, and say where with NODE_PATH"


def _ours(listener: str, runtime: str) -> Peer:
    service = f"bench.common.services:{runtime.capitalize()}Service"
    name = f"{'hypercorn' if listener == 'hypercorn' else 'trio-websocket'}-{runtime}"
    flags = ("--port", "0", "--listener", listener, "--service", service, "--service-runtime", runtime)
    return Peer(
        name, f"Trialogue, {listener}, {runtime} service", (_trialogue(), "serve", *flags), ours=True, needs="uvloop"
    )


def _python(name: str, title: str, *command: str, **rest: str | bytes) -> Peer:
    return Peer(name, title, (sys.executable, "-m", *command), **rest)  # type: ignore[arg-type]


_UVICORN = ("uvicorn", "--port", "{port}", "--log-level", "warning", "--no-access-log")
_HYPERCORN = ("hypercorn", "-k", "trio", "-b", "127.0.0.1:{port}", "--log-level", "WARNING")


def _mounted(name: str, where: str, server: tuple[str, ...], app: str) -> Peer:
    """Ours in a FastAPI application on a server that is not ours, with the asyncio service."""
    title, command = f"Trialogue mounted, {where}", (*server, f"bench.peers.mounted_app:{app}")
    return _python(f"mounted-{name}", title, *command, needs="fastapi uvicorn websockets")


PEERS = {
    peer.name: peer
    for peer in (
        _python(
            BASELINE, "FastAPI on uvicorn", *_UVICORN, "bench.peers.fastapi_app:app", needs="fastapi uvicorn websockets"
        ),
        _ours("hypercorn", "asyncio"),
        _ours("hypercorn", "trio"),
        _ours("trio-websocket", "asyncio"),
        _ours("trio-websocket", "trio"),
        _mounted("uvicorn", "uvicorn", _UVICORN, "app"),
        _mounted("hypercorn", "hypercorn, hardened", _HYPERCORN, "hardened()"),
        _mounted("hypercorn-stock", "stock hypercorn", _HYPERCORN, "app"),
        _python(
            "fastapi-trio",
            "FastAPI on hypercorn's Trio worker",
            *_HYPERCORN,
            "bench.peers.fastapi_app:app_on_trio",
            needs="fastapi",
        ),
        _python(
            "socketio",
            "python-socketio on uvicorn",
            *_UVICORN,
            "bench.peers.socketio_app:app",
            needs="socketio uvicorn websockets",
            path="/socket.io/?EIO=4&transport=websocket",
            lead=b'42["event",',
        ),
        Peer(
            "node-ws",
            "Node, ws",
            ("node", os.fspath(ROOT / "bench" / "peers" / "ws_server.js"), "{port}"),
            needs="node",
        ),
        _python("picows", "picows, no engine (the ceiling)", "bench.peers.picows_server", "{port}", needs="picows"),
    )
}
SHORT = (BASELINE, "hypercorn-asyncio", "hypercorn-trio", "trio-websocket-asyncio")


def choose(names: Iterable[str]) -> list[Peer]:
    """The peers of these names that can run here; says which cannot, and why."""
    chosen: list[Peer] = []
    for name in names:
        if name not in PEERS:
            sys.exit(f"no such server: {name} (there are {', '.join(PEERS)})")
        lack = PEERS[name].missing()
        if lack:
            print(f"left out: {name}: {lack}", file=sys.stderr)
        else:
            chosen.append(PEERS[name])
    return chosen
