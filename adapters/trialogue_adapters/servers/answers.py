"""Answers of plain HTTP, as values: status, body, headers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from trialogue_adapters.servers.handshake import Rejected

Answer = tuple[int, bytes, Sequence[tuple[bytes, bytes]]]

PRIVATE_JSON: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
"""Headers of what is one caller's own: no cache may keep it."""


def json_answer(status: int, body: Any) -> Answer:
    return status, json.dumps(body).encode(), ((b"content-type", b"application/json"),)


def error_answer(status: int, message: str) -> Answer:
    return json_answer(status, {"error": {"status": status, "message": message}})


def refusal(rejected: Rejected, more: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """What a caller is told whose request is refused. `more`: further headers."""
    return rejected.status, rejected.body, (*PRIVATE_JSON, *more, *rejected.headers)


async def send_answer(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    method: str,
    status: int,
    body: bytes,
    headers: Sequence[tuple[bytes, bytes]],
) -> None:
    extra = [(b"upgrade", b"websocket")] if status == 426 else []
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *extra, length]})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
