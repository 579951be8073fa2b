"""A rolling restart under load: every node is drained and started again, and nobody who reads an answer sees more of
it than a pause."""

from __future__ import annotations

import pytest
import trio

from support.cluster import Cluster, until
from support.raw_client import fresh
from support.verdict import complaints
from support.wanderer import Wanderer

SESSIONS = 200
TOKENS, PACE = 30, 0.1


async def test_what_waits_at_an_owner_that_leaves_and_what_is_sent_to_it_meanwhile_goes_to_the_next(
    three: Cluster,
) -> None:
    owner, other, _ = three.nodes
    one, two, last = fresh("one"), fresh("two"), fresh("last")
    async with trio.open_nursery() as nursery:
        here = Wanderer(three, home=owner)
        await nursery.start(here.run)
        there = Wanderer(three, here.session_id, other)
        await nursery.start(there.run)
        nursery.start_soon(lambda: there.ask(one, tokens=TOKENS, pace=0.05))
        await there.seen("stream_token", one)
        nursery.start_soon(lambda: there.ask(two, on_busy="enqueue", tokens=TOKENS))
        await there.seen("stream_status", two)
        nursery.start_soon(owner.drain)
        await until(lambda: bool(here.closes))
        await there.ask(last, on_busy="enqueue", tokens=TOKENS)
        assert not there.errors
        await until(lambda: owner.server is None)
        await there.seen("stream_receipt", last)
        nursery.cancel_scope.cancel()
    expected = [f"t{n} " for n in range(TOKENS)]
    assert there.tokens(one) == there.tokens(two) == there.tokens(last) == expected
    assert here.closes == {1012: 1}
    assert complaints(three, here) == complaints(three, there) == []
    opened = three.opened()
    assert opened[one] == opened[two] == opened[last] == 1
    assert three.stream(there.session_id).ends == {one: ["stop"], two: ["stop"], last: ["stop"]}


async def test_who_interrupts_from_another_node_while_the_owner_leaves_need_not_wait(three: Cluster) -> None:
    owner, other, _ = three.nodes
    one, two = fresh("one"), fresh("two")
    async with trio.open_nursery() as nursery:
        here = Wanderer(three, home=owner)
        await nursery.start(here.run)
        there = Wanderer(three, here.session_id, other)
        await nursery.start(there.run)
        nursery.start_soon(lambda: there.ask(one, tokens=None, pace=0.02))
        await there.seen("stream_token", one)
        nursery.start_soon(owner.drain)
        await until(lambda: bool(here.closes))
        with trio.fail_after(3):
            await there.ask(two, tokens=TOKENS)
        await until(lambda: owner.server is None)
        nursery.cancel_scope.cancel()
    assert three.stream(there.session_id).ends == {one: ["interrupted"], two: ["stop"]}
    assert not there.errors


class Talker:
    """One session: one paced answer after the other."""

    def __init__(self, three: Cluster) -> None:
        self.wanderer = Wanderer(three)
        self.asked: list[str] = []

    async def run(self, over: trio.Event) -> None:
        while not over.is_set():
            self.asked.append(fresh("m"))
            await self.wanderer.ask(self.asked[-1], tokens=TOKENS, pace=PACE)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_rolling_restart_costs_nobody_a_token(three: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    talkers = [Talker(three) for _ in range(SESSIONS)]
    wanderers = [talker.wanderer for talker in talkers]
    over = trio.Event()
    async with trio.open_nursery() as lives:
        async with trio.open_nursery() as talks:
            for talker in talkers:
                await lives.start(talker.wanderer.run)
                talks.start_soon(talker.run, over)
            begun = trio.current_time()
            for node in three.nodes:
                await trio.sleep(1)
                await node.drain()
                await trio.to_thread.run_sync(node.start)
            seconds = trio.current_time() - begun
            over.set()
        lives.cancel_scope.cancel()
    turns = [message_id for talker in talkers for message_id in talker.asked]
    expected = [f"t{n} " for n in range(TOKENS)]
    whole = sum(talker.wanderer.tokens(turn) == expected for talker in talkers for turn in talker.asked)
    opened = three.opened()
    twice = [turn for turn in turns if opened[turn] != 1]
    errors = [body for wanderer in wanderers for body in wanderer.errors]
    wrong = [what for wanderer in wanderers for what in complaints(three, wanderer)]
    moved = sum(len(wanderer.resumed) - 1 for wanderer in wanderers)
    with capsys.disabled():
        print(
            f"\nrolling restart of 3 nodes in {seconds:.0f} s, {SESSIONS} sessions: {len(turns)} answers, "
            f"{whole} whole, {len(twice)} not generated once, {len(errors)} errors shown, {len(wrong)} wrong, "
            f"{moved} moves"
        )
    assert [twice, errors, wrong] == [[], [], []], (twice, errors, wrong)
    assert whole == len(turns)
    assert moved >= SESSIONS
    assert {how for wanderer in wanderers for how in wanderer.resumed[1:]} == {"replayed"}
