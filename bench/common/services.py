"""The fake ChatServices behind every server: the same tokens at the same times, on asyncio and on Trio.

What to yield is said by the message's content, so that servers which hand no options on can serve it too:

    ready COUNT KEY               all tokens at once, the generator never suspends
    steps COUNT KEY               a real suspension before each token (`sleep(0)`, a checkpoint)
    paced COUNT KEY RATE START    token i at START + i / RATE on the machine's monotonic clock
    report                        one token: a JSON object, for each key how many tokens were generated

The schedule of `paced` is absolute: whoever reads it knows when each token was due, so a stall is counted once for
every token that it delayed (nothing waits politely for a slow server). A token costs a server about 87 bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, NamedTuple

import trio

TOKEN = "word "
CHUNK = {"event": "chunk", "data": TOKEN}
DONE = {"event": "done", "data": {"sources": []}}


class Plan(NamedTuple):
    """A message's content, read."""

    mode: str
    count: int = 0
    key: str = ""
    rate: float = 1.0
    start: float = 0.0

    @classmethod
    def read(cls, content: str) -> Plan:
        mode, *rest = content.split()
        kinds = (int, str, float, float)
        return cls(mode, *(kind(word) for kind, word in zip(kinds, rest, strict=False)))


class _Service:
    """`generated` counts, per key, what was yielded: an interrupted turn's tells what it cost after the stop."""

    def __init__(self) -> None:
        self.generated: dict[str, int] = {}

    async def pause(self) -> None:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def stream_rag_pipeline(
        self, message: str, session_id: str, options: dict[str, Any] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        plan = Plan.read(message)
        yield {"event": "metadata", "data": {"session_id": session_id}}
        if plan.mode == "report":
            yield {"event": "chunk", "data": json.dumps(self.generated)}
        made = 0
        try:
            while made < plan.count:
                if plan.mode == "steps":
                    await self.pause()
                elif plan.mode == "paced":
                    ahead = plan.start + made / plan.rate - monotonic()
                    if ahead > 0:
                        await self.sleep(ahead)
                made += 1
                yield CHUNK
        finally:
            if plan.key:
                self.generated[plan.key] = made
        yield DONE


class AsyncioService(_Service):
    """On asyncio, as most services in the wild are."""

    async def pause(self) -> None:
        await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class TrioService(_Service):
    """On Trio: no thread and no bridge between it and the engine."""

    async def pause(self) -> None:
        await trio.lowlevel.checkpoint()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)
