"""A thousand repeats of one message over drops, from twenty connections; wherever each of them goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import trio

from support.raw_client import Client, fresh, open_client, tokens

CONNECTIONS, VISITS, REPEATS = 20, 10, 5
TOKENS = 150


async def repeat(client: Client, message_id: str) -> None:
    await client.send(type="message", message_id=message_id, content=message_id, session_id=client.session_id)


def phase(client: Client, message_id: str) -> str:
    if client.ready["running"] == message_id:
        return "running"
    return "queued" if message_id in client.ready["queued"] else "ended"


class Storm:
    """`place` says where the next connection goes."""

    def __init__(self, place: Callable[[], Any]) -> None:
        self.message_id = fresh("m")
        self.phases: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._session_id = fresh("s")
        self._random = Random(1)
        self._place = place

    def __str__(self) -> str:
        return f"{CONNECTIONS * VISITS * REPEATS} sent ({dict(self.phases)}), {dict(self.answered)} read"

    async def rage(self) -> None:
        """Queue the message, repeat it from everywhere while it waits, runs and has ended, until all have gone."""
        async with open_client(self._place(), self._session_id, v1=True) as owner:
            before = await owner.say(tokens=40, pace=0.01)
            await owner.wait_for("stream_start", before)
            await owner.say(self.message_id, "enqueue", tokens=TOKENS, pace=0.005)
            await owner.wait_for("stream_status", self.message_id)
            await owner.vanish("reset")
        async with trio.open_nursery() as nursery:
            for number in range(CONNECTIONS):
                nursery.start_soon(self._come_and_go, number)

    async def _come_and_go(self, number: int) -> None:
        for _ in range(VISITS):
            await self._visit(v1=number % 4 != 0)
            await trio.sleep(self._random.random() * 0.3)

    async def _visit(self, v1: bool) -> None:
        """Repeat it a few times, and drop: in half of the cases without having read anything."""
        message_id = self.message_id
        async with open_client(self._place(), self._session_id, v1=v1, leave=1001) as client:
            self.phases[phase(client, message_id) if v1 else "not told"] += REPEATS
            for _ in range(REPEATS):
                await repeat(client, message_id)
            if v1 and self._random.random() < 0.5:
                for _ in range(REPEATS):
                    self.answered[(await client.until("stream_status", message_id))[-1]["phase"]] += 1
            if self._random.random() < 0.5:
                await client.vanish("reset")
            else:
                self.answered["read by the server for certain"] += REPEATS

    async def verify(self) -> None:
        """Once the turn has ended: it can be had whole, and was met in every phase."""
        async with open_client(self._place(), self._session_id) as last:
            await repeat(last, self.message_id)
            assert tokens(await last.turn(self.message_id)) == [f"t{n} " for n in range(TOKENS)]
        phases = self.phases
        assert min(phases["queued"], phases["running"], phases["ended"], self.answered["duplicate"]) > 0
