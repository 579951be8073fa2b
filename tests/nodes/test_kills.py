"""Owners are killed in mid-answer: what anybody saw is in the log, each turn ends once, and soon.

`--kills N` kills so many, one every few seconds, whether or not the one before has been got over.
"""

from __future__ import annotations

from collections import Counter
from statistics import quantiles

import pytest
import trio

from support.cluster import Cluster, Node
from support.raw_client import fresh
from support.verdict import complaints
from support.wanderer import Wanderer

P99_SECONDS = 6.0
"""From the kill to the ending at the client: a lease lasts 5 s."""
SESSIONS = 8
EVERY = 2.5
"""Seconds from one kill to the next. A lease outlives two of them: owners, and who would follow them, are lost too."""


async def test_a_turn_that_ran_ends_what_waited_goes_on_and_what_had_told_nothing_is_made_afresh(
    three: Cluster,
) -> None:
    owner, other, _ = three.nodes
    running, waiting, early = fresh("running"), fresh("waiting"), fresh("early")
    async with trio.open_nursery() as nursery:
        here, there, third = (Wanderer(three, fresh("s"), node) for node in (owner, other, owner))
        await nursery.start(here.run)
        there.session_id = here.session_id
        await nursery.start(there.run)
        await nursery.start(third.run)
        nursery.start_soon(lambda: there.ask(running, tokens=None, pace=0.01))
        await there.seen("stream_token", running)
        nursery.start_soon(lambda: here.ask(waiting, on_busy="enqueue", tokens=20))
        nursery.start_soon(lambda: third.ask(early, retrieval=1.0, tokens=20))
        await there.seen("user_message", waiting)
        await third.seen("stream_start", early)
        owner.kill()
        for wanderer in (here, third):
            wanderer.move()
        with trio.fail_after(12):
            while there.asked or here.asked or third.asked:
                await trio.sleep(0.01)
            await there.seen("stream_receipt", waiting)
            await third.seen("stream_receipt", early)
        nursery.cancel_scope.cancel()
    assert there.ends[running]["error_code"] == "WS-008"
    assert here.ends[waiting]["finish_reason"] == third.ends[early]["finish_reason"] == "stop"
    assert here.tokens(waiting) == third.tokens(early) == [f"t{n} " for n in range(20)]
    assert [complaints(three, wanderer) for wanderer in (here, there, third)] == [[], [], []]
    opened = three.opened()
    assert (opened[running], opened[waiting], opened[early]) == (1, 1, 2)


class Talker:
    """One session that always has an answer running, at a client that goes anywhere."""

    def __init__(self, three: Cluster) -> None:
        self.three = three
        self.wanderer = Wanderer(three)
        self.lost: dict[str, float] = {}  # turns that ran on a node that was killed then
        self.message_id = ""

    async def run(self) -> None:
        while True:
            self.message_id = fresh("m")
            await self.wanderer.ask(self.message_id, tokens=None, pace=0.05)

    def note(self, node: Node) -> bool:
        """Before a kill: is this in mid-answer there?"""
        if not self.wanderer.tokens(self.message_id) or self.message_id in self.lost:
            return False
        if self.three.owner(self.wanderer.session_id) is not node:
            return False
        self.lost[self.message_id] = trio.current_time()
        return True

    @property
    def waits(self) -> bool:
        return any(message_id not in self.wanderer.ends for message_id in self.lost)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_owners_killed_in_mid_answer(
    three: Cluster, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = pytestconfig.getoption("kills")
    talkers = [Talker(three) for _ in range(SESSIONS)]
    async with trio.open_nursery() as nursery:
        for talker in talkers:
            await nursery.start(talker.wanderer.run)
            nursery.start_soon(talker.run)
        killed = 0
        while killed < kills:
            await trio.sleep(EVERY / 2)
            up = [node for node in three.nodes if node.server]
            three.random.shuffle(up)
            victim = next((node for node in up if [talker for talker in talkers if talker.note(node)]), None)
            if victim:
                victim.kill()
                killed += 1
                await trio.sleep(EVERY / 2)
                await trio.to_thread.run_sync(victim.start)
        with trio.fail_after(12):
            while any(talker.waits for talker in talkers):
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    wanderers = [talker.wanderer for talker in talkers]
    times = [talker.wanderer.ended_at[turn] - at for talker in talkers for turn, at in talker.lost.items()]
    codes = {talker.wanderer.ends[turn].get("error_code") for talker in talkers for turn in talker.lost}
    wrong = [what for wanderer in wanderers for what in complaints(three, wanderer)]
    missing = sum("seen, and not in the log" in what for what in wrong)
    endings = Counter(len(ends) for wanderer in wanderers for ends in three.stream(wanderer.session_id).ends.values())
    percentiles = quantiles(times, n=100)
    store = pytestconfig.getoption("store")
    with capsys.disabled():
        print(
            f"\nkills on {store}: {killed} nodes killed, {len(times)} turns lost in mid-answer, "
            f"{sum(len(wanderer.entries) for wanderer in wanderers)} entries seen, {missing} of them not in the log; "
            f"endings per turn {dict(endings)}; {len(wrong)} wrong; "
            f"kill to ending p50 {percentiles[49]:.2f} s, p99 {percentiles[98]:.2f} s, most {max(times):.2f} s"
        )
    assert wrong == []
    assert set(endings) == {1}
    assert codes == {"WS-008"}
    assert not [wanderer.resumed for wanderer in wanderers if "gap" in wanderer.resumed]
    assert percentiles[98] <= P99_SECONDS
