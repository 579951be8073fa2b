"""A crowd of virtual users who ask, interrupt, cancel, drop and come back; afterwards the server's metrics must add up.

`test_crowd.py` runs it for a few seconds; a minute of it against a server of its own:

    python tests/faults/crowd.py --users 200 --seconds 60
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

if __name__ == "__main__":  # as pytest does, so that a newcomer needs no path
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support.metrics import AT_REST, Scrape, scrape, settled
from support.raw_client import Client, Closed, fresh, is_end, open_client
from support.server import Server, running

FLAGS = ("--ops-port", "0", "--linger", "1", "--messages-per-minute", "0", "--turns-per-minute", "0")
AT_ONCE = 20
"""Handshakes under way."""

PAUSE = 1.0
"""The longest that a user thinks before a question, in seconds."""

Habit = Callable[[Client, str], Coroutine[Any, Any, None]]


class Crowd:
    """Users and what they have seen: messages sent, endings by name, and what each of them has done."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.sent = 0
        self.done: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self._gate = trio.CapacityLimiter(AT_ONCE)

    async def run(self, users: int, seconds: float) -> None:
        """All users, for so long; then each leaves as it is."""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for _ in range(users):
                    nursery.start_soon(self._user)

    async def _user(self) -> None:
        """Come, do a few things, go in one way or another, come back to the same session. Until cancelled."""
        session_id = fresh("crowd")
        while True:
            try:
                async with AsyncExitStack() as stack:
                    async with self._gate:
                        client = await stack.enter_async_context(open_client(self.server, session_id, v1=True))
                    await self._visit(client)
                    client.gone = True  # however it left, or just so: a drop
            except Closed as closed:
                self.done[f"closed {closed.code}"] += 1
            self.done["came back"] += 1

    async def _visit(self, client: Client) -> None:
        for _ in range(self.random.randint(1, 4)):
            await trio.sleep(self.random.random() * PAUSE)
            await self._ask(client)
        match self.random.choice(("close", "fin", "reset", "stay")):
            case "close":
                self.done["closed"] += 1
                await client.close()
            case "stay":
                await self._see_end(client)
            case how:
                self.done["dropped"] += 1
                await client.vanish(how)

    async def _ask(self, client: Client) -> None:
        """One question, and what this user does while it is answered."""
        habits: Sequence[Habit] = (self._wait, self._cancel, self._interrupt, self._queue)
        does = self.random.choice(habits)
        self.done[does.__name__.strip("_")] += 1
        await does(client, await self._say(client))

    async def _say(self, client: Client, on_busy: str | None = None) -> str:
        tokens, pace = self.random.randint(1, 40), self.random.choice((0.0, 0.005, 0.02))
        fault = {"at": {"1": ["raise", "ValueError"]}} if self.random.random() < 0.05 else {}
        self.sent += 1
        return await client.say(on_busy=on_busy, tokens=tokens, pace=pace, **fault)

    async def _wait(self, client: Client, message_id: str) -> None:
        await self._see_end(client, message_id)

    async def _cancel(self, client: Client, message_id: str) -> None:
        await trio.sleep(self.random.random() * 0.2)
        await client.cancel(message_id)
        await self._see_end(client, message_id)

    async def _interrupt(self, client: Client, message_id: str) -> None:
        await trio.sleep(self.random.random() * 0.2)
        await self._see_end(client, await self._say(client, self.random.choice(("interrupt", "rollback"))))

    async def _queue(self, client: Client, message_id: str) -> None:
        await self._see_end(client, await self._say(client, self.random.choice(("enqueue", "reject"))))

    async def _see_end(self, client: Client, message_id: str | None = None) -> None:
        """Read up to that turn's end; to the next end at all, or for a moment, if none is named."""
        with trio.move_on_after(30 if message_id else 0.2):
            while True:
                body = await client.next()
                if is_end(body):
                    self.endings[body.get("finish_reason") or body["error_code"]] += 1
                    if message_id in (None, body["message_id"]):
                        return


def check(crowd: Crowd, seen: Scrape) -> dict[str, float]:
    """That it adds up, when everybody has gone. Returns the figures."""
    value = seen.value
    figures = {
        "turns accepted": value("trialogue_turns_accepted_total"),
        "turns ended": value("trialogue_turns_ended_total"),
        **{
            f"… {ending}": value("trialogue_turns_ended_total", ending=ending)
            for ending in ("completed", "cancelled", "interrupted", "retracted", "failed")
        },
        "messages refused": value("trialogue_refusals_total"),
        "tokens generated": value("trialogue_tokens_generated_total"),
        "tokens sent": value("trialogue_tokens_sent_total"),
        "tokens unsent": value("trialogue_tokens_unsent_total"),
        "tokens wasted": value("trialogue_tokens_wasted_total"),
        "connections opened": value("trialogue_connections_opened_total"),
        "cancel to end, mean ms": 1000 * value("trialogue_stop_seconds_sum") / value("trialogue_stop_seconds_count"),
        "stop to upstream closed, mean ms": 1000
        * value("trialogue_upstream_close_seconds_sum")
        / value("trialogue_upstream_close_seconds_count"),
        "abandoned": value("trialogue_upstreams_abandoned_total"),
        "crashes": value("trialogue_session_crashes_total"),
    }
    stopped = sum(figures[f"… {ending}"] for ending in ("cancelled", "interrupted", "retracted"))
    assert figures["turns accepted"] == figures["turns ended"] == value("trialogue_turn_seconds_count")
    assert figures["tokens generated"] == figures["tokens sent"] + figures["tokens unsent"]
    assert value("trialogue_stop_seconds_count") == stopped
    assert value("trialogue_upstream_close_seconds_count") <= stopped
    assert figures["turns accepted"] + figures["messages refused"] <= crowd.sent, "what was never sent"
    assert figures["turns accepted"] >= crowd.endings.total() - crowd.endings["WS-003"], "what clients have seen end"
    assert all(value(name) == 0 for name in AT_REST)
    assert figures["crashes"] == 0  # of upstreams, a busy machine may have some abandoned
    return figures


async def play(users: int, seconds: float, seed: int, folder: Path, listener: str) -> tuple[Crowd, dict[str, float]]:
    """A server of its own, a crowd, and what adds up afterwards."""
    with running(folder, listener, FLAGS) as server:
        crowd = Crowd(server, seed)
        await crowd.run(users, seconds)
        seen = await settled(server, AT_REST, within=10)
        assert seen.value("trialogue_sessions") == seen.value("trialogue_sessions_vacant") == users
        assert scrape(server).value("trialogue_turns_accepted_total") == seen.value("trialogue_turns_accepted_total")
        return crowd, check(crowd, seen)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--users", type=int, default=200)
    reader.add_argument("--seconds", type=float, default=60.0)
    reader.add_argument("--seed", type=int, default=1)
    reader.add_argument("--listener", default="hypercorn")
    given = reader.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        crowd, figures = trio.run(play, given.users, given.seconds, given.seed, Path(folder), given.listener)
    print(f"{given.users} users, {given.seconds:g} s, {given.listener}: {crowd.sent} messages;", dict(crowd.done))
    for name, figure in figures.items():
        print(f"{name:<34}{figure:>12,.2f}".removesuffix(".00"))


if __name__ == "__main__":
    main()
