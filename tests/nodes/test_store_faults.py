"""The store fails under three nodes in mid-answer: all are told in time, and when it is back, all is well by itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from http.client import HTTPConnection

import pytest
import trio

from support.cluster import Cluster, Node
from support.fault_proxy import fault_proxy
from support.raw_client import fresh
from support.verdict import complaints
from support.wanderer import Wanderer

SESSIONS = 9
TOLD_SECONDS = 3.0
"""From the fault to the ending of every turn: 2 s are promised, the rest is for a busy machine."""
HEALED_SECONDS = 5.0
"""From the store's return to a new answer."""


def readyz(node: Node) -> int:
    connection = HTTPConnection(node.host, node.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


async def all_ready(three: Cluster, status: int, within: float) -> None:
    with trio.fail_after(within):
        for node in three.nodes:
            while await trio.to_thread.run_sync(readyz, node) != status:
                await trio.sleep(0.05)


class Crowd:
    """Sessions in mid-answer: of each node's own, and of other nodes' clients."""

    def __init__(self, three: Cluster, nursery: trio.Nursery) -> None:
        self.three = three
        self.nursery = nursery
        self.wanderers: list[Wanderer] = []
        self.turns: dict[Wanderer, str] = {}

    async def begin(self) -> None:
        for number in range(SESSIONS):
            owner, guest = self.three.nodes[number % 3], self.three.nodes[(number // 3) % 3]
            wanderer = Wanderer(self.three, home=owner)
            self.wanderers.append(wanderer)
            await self.nursery.start(wanderer.run)
            if guest is not owner:
                await wanderer.moved(guest)
        for wanderer in self.wanderers:
            self.turns[wanderer] = fresh("m")
            self.ask(wanderer, self.turns[wanderer], tokens=None, pace=0.05)
        for wanderer, turn in self.turns.items():
            await wanderer.seen("stream_token", turn)

    def ask(self, wanderer: Wanderer, message_id: str, **options: object) -> None:
        async def ask() -> None:
            await wanderer.ask(message_id, **options)

        self.nursery.start_soon(ask)

    async def told(self, within: float) -> float:
        """Until every turn is ended. Returns the seconds."""
        begun = trio.current_time()
        with trio.fail_after(within):
            for wanderer, turn in self.turns.items():
                while turn in wanderer.asked:
                    await trio.sleep(0.01)
        assert {wanderer.ends[turn]["error_code"] for wanderer, turn in self.turns.items()} == {"WS-009"}
        return trio.current_time() - begun

    async def answered(self, within: float) -> float:
        """Each of them asks something new, until it has its answer (a refusal may be tried again)."""
        begun = trio.current_time()
        with trio.fail_after(within):
            async with trio.open_nursery() as nursery:
                for wanderer in self.wanderers:
                    nursery.start_soon(self._answered, wanderer)
        return trio.current_time() - begun

    async def _answered(self, wanderer: Wanderer) -> None:
        while "finish_reason" not in await wanderer.ask(tokens=5):
            await trio.sleep(0.1)

    async def refused(self) -> None:
        for wanderer in self.wanderers:
            with trio.fail_after(1.5):
                assert (await wanderer.ask(tokens=1))["error_code"] == "WS-009"

    async def come_back(self) -> set[str]:
        """Everybody resumes on any node. Returns what they were told."""
        for wanderer in self.wanderers:
            with trio.fail_after(HEALED_SECONDS):
                await wanderer.moved()
        return {wanderer.resumed[-1] for wanderer in self.wanderers}

    def once_each(self) -> None:
        """In the logs as they are now."""
        for wanderer in self.wanderers:
            stream = self.three.stream(wanderer.session_id)
            assert stream.ids == sorted(set(stream.ids))
            assert {len(ends) for ends in stream.ends.values()} == {1}
        opened = self.three.opened()
        assert {opened[turn] for turn in self.turns.values()} == {1}


@asynccontextmanager
async def crowd(three: Cluster) -> AsyncGenerator[Crowd]:
    async with trio.open_nursery() as nursery:
        made = Crowd(three, nursery)
        await made.begin()
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\nstore {text}")

    return show


async def test_killed_and_started_again_empty(three: Cluster, say: Callable[[str], None]) -> None:
    async with crowd(three) as people:
        three.store.kill()
        told = await people.told(TOLD_SECONDS)
        await all_ready(three, 503, 1)
        await people.refused()
        await trio.to_thread.run_sync(three.store.start)
        healed = await people.answered(HEALED_SECONDS)
        await all_ready(three, 200, 1)
        people.once_each()
        assert await people.come_back() <= {"replayed", "gap"}
    say(f"killed: {told:.1f} s until all were told; answers again {healed:.1f} s after its start")


@pytest.mark.slow
async def test_frozen_for_five_seconds(three: Cluster, say: Callable[[str], None]) -> None:
    async with crowd(three) as people:
        frozen = trio.current_time()
        three.store.freeze()
        told = await people.told(TOLD_SECONDS)
        await all_ready(three, 503, 1)
        await people.refused()
        await trio.sleep_until(frozen + 5)
        three.store.thaw()
        healed = await people.answered(HEALED_SECONDS)
        await all_ready(three, 200, 1)
        people.once_each()
        for wanderer, turn in people.turns.items():
            assert three.stream(wanderer.session_id).ends[turn] == ["WS-009"]
        assert await people.come_back() == {"replayed"}
        assert [complaints(three, wanderer, told={turn}) for wanderer, turn in people.turns.items()] == [[]] * SESSIONS
    say(f"frozen 5 s: {told:.1f} s until all were told; answers again {healed:.1f} s after it went on")


async def test_flushed(three: Cluster, say: Callable[[str], None]) -> None:
    async with crowd(three) as people:
        idle = [Wanderer(three, home=node) for node in three.nodes]
        for wanderer in idle:
            await people.nursery.start(wanderer.run)
            assert "finish_reason" in await wanderer.ask()
        before = {wanderer: wanderer.position for wanderer in (*people.wanderers, *idle)}
        three.store.flush()
        told = await people.told(TOLD_SECONDS)
        people.wanderers += idle
        healed = await people.answered(HEALED_SECONDS)
        people.once_each()
        for wanderer, position in before.items():
            wanderer.position = position  # as if it had been away
            await wanderer.moved(three.owner(wanderer.session_id))
        assert {wanderer.resumed[-1] for wanderer in before} == {"gap"}
    say(f"flushed: {told:.1f} s until all were told; answers again {healed:.1f} s after that")


@pytest.mark.slow
async def test_full(three: Cluster, say: Callable[[str], None]) -> None:
    async with crowd(three) as people:
        three.store.limit_memory(1)
        told = await people.told(TOLD_SECONDS)
        await all_ready(three, 503, 1)
        await people.refused()
        three.store.limit_memory(0)
        healed = await people.answered(HEALED_SECONDS)
        people.once_each()
        assert await people.come_back() == {"replayed"}
        assert [complaints(three, wanderer, told={turn}) for wanderer, turn in people.turns.items()] == [[]] * SESSIONS
    say(f"full: {told:.1f} s until all were told; answers again {healed:.1f} s after it had room")


async def test_a_cut_connection_is_noticed_by_nobody_and_a_dead_one_by_its_own_clients(
    three: Cluster, say: Callable[[str], None]
) -> None:
    """A fourth node reaches the store through a proxy."""
    async with fault_proxy(three.store) as proxy, trio.open_nursery() as nursery:
        far = three.add(f"redis://{proxy.host}:{proxy.port}")
        try:
            await trio.to_thread.run_sync(far.start)
            own, guest = Wanderer(three, home=far), Wanderer(three, home=three.nodes[0])
            await nursery.start(own.run)
            await nursery.start(guest.run)
            await guest.moved(far)
            cuts = 0
            turns = {own: fresh("m"), guest: fresh("m")}
            for wanderer, turn in turns.items():
                nursery.start_soon(lambda who, what: who.ask(what, tokens=150, pace=0.01), wanderer, turn)
                await wanderer.seen("stream_token", turn)
            while own.asked or guest.asked:
                await trio.sleep(0.1)
                for link in proxy.links:
                    link.reset()
                    cuts += 1
            for wanderer, turn in turns.items():
                assert wanderer.tokens(turn) == [f"t{n} " for n in range(150)]
                assert (wanderer.errors, len(wanderer.resumed)) == ([], 1 + (wanderer is guest))
                await wanderer.seen("stream_receipt", turn)
                assert complaints(three, wanderer) == []
            turn = fresh("m")
            nursery.start_soon(lambda: own.ask(turn, tokens=None, pace=0.01))
            await own.seen("stream_token", turn)
            begun = trio.current_time()
            for link in proxy.links:
                link.vanish()
            with trio.fail_after(TOLD_SECONDS):
                while own.asked:
                    await trio.sleep(0.01)
            told = trio.current_time() - begun
            assert own.ends[turn]["error_code"] == "WS-009"
            with trio.fail_after(HEALED_SECONDS):
                for wanderer in (own, guest):
                    while "finish_reason" not in await wanderer.ask(tokens=5):
                        await trio.sleep(0.1)
            assert three.stream(own.session_id).ends[turn] == ["WS-009"]
            assert complaints(three, own, told={turn}) == []
        finally:
            far.stop()
            three.nodes.remove(far)
            nursery.cancel_scope.cancel()
    say(f"cut off: {cuts} cuts of a node's connections in 150 tokens noticed by nobody; a dead one after {told:.1f} s")
