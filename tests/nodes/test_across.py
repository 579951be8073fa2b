"""One session on three nodes: what the owner's clients can do, everybody's can, and as fast but for two hops."""

from __future__ import annotations

from statistics import quantiles

import pytest
import trio

from support.cluster import Cluster
from support.raw_client import Client, fresh, open_client, tokens
from support.wanderer import Wanderer

ROUNDS = 100
P99_MS = 20.0
"""From a cancel on another node to the end there."""
QUIET_MS = 5.0
"""The same on the owner takes less, 99 times of 100, where nothing else runs. On a busier machine the bound is for the
median: what lies above that is the machine's doing."""


async def test_tokens_an_interrupt_a_cancel_and_a_return_on_nodes_that_own_nothing(three: Cluster) -> None:
    first, second, third = three.nodes
    async with trio.open_nursery() as nursery:
        session = fresh("s")
        on_owner, guest = Wanderer(three, session, first), Wanderer(three, session, second)
        await nursery.start(on_owner.run)
        await nursery.start(guest.run)
        assert three.owner(session) is first
        nursery.start_soon(lambda: guest.ask("one", tokens=None, pace=0.01))
        await guest.seen("stream_token", "one")
        await on_owner.seen("stream_token", "one")
        nursery.start_soon(lambda: guest.ask("two", tokens=None, pace=0.01))
        await guest.seen("stream_token", "two")
        guest.move(third)
        await guest.seen("stream_token", "two")
        while guest.node is not third or len(guest.tokens("two")) < 30:
            await trio.sleep(0.01)
        await guest.cancel()
        await guest.seen("stream_receipt", "two")
        await on_owner.seen("stream_receipt", "two")
        nursery.cancel_scope.cancel()
    assert guest.ends["one"]["finish_reason"] == "interrupted"
    assert guest.ends["two"]["finish_reason"] == "cancelled"
    assert guest.resumed == ["new", "replayed"] or guest.resumed == ["attached", "replayed"]
    stream = three.stream(session)
    assert stream.ends == {"one": ["interrupted"], "two": ["cancelled"]}
    assert guest.entries == on_owner.entries == list(stream.frames().values())
    assert guest.tokens("two") == [f"t{n} " for n in range(len(guest.tokens("two")))]
    assert len(stream.fences) == 1
    assert three.opened()["one"] == three.opened()["two"] == 1


async def ms_to_cancel(client: Client) -> float:
    message_id = await client.say(tokens=None, pace=0.01)
    await client.wait_for("stream_token", message_id)
    begun = trio.current_time()
    await client.cancel(message_id)
    assert (await client.turn(message_id))[-1]["finish_reason"] == "cancelled"
    return 1000 * (trio.current_time() - begun)


async def test_a_cancel_on_another_node_ends_the_answer_as_soon(
    three: Cluster, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, _ = three.nodes
    session = fresh("s")
    async with open_client(first, session, v1=True) as here, open_client(second, session, v1=True) as there:
        rounds = [(await ms_to_cancel(here), await ms_to_cancel(there)) for _ in range(ROUNDS)]
    near, far = (quantiles(times, n=100) for times in zip(*rounds, strict=True))
    store = pytestconfig.getoption("store")
    with capsys.disabled():
        print(
            f"\ncancel to end on {store}: on another node p50 {far[49]:.1f} ms, p99 {far[98]:.1f} ms; "
            f"on the owner p50 {near[49]:.1f} ms, p99 {near[98]:.1f} ms"
        )
    assert far[98 if near[98] <= QUIET_MS else 49] <= P99_MS


async def test_plain_clients_of_all_nodes_are_told_the_same(three: Cluster) -> None:
    first, second, third = three.nodes
    session = fresh("s")
    async with (
        open_client(first, session) as one,
        open_client(second, session) as two,
        open_client(third, session) as speaker,
    ):
        message_id = await speaker.say(tokens=20, pace=0.005)
        heard = [await client.turn(message_id) for client in (one, two, speaker)]
    assert heard[0] == heard[1] == heard[2]
    assert tokens(heard[0]) == [f"t{n} " for n in range(20)]
