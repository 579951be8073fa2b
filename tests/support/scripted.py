"""An HTTP server that says what it is told to say, byte for byte: for what no good server does on demand.

A script is bytes to send, numbers to sleep, or `HANG`: nothing more until the client has gone. Each request gets the
next script; the last one serves for all that follow. The connection is closed at a script's end.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

HANG = object()
TLS = b"\x16"
"""How a client begins that wants TLS."""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
Script = Sequence[Any]


def refusal(status: int, body: object = None, *headers: str) -> list[bytes]:
    """A whole response with a JSON body."""
    content = json.dumps(body or {"error": {"message": "as told"}}).encode()
    head = [f"HTTP/1.1 {status} As Told", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    return ["\r\n".join(head).encode() + b"\r\n\r\n" + content]


class Scripted:
    """What the server has seen: the requests' heads and bodies, and how many of its clients have hung up."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self.heads: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.gone = trio.Event()
        self._scripts = list(scripts)
        self.url = ""

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            head, body = await _read_request(stream)
            self.heads.append(head)
            self.bodies.append(json.loads(body) if body else {})
            script = self._scripts[min(len(self.heads), len(self._scripts)) - 1]
            for step in script:
                if isinstance(step, bytes):
                    await stream.send_all(step)
                elif step is HANG:
                    while await stream.receive_some():
                        pass
                    self.gone.set()
                else:
                    await trio.sleep(step)
        except trio.BrokenResourceError:
            self.gone.set()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await stream.aclose()


async def _read_request(stream: trio.SocketStream) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await stream.receive_some()
        if not piece or piece.startswith(TLS):
            raise trio.BrokenResourceError
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    while len(body) < int(fields.get("content-length", 0)):
        body += await stream.receive_some()
    return head.decode(), body


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncGenerator[Scripted]:
    """Serve these scripts for the length of the block."""
    server = Scripted(scripts)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        host, port = listeners[0].socket.getsockname()[:2]
        server.url = f"http://{host}:{port}"
        yield server
        nursery.cancel_scope.cancel()
