"""The service behind a server that is checked: the message says how it is answered.

`tokens=5 pace=0.01` is answered with one source, then five tokens `t0 `, `t1 `… and 0.01 s after each. With `fail=1`
the service raises after them. For our own server: `--service trialogue_adapters.conformance.service:stream`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

SOURCE = {"title": "conformance", "score": 1.0, "content_preview": "the message says how it is answered"}


async def stream(message: str, session_id: str, options: dict[str, Any] | None = None) -> AsyncIterator[dict[str, Any]]:
    """A ChatService, as a generator function. Raises RuntimeError where the message asks for it."""
    asked = dict(word.split("=", 1) for word in message.split() if "=" in word)
    yield {"event": "metadata", "data": {"sources": [SOURCE]}}
    for number in range(int(asked.get("tokens", "3"))):
        yield {"event": "chunk", "data": token(number)}
        await asyncio.sleep(float(asked.get("pace", "0")))
    if "fail" in asked:
        raise RuntimeError("as told")
    yield {"event": "done", "data": {}}


def token(number: int) -> str:
    return f"t{number} "


def text(tokens: int) -> str:
    """The whole answer."""
    return "".join(map(token, range(tokens)))
