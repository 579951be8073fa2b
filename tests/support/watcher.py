"""Clients whose frames are read as they come, and a bystander that must never notice anything.

A `Watcher` reads in a task of its own: pings are answered whatever the test does meanwhile, and what was sent can be
looked at in any order. `Bystander` streams answer after answer and pings in between.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from support.raw_client import CLOSE, PING, PONG, TEXT, Client, Closed, _close_of, fresh, is_end, open_client, tokens

PATIENCE = 10.0
Frame = dict[str, Any]


class Watcher:
    """A v1 connection that is read all the time: its frames, when they came, and how it ended (`closed`)."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.frames: list[Frame] = [client.ready] if client.ready else []
        self.times = [trio.current_time() for _ in self.frames]
        self.closed: Closed | None = None
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<Watcher of {self.client.session_id!r}, {len(self.frames)} frames, {self.closed or 'open'}>"

    async def read(self) -> None:
        """Until the connection has ended."""
        try:
            while True:
                opcode, payload = await self.client._frame()
                if opcode == TEXT:
                    self.frames.append(json.loads(payload))
                    self.times.append(trio.current_time())
                    self._tell()
                elif opcode == PING:
                    await self.client.send_frame(payload, PONG)
                elif opcode == CLOSE:
                    raise Closed(*_close_of(payload))
        except (Closed, trio.ClosedResourceError, trio.BrokenResourceError) as end:
            self.closed = end if isinstance(end, Closed) else Closed(1006, repr(end))
            self.client.gone = True
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something is true of what was read. Raises AssertionError, telling `what` never came."""
        with trio.move_on_after(PATIENCE):
            while not holds():
                await self._news.wait()
            return
        raise AssertionError(f"{what} did not come within {PATIENCE:g} s; {self!r}: {self.frames[-5:]}")

    async def wait_for(self, kind: str, count: int = 1, **fields: Any) -> Frame:
        """The `count`th frame of that type and those fields."""

        def found() -> list[Frame]:
            return [frame for frame in self.frames if frame["type"] == kind and fields.items() <= frame.items()]

        await self.until(lambda: len(found()) >= count, f"{count} × {kind} {fields}")
        return found()[count - 1]

    def endings(self, message_id: str) -> list[str]:
        """How that turn ended, as often as it was told: finish reasons and error codes."""
        ends = [frame for frame in self.frames if is_end(frame) and frame["message_id"] == message_id]
        return [frame.get("finish_reason") or frame["error_code"] for frame in ends]

    @property
    def position(self) -> str:
        """Up to where it has read: what a client that comes back gives as `after`."""
        epoch, _, offset = self.client.ready["position"].partition(":")
        for body in self.frames:
            epoch, offset = body.get("epoch", epoch), body.get("offset", offset)
        return f"{epoch}:{offset}"

    async def ending(self, message_id: str) -> str:
        await self.until(lambda: self.endings(message_id), f"an ending of {message_id}")
        return self.endings(message_id)[0]

    async def quiet(self) -> None:
        """Until everything that was sent before now has come."""
        ping_id = fresh("ping")
        await self.client.send(type="ping", id=ping_id)
        await self.wait_for("pong", id=ping_id)

    async def end(self) -> int:
        """The close code, waited for."""
        await self.until(lambda: self.closed, "the connection's end")
        assert self.closed
        return self.closed.code


@asynccontextmanager
async def watching(
    server: Any, session_id: str | None = None, query: Mapping[str, str] | None = None
) -> AsyncGenerator[Watcher]:
    """A watched v1 connection. At the end of the block it is dropped, without a close frame: its turns go on."""
    async with open_client(server, session_id, v1=True, query=query) as client, trio.open_nursery() as nursery:
        watcher = Watcher(client)
        nursery.start_soon(watcher.read)
        yield watcher
        client.gone = True
        nursery.cancel_scope.cancel()


class Bystander:
    """Streams and pings; `worst` is the longest time that a pong took, `turns` how many answers came whole."""

    TOKENS, PACE, PING_EVERY = 20, 0.02, 0.1

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.worst = 0.0
        self.turns = 0

    async def stream(self) -> None:
        while True:
            message_id = await self.watcher.client.say(tokens=self.TOKENS, pace=self.PACE)
            assert await self.watcher.ending(message_id) == "stop"
            frames = [frame for frame in self.watcher.frames if frame.get("message_id") == message_id]
            assert len(tokens(frames)) == self.TOKENS
            self.turns += 1

    async def ping(self) -> None:
        while True:
            before = trio.current_time()
            await self.watcher.quiet()
            self.worst = max(self.worst, trio.current_time() - before)
            await trio.sleep(self.PING_EVERY)


@asynccontextmanager
async def bystander(server: Any, patience: float = 1.0) -> AsyncGenerator[Bystander]:
    """Somebody else, for the length of the block. Raises AssertionError if they noticed anything."""
    async with watching(server) as watcher, trio.open_nursery() as nursery:
        them = Bystander(watcher)
        nursery.start_soon(them.stream)
        nursery.start_soon(them.ping)
        yield them
        await watcher.until(lambda: them.turns, "the bystander's first whole answer")
        nursery.cancel_scope.cancel()
    assert them.worst < patience, f"a bystander waited {them.worst:.2f} s for its pong"
    assert watcher.closed is None
