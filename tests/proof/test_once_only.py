"""One message id, one generation: a thousand repeats over drops, and repeats from a second device in every phase."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import trio

from support.raw_client import Client, fresh, is_end, kinds, of, open_client, tokens
from support.server import Server

FLAGS = ("--messages-per-minute", "0", "--turns-per-minute", "0", "--handshakes-per-second", "0")
CONNECTIONS, VISITS, REPEATS = 20, 10, 5
TOKENS = 150


async def repeat(client: Client, message_id: str) -> None:
    await client.send(type="message", message_id=message_id, content=message_id, session_id=client.session_id)


def phase(client: Client, message_id: str) -> str:
    if client.ready["running"] == message_id:
        return "running"
    return "queued" if message_id in client.ready["queued"] else "ended"


@pytest.mark.slow
async def test_a_thousand_repeats_from_twenty_connections_over_drops_are_one_generation(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    session_id, message_id, random = fresh("s"), fresh("m"), Random(1)
    phases: Counter[str] = Counter()
    answered: Counter[str] = Counter()

    async def visit(v1: bool) -> None:
        """Repeat it a few times, and drop: in half of the cases without having read anything."""
        async with open_client(server, session_id, v1=v1, leave=1001) as client:
            phases[phase(client, message_id) if v1 else "not told"] += REPEATS
            for _ in range(REPEATS):
                await repeat(client, message_id)
            if v1 and random.random() < 0.5:
                for _ in range(REPEATS):
                    answered[(await client.until("stream_status", message_id))[-1]["phase"]] += 1
            if random.random() < 0.5:
                await client.vanish("reset")
            else:
                answered["read by the server for certain"] += REPEATS

    async def come_and_go(number: int) -> None:
        for _ in range(VISITS):
            await visit(v1=number % 4 != 0)
            await trio.sleep(random.random() * 0.3)

    async with open_client(server, session_id, v1=True) as owner:
        before = await owner.say(tokens=40, pace=0.01)
        await owner.wait_for("stream_start", before)
        await owner.say(message_id, "enqueue", tokens=TOKENS, pace=0.005)
        await owner.wait_for("stream_status", message_id)
        await owner.vanish("reset")
    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            nursery.start_soon(come_and_go, number)
    await server.recorded("ended", message_id)
    async with open_client(server, session_id) as last:
        await repeat(last, message_id)
        assert tokens(await last.turn(message_id)) == [f"t{n} " for n in range(TOKENS)]
    opened = len(server.record("opened", message_id))
    with capsys.disabled():
        sent = CONNECTIONS * VISITS * REPEATS
        print(f"\nrepeats, {server.listener}: {sent} sent ({dict(phases)}), {dict(answered)} read, {opened} generation")
    assert opened == 1
    assert min(phases["queued"], phases["running"], phases["ended"], answered["duplicate"]) > 0


async def test_from_a_second_device_while_it_is_queued(server: Server) -> None:
    async with open_client(server) as first, open_client(server, first.session_id, v1=True) as second:
        await first.say(tokens=30, pace=0.01)
        message_id = await first.say(on_busy="enqueue")
        await second.wait_for("stream_status", message_id)
        await repeat(second, message_id)
        frames = [*await second.turn(message_id), *await second.quiet()]
    assert next(body["phase"] for body in of(frames, message_id) if body["type"] == "stream_status") == "duplicate"
    assert kinds(of(frames, message_id)).count("stream_start") == 1
    assert sum(map(is_end, of(frames, message_id))) == 1
    assert len(server.record("opened", message_id)) == 1


async def test_from_a_second_device_while_it_runs(server: Server) -> None:
    async with open_client(server) as first:
        message_id = await first.say(tokens=60, pace=0.01)
        await first.wait_for("stream_token")
        async with open_client(server, first.session_id) as second:
            await repeat(second, message_id)
            frames = [*await second.turn(message_id), *await second.quiet()]
            assert (await first.turn(message_id))[-1]["finish_reason"] == "stop"
    assert kinds(frames).count("stream_start") == 1
    assert tokens(frames) == [f"t{n} " for n in range(60)]
    assert len(server.record("opened", message_id)) == 1
