"""A client whose connection is cut after so many bytes of its answer, and which comes back for the rest."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import trio

from support.fault_proxy import FaultProxy, Link
from support.raw_client import V1, Client, Closed, Wire, chat_path, fresh, open_wire, request

TOKENS = 60


class Reader:
    """A client that wants one answer, over as many connections as that takes."""

    def __init__(self, pace: float) -> None:
        self.session_id, self.message_id = fresh("s"), fresh("m")
        self.pace = pace
        self.position: str | None = None
        self.entries: list[dict[str, Any]] = []
        self.resumed: list[str] = []
        self.done = False

    async def attach(self, wire: Wire) -> None:
        """Connect with the position that it has, if any. Raises Closed."""
        query = {"after": self.position} if self.position else {}
        with suppress(trio.BrokenResourceError):
            await wire.send(request(chat_path(self.session_id, query), {"Sec-WebSocket-Protocol": V1}))
        status, fields = await wire.head()
        assert status == 101
        self.client = Client(wire, self.session_id, fields)
        ready = await self.client.next()
        self.resumed.append(ready["resumed"])
        if self.position:
            assert (ready["resumed"], ready["position"]) == ("replayed", self.position)
        self.position = ready["position"]

    async def read(self) -> None:
        """Ask, unless the question is known to have arrived, and take what comes. Raises Closed."""
        if not self.entries:
            with suppress(trio.BrokenResourceError):
                await self.client.say(self.message_id, tokens=TOKENS, pace=self.pace)
        while not self.done:
            body = await self.client.next()
            if "offset" in body:
                assert self.position
                self.entries.append(body)
                self.position = f"{self.position.split(':')[0]}:{body['offset']}"
                self.done = body["type"] == "stream_receipt"

    @property
    def lost(self) -> int:
        offsets = [body["offset"] for body in self.entries]
        asked = self.entries[0]["type"] == "user_message"  # nothing before that is the answer's
        return (
            len({*range(offsets[0], max(offsets) + 1)} - {*offsets})
            + len({*range(TOKENS)} - {*self.indices})
            + (not asked)
        )

    @property
    def repeated(self) -> int:
        return len(self.entries) - len({body["offset"] for body in self.entries})

    @property
    def indices(self) -> list[int]:
        return [body["index"] for body in self.entries if body["type"] == "stream_token"]


async def link_of(proxy: FaultProxy, wire: Wire) -> Link:
    with trio.fail_after(5):
        while True:
            with suppress(KeyError):
                return proxy.link(wire)
            await trio.sleep(0.001)


async def read_until_cut(proxy: FaultProxy, reader: Reader, place: int) -> float:
    """Until `place` bytes have come from the server, or the answer is whole. Returns the time of attaching."""
    begun = time.perf_counter()
    seconds = 0.0
    async with open_wire(proxy) as wire:
        (await link_of(proxy, wire)).down.cut_after(place)
        with suppress(Closed):
            await reader.attach(wire)
            seconds = time.perf_counter() - begun
            await reader.read()
    return seconds


async def resume(server: Any, reader: Reader) -> float:
    """Read the rest. Returns the seconds from the first packet to the session being told."""
    begun = time.perf_counter()
    async with open_wire(server) as wire:
        await reader.attach(wire)
        seconds = time.perf_counter() - begun
        await reader.read()
        await reader.client.close()
    return seconds


async def size_of_an_answer(proxy: FaultProxy) -> int:
    reader = Reader(0)
    async with open_wire(proxy) as wire:
        link = await link_of(proxy, wire)
        await reader.attach(wire)
        await reader.read()
        await reader.client.close()  # its answer passes when all else has, and been counted
        return link.down.passed
