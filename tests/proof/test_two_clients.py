"""Two devices that steer one session at random see the same, byte for byte; a plain third one sees its five events."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
import trio

from support.raw_client import Client, fresh, is_end, open_client
from support.server import Server

FLAGS = ("--messages-per-minute", "0", "--turns-per-minute", "0", "--stop-grace", "0.05")
ACTIONS = 500
SEEDS = (1, 2)
FIVE = ("stream_start", "stream_token", "stream_sources", "stream_end", "stream_error")


async def steer(client: Client, random: Random, known: list[str]) -> None:
    """One random message or cancel."""
    if random.random() < 0.3 and known:
        await client.cancel(random.choice((None, random.choice(known[-5:]))))
    else:
        policy = random.choices(("interrupt", "enqueue", "rollback", "reject"), (6, 3, 1, 1))[0]
        manner = random.choices(({}, {"on_cancel": "stubborn", "stubborn": 0.1}), (9, 1))[0]
        known.append(await client.say(on_busy=policy, tokens=random.choice((1, 5, 50)), pace=0.001, **manner))


async def read(client: Client, last: str) -> None:
    await client.until("stream_receipt" if client.ready else "stream_end", last)


def entries(client: Client) -> list[str]:
    return [text for text in client.texts if '"offset":' in text]


def plain(text: str) -> dict[str, Any]:
    """An entry as the seed's dialect has it."""
    body: dict[str, Any] = json.loads(text)
    return {key: value for key, value in body.items() if key not in ("offset", "meta")}


@pytest.mark.parametrize("seed", SEEDS)
async def test_five_hundred_random_interrupts_and_cancels_leave_identical_transcripts(
    server: Server, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    random, last = Random(seed), fresh("last")
    known: list[str] = []
    async with (
        open_client(server, v1=True) as first,
        open_client(server, first.session_id, v1=True) as second,
        open_client(server, first.session_id) as third,
        trio.open_nursery() as nursery,
    ):
        for client in (first, second, third):
            nursery.start_soon(read, client, last)
        for _ in range(ACTIONS):
            await steer(random.choice((first, second)), random, known)
            await trio.sleep(random.choice((0, 0, 0.002, 0.01)))
        await first.cancel()
        await first.say(last, tokens=1)
    told = [plain(text) for text in entries(first)]
    ends = [body["message_id"] for body in told if is_end(body)]
    accepted = [body["message_id"] for body in told if body["type"] == "user_message"]
    with capsys.disabled():
        reasons = [body.get("finish_reason") for body in told if body["type"] == "stream_end"]
        counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        print(f"\ntwo clients, {server.listener}, seed {seed}: {len(told)} entries, {counts}")
    assert entries(first) == entries(second)
    assert [body["offset"] for body in map(json.loads, entries(first))] == list(range(1, len(told) + 1))
    assert [json.loads(text) for text in third.texts] == [body for body in told if body["type"] in FIVE]
    assert sorted(ends) == sorted(accepted)
    assert len(ends) > ACTIONS / 4
