"""The intent of a disconnect: 1000 or no code stops the turns; any other end is a drop, and the turn goes on."""

from __future__ import annotations

import time

import pytest

from support.raw_client import Client, open_client, tokens
from support.server import EVERYWHERE, Server

STOP_GRACE = 0.25
LINGER = 0.8
FLAGS = ("--linger", str(LINGER), "--stop-grace", str(STOP_GRACE))

DROPS = [1001, 1011, 3000, 4001, "fin", "reset"]


@pytest.fixture(scope="module", params=EVERYWHERE)
def listener(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def leave(client: Client, how: int | str | None) -> None:
    if isinstance(how, str):
        await client.vanish(how)
    else:
        await client.close(how)


@pytest.mark.parametrize("code", [1000, None], ids=["1000", "no code"])
@pytest.mark.parametrize(
    "options", [{"retrieval": 30}, {"tokens": 10_000, "pace": 0.01}], ids=["in retrieval", "in mid-answer"]
)
async def test_the_last_one_leaving_on_purpose_closes_the_upstream_within_the_stop_grace(
    server: Server, code: int | None, options: dict[str, object]
) -> None:
    async with open_client(server) as client:
        running = await client.say(**options)
        waiting = await client.say(on_busy="enqueue")
        await server.recorded("opened", running)
        before = time.monotonic()
        await client.close(code)
        assert (await server.recorded("closed", running))["at"] - before < STOP_GRACE + 0.1
        assert (await server.recorded("ended", running))["ending"] == "cancelled"
        async with open_client(server, client.session_id) as again:
            assert await again.quiet() == []
    assert server.record("opened", waiting) == []


@pytest.mark.parametrize("code", [1000, 1001, 4001, None])
async def test_a_close_frame_is_answered_with_its_code(server: Server, code: int | None) -> None:
    async with open_client(server) as client:
        await client.send_frame(b"" if code is None else code.to_bytes(2, "big"), 8)
        assert (await client.end()).code in ((code,) if code else (1000, 1005))


@pytest.mark.parametrize("how", DROPS)
async def test_after_a_drop_the_turn_goes_on_and_the_returning_client_finds_its_end(
    server: Server, how: int | str
) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say(tokens=20, pace=0.01)
        frames = await client.until("stream_token")
        await leave(client, how)
    position = f"{client.ready['position'].split(':')[0]}:{frames[-1]['offset']}"
    done = await server.recorded("ended", message_id)
    assert (done["ending"], done["generated"]) == ("completed", 20)
    async with open_client(server, client.session_id, v1=True, query={"after": position}) as again:
        assert again.ready["resumed"] == "replayed"
        frames += await again.turn(message_id)
    assert frames[-1]["finish_reason"] == "stop"
    assert tokens(frames) == [f"t{n} " for n in range(20)]


@pytest.mark.parametrize("how", DROPS)
async def test_after_a_drop_a_plain_client_that_returns_in_mid_turn_gets_it_from_its_start(
    server: Server, how: int | str
) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=30, pace=0.01)
        await client.wait_for("stream_token")
        await leave(client, how)
    async with open_client(server, client.session_id) as again:
        turn = await again.turn(message_id)
    assert turn[0]["type"] == "stream_start"
    assert len(tokens(turn)) == 30


@pytest.mark.parametrize("how", [1001, "fin", "reset"])
async def test_after_a_drop_the_queue_goes_on_too(server: Server, how: int | str) -> None:
    async with open_client(server) as client:
        await client.say(tokens=20, pace=0.01)
        waiting = await client.say(on_busy="enqueue")
        await client.wait_for("stream_token")
        await leave(client, how)
    assert (await server.recorded("ended", waiting))["ending"] == "completed"


@pytest.mark.parametrize("how", [1001, "fin"])
async def test_a_turn_without_anyone_is_cancelled_when_linger_is_over(server: Server, how: int | str) -> None:
    async with open_client(server) as client:
        running = await client.say(tokens=10_000, pace=0.01)
        waiting = await client.say(on_busy="enqueue")
        await client.wait_for("stream_token")
        before = time.monotonic()
        await leave(client, how)
    closed = await server.recorded("closed", running)
    assert LINGER - 0.05 < closed["at"] - before < LINGER + STOP_GRACE + 0.3
    assert (await server.recorded("ended", running))["ending"] == "cancelled"
    assert server.record("opened", waiting) == []


async def test_who_returns_within_linger_stops_its_clock(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=110, pace=0.01)
        await client.wait_for("stream_token")
        await leave(client, 1001)
    async with open_client(server, client.session_id) as again:
        turn = await again.turn(message_id)
    assert (turn[-1]["finish_reason"], turn[-1]["total_tokens"]) == ("stop", 110)


async def test_the_last_ones_way_decides_also_after_a_drop_of_the_other(server: Server) -> None:
    async with open_client(server) as first, open_client(server, first.session_id) as second:
        running = await first.say(tokens=10_000, pace=0.01)
        await second.wait_for("stream_token")
        await first.vanish("reset")
        await second.wait_for("stream_token")
        assert server.record("closed", running) == []
        before = time.monotonic()
        await second.close(1000)
    assert (await server.recorded("closed", running))["at"] - before < STOP_GRACE + 0.1


async def test_leaving_on_purpose_is_no_error_for_a_stubborn_upstream(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=10_000, pace=0.01, on_cancel="stubborn", stubborn=0.8)
        await client.wait_for("stream_token")
        await client.close(1000)
    told = await server.recorded("ended", message_id)
    assert (told["ending"], told["upstream"]) == ("cancelled", "abandoned")
