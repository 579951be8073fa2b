"""What a host application calls on a mounted engine, from a task of its own loop: `Everywhere` on either side of the
border. It only carries calls over; what they mean is told there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from trialogue import Everywhere
from trialogue_adapters.mounting import EngineEnded, Mount, on_trio

T = TypeVar("T")


class Calls:
    """`Everywhere`, for a host on Trio or on asyncio. On asyncio, EngineEnded is raised where no engine runs.

    Cancelled: the call is cancelled on Trio too, and may have been done.
    """

    __slots__ = ("_everywhere", "_mount")

    def __init__(self, everywhere: Everywhere, mount: Callable[[], Mount | None]) -> None:
        self._everywhere = everywhere
        self._mount = mount

    def __repr__(self) -> str:
        return f"<Calls {self._everywhere!r}>"

    async def is_connected(self, session_id: str, *, principal: str = "") -> bool:
        """See `Everywhere.is_connected`."""
        return await self._carry(partial(self._everywhere.is_connected, session_id, principal=principal))

    async def send_json(self, session_id: str, body: Mapping[str, Any], *, principal: str = "") -> int:
        """See `Everywhere.send_json`."""
        return await self._carry(partial(self._everywhere.send_json, session_id, body, principal=principal))

    async def broadcast(self, body: Mapping[str, Any]) -> None:
        """See `Everywhere.broadcast`."""
        await self._carry(partial(self._everywhere.broadcast, body))

    async def delete(self, principal: str, session_id: str) -> bool:
        """See `Everywhere.delete`."""
        return await self._carry(partial(self._everywhere.delete, principal, session_id))

    async def _carry(self, call: Callable[[], Awaitable[T]]) -> T:
        if on_trio():
            return await call()
        mount = self._mount()
        if mount is None:
            raise EngineEnded("the app's lifespan is not open")
        answers: list[T] = []

        async def answer() -> None:
            answers.append(await call())

        await mount.start(answer).wait()
        return answers[0]
