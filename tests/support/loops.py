"""The same scenario on Trio and on asyncio, while the test itself, its proxies and its deadline stay on Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import trio

LOOPS = ("trio", "asyncio")
PATIENCE = 10.0
T = TypeVar("T")


class Loop:
    """Where the client runs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    async def run(self, scenario: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run it to its end: here, or in an asyncio loop in a thread. Raises TimeoutError after ten seconds."""
        bounded = partial(_bounded, scenario)
        if self.name == "trio":
            return await bounded(*args)
        return await trio.to_thread.run_sync(partial(anyio.run, bounded, *args, backend="asyncio"))

    def outside(self, act: Callable[[], T]) -> T:
        """From within a scenario: do something in the test's own loop, a proxy's command for instance."""
        return act() if self.name == "trio" else trio.from_thread.run_sync(act)


async def _bounded(scenario: Callable[..., Awaitable[T]], *args: Any) -> T:
    with anyio.fail_after(PATIENCE):
        return await scenario(*args)
