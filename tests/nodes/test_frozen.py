"""An owner that stands still for longer than its lease, and then goes on as if nothing had been."""

from __future__ import annotations

import pytest
import trio

from support.cluster import Cluster
from support.raw_client import fresh
from support.verdict import complaints
from support.wanderer import Wanderer

STILL = 10.0


@pytest.mark.slow
async def test_a_frozen_owner_writes_nothing_more_and_its_clients_are_told(
    three: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    owner, other, _ = three.nodes
    sessions = 10
    pairs = [(Wanderer(three, home=owner), fresh("before"), fresh("after")) for _ in range(sessions)]
    followers = [Wanderer(three, wanderer.session_id, other) for wanderer, _, _ in pairs]
    async with trio.open_nursery() as nursery:
        for (wanderer, before, _), follower in zip(pairs, followers, strict=True):
            await nursery.start(wanderer.run)
            await nursery.start(follower.run)
            nursery.start_soon(lambda who, what: who.ask(what, tokens=None, pace=0.01), wanderer, before)
        for wanderer, before, _ in pairs:
            await wanderer.seen("stream_token", before)
        owner.freeze()
        frozen = trio.current_time()
        with trio.fail_after(9):
            for (_, before, _), follower in zip(pairs, followers, strict=True):
                await follower.seen("stream_error", before)
        told = trio.current_time() - frozen
        for (_, _, after), follower in zip(pairs, followers, strict=True):
            nursery.start_soon(lambda who, what: who.ask(what, tokens=None, pace=0.01), follower, after)
        await trio.sleep_until(frozen + STILL)
        assert {three.owner(follower.session_id) for follower in followers} == {other}
        left = {follower.session_id: three.stream(follower.session_id).ids for follower in followers}
        owner.thaw()
        thawed = trio.current_time()
        with trio.fail_after(5):
            for wanderer, before, after in pairs:
                await wanderer.seen("stream_error", before)
                await wanderer.seen("stream_token", after)
        again = trio.current_time() - thawed
        await trio.sleep(1)  # whatever it may still have to say, by now it has
        for (_, _, after), follower in zip(pairs, followers, strict=True):
            await follower.cancel()
            await follower.seen("stream_receipt", after)
        for wanderer, _, after in pairs:
            await wanderer.seen("stream_receipt", after)
        nursery.cancel_scope.cancel()
    stale = 0
    wrong = [what for wanderer, _, _ in pairs for what in complaints(three, wanderer)]
    for wanderer, before, after in pairs:
        stream = three.stream(wanderer.session_id)
        assert stream.ends == {before: ["WS-008"], after: ["cancelled"]}
        assert len(stream.fences) == 2
        taken = stream.fences[1].epoch
        known = left[wanderer.session_id]
        stale += stream.ids[: len(known)] != known or any(epoch < taken for epoch, _ in stream.ids[len(known) :])
    with capsys.disabled():
        print(
            f"\nfrozen for {STILL:.0f} s: {sessions} answers ended after {told:.1f} s, {stale} with stale entries "
            f"after the fence, its clients told {again * 1000:.0f} ms after it went on"
        )
    assert (wrong, stale) == ([], 0)
