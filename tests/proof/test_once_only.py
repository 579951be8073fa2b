"""One message id, one generation: a thousand repeats over drops, and repeats from a second device in every phase."""

from __future__ import annotations

import pytest

from proof.storm import Storm, repeat
from support.raw_client import is_end, kinds, of, open_client, tokens
from support.server import Server

FLAGS = ("--messages-per-minute", "0", "--turns-per-minute", "0", "--handshakes-per-second", "0")


@pytest.mark.slow
async def test_a_thousand_repeats_from_twenty_connections_over_drops_are_one_generation(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    storm = Storm(lambda: server)
    await storm.rage()
    await server.recorded("ended", storm.message_id)
    await storm.verify()
    opened = len(server.record("opened", storm.message_id))
    with capsys.disabled():
        print(f"\nrepeats, {server.listener}: {storm}, {opened} generation")
    assert opened == 1


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
