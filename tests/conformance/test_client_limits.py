"""Limits of one client: at the limit it is served, one more is refused early, and others never notice."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from support.raw_client import Closed, Refused, fresh, open_client
from support.server import Server

CONNECTIONS, HANDSHAKES, MESSAGES, TURNS, REFUSALS = 3, 20, 12, 4, 5
FLAGS = (
    *("--max-connections-per-client", str(CONNECTIONS), "--max-connections", "7"),
    *("--handshakes-per-second", str(HANDSHAKES), "--proxies", "1"),
    *("--messages-per-minute", str(MESSAGES), "--turns-per-minute", str(TURNS), "--refusals-per-minute", str(REFUSALS)),
)
_addresses = iter(f"10.1.{n // 250}.{n % 250 + 1}" for n in range(10_000))


def client() -> dict[str, str]:
    """The headers of a client that nobody has seen yet, as a proxy would send them."""
    return {"X-Forwarded-For": next(_addresses)}


async def refusal(server: Server, headers: dict[str, str]) -> Refused:
    with pytest.raises(Refused) as caught:
        async with open_client(server, headers=headers):
            pass
    return caught.value


async def test_a_client_has_so_many_connections_and_others_have_their_own(server: Server) -> None:
    mine, other = client(), client()
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            last = await stack.enter_async_context(open_client(server, headers=mine))
        refused = await refusal(server, mine)
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        assert "connections" in refused.json()["error"]["message"]
        async with open_client(server, headers=other) as bystander:
            await bystander.turn(await bystander.say())
        await last.close()
        async with open_client(server, headers=mine) as again:
            await again.quiet()


async def test_the_server_has_so_many_connections(server: Server) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(7):
            await stack.enter_async_context(open_client(server, headers=client()))
        refused = await refusal(server, client())
        assert refused.status == 503


async def test_an_address_has_so_many_handshakes_a_second(server: Server) -> None:
    mine = client()
    statuses = []
    for _ in range(HANDSHAKES + 10):
        try:
            async with open_client(server, headers=mine):
                statuses.append(101)
        except Refused as refused:
            statuses.append(refused.status)
    assert statuses[:HANDSHAKES] == [101] * HANDSHAKES
    assert 429 in statuses
    async with open_client(server, headers=client()) as bystander:
        await bystander.quiet()
    await trio.sleep(0.2)
    async with open_client(server, headers=mine) as again:
        await again.quiet()


async def test_frames_are_counted_over_all_connections_of_a_client(server: Server) -> None:
    mine = client()
    async with open_client(server, headers=mine) as one, open_client(server, headers=mine) as two:
        for _ in range(MESSAGES // 2):
            await one.quiet()
            await two.quiet()
        await one.send(type="ping", id="x")
        answer = await one.next()
        assert answer["error_code"] == "WS-005"
        assert 0 < answer["retry_after_ms"] <= 60_000 / MESSAGES + 1
        async with open_client(server, headers=client()) as bystander:
            await bystander.quiet()


async def test_turns_are_counted_over_all_connections_of_a_client(server: Server) -> None:
    mine = client()
    async with open_client(server, headers=mine) as one, open_client(server, headers=mine) as two:
        for asker in (one, two) * (TURNS // 2):
            assert (await asker.turn(await asker.say()))[-1]["type"] == "stream_end"
        refused = await one.turn(await one.say())
        assert [frame["error_code"] for frame in refused] == ["WS-005"]


@pytest.mark.parametrize("frame", [{"type": "nonsense"}, {"type": "ping", "session_id": "somebody-else"}])
async def test_who_goes_on_after_many_refusals_is_closed(server: Server, frame: dict[str, Any]) -> None:
    async with open_client(server, headers=client()) as bystander:
        async with open_client(server, headers=client()) as abuser:
            for _ in range(REFUSALS):
                await abuser.send(**frame)
                assert (await abuser.next())["type"] == "stream_error"
            await abuser.send(**frame)
            closed = await abuser.end()
            assert closed.code == 1008
        await bystander.turn(await bystander.say(fresh("m")))


async def test_who_floods_is_refused_and_then_closed(server: Server) -> None:
    async with open_client(server, headers=client()) as flooder, open_client(server, headers=client()) as bystander:
        with pytest.raises(Closed) as caught:  # noqa: PT012 - the close may meet any of these
            for n in range(MESSAGES + REFUSALS + 5):
                await flooder.send(type="ping", id=str(n))
                await flooder.next()
        flooder.gone = True
        assert caught.value.code == 1008
        await bystander.quiet()
