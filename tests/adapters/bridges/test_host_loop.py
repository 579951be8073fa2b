"""`bridges/host_loop.py`: an asyncio service on the loop that Trio is a guest of, through `open_service`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trialogue import ServiceEvent, Turn
from trialogue_adapters.bridges import open_service
from trialogue_adapters.bridges.host_loop import is_guest
from trialogue_adapters.mounting import guest_of_this_loop

SECONDS = 5.0
TURN = Turn("m", "hello")


class Collected:
    """An `Emit` that counts batches, and has room for so many events."""

    def __init__(self, room_for: int = 10**9) -> None:
        self.events: list[ServiceEvent] = []
        self.batches = 0
        self.room_for = room_for
        self._more = trio.Event()

    def __call__(self, batch: Sequence[ServiceEvent]) -> bool:
        self.events += batch
        self.batches += 1
        return len(self.events) < self.room_for

    async def room(self) -> None:
        await self._more.wait()

    def make_room(self) -> None:
        self.room_for = 10**9
        self._more.set()


@asynccontextmanager
async def nothing() -> Any:
    yield


def as_guest(work: Callable[[], Awaitable[None]], **variables: Any) -> None:
    """Run that on Trio as a guest, on a loop that ends afterwards."""

    async def main() -> None:
        async with guest_of_this_loop() as guest, guest.mount(nothing) as mount:
            await mount.start(work).wait()

    with asyncio.Runner(debug=True) as runner:
        runner.run(asyncio.wait_for(main(), SECONDS))


async def test_on_a_trio_of_its_own_there_is_no_host() -> None:
    assert not is_guest()


def test_a_service_runs_on_the_hosts_loop_and_what_is_ready_comes_as_one_batch() -> None:
    async def work() -> None:
        assert is_guest()
        host, thread = asyncio.get_running_loop(), threading.current_thread()

        class Service:
            def __init__(self) -> None:
                assert asyncio.get_running_loop() is host

            async def stream_rag_pipeline(self, message: str, session_id: str) -> Any:
                assert asyncio.get_running_loop() is host
                assert threading.current_thread() is thread
                for n in range(20):
                    yield str(n)
                await asyncio.sleep(0.01)
                for n in range(20, 30):
                    yield str(n)

        emit = Collected()
        async with open_service(Service) as opened:
            await opened.service.run(TURN, "s", emit)
        assert emit.events == [str(n) for n in range(30)]
        assert emit.batches <= 3

    as_guest(work)


def test_a_cancel_closes_the_upstream_before_the_next_thing_happens() -> None:
    async def work() -> None:
        closed = asyncio.Event()

        async def service(message: str, session_id: str) -> Any:
            try:
                while True:
                    yield "x"
                    await asyncio.sleep(0.001)
            finally:
                closed.set()

        async with open_service(service) as opened:
            with trio.move_on_after(0.05):
                await opened.service.run(TURN, "s", Collected())
            assert closed.is_set(), "the join"

    as_guest(work)


def test_a_service_is_not_pulled_while_there_is_no_room() -> None:
    async def work() -> None:
        made = 0

        async def service(message: str, session_id: str) -> Any:
            nonlocal made
            for _ in range(1000):
                made += 1
                yield "x"

        emit = Collected(room_for=10)
        async with open_service(service) as opened, trio.open_nursery() as nursery:
            nursery.start_soon(opened.service.run, TURN, "s", emit)
            await trio.sleep(0.05)
            assert made < 200
            emit.make_room()
        assert len(emit.events) == 1000

    as_guest(work)


def test_a_flood_lets_the_engine_and_the_host_run() -> None:
    async def work() -> None:
        async def flood(message: str, session_id: str) -> Any:
            while True:
                yield "x"

        async with open_service(flood) as opened, trio.open_nursery() as nursery:
            nursery.start_soon(opened.service.run, TURN, "s", Collected())
            gaps, last = [], time.monotonic()
            for _ in range(30):
                await trio.sleep(0.001)
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
            nursery.cancel_scope.cancel()
        assert sorted(gaps)[15] < 0.1

    as_guest(work)


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError])
def test_what_a_service_raises_is_its_turns_and_the_host_lives(error: type[BaseException]) -> None:
    async def work() -> None:
        async def service(message: str, session_id: str) -> Any:
            yield "before"
            raise error("as told")

        emit = Collected()
        async with open_service(service) as opened:
            with pytest.raises(ValueError if error is ValueError else RuntimeError):
                await opened.service.run(TURN, "s", emit)
        assert emit.events == ["before"]

    as_guest(work)


def test_a_factory_that_leaves_does_not_take_the_host_with_it() -> None:
    async def work() -> None:
        def factory() -> Any:
            raise SystemExit("as told")

        with pytest.raises(RuntimeError, match="SystemExit"):
            async with open_service(factory):
                pytest.fail("it has no service")

    as_guest(work)


def test_a_factory_that_is_given_up_is_cancelled() -> None:
    async def work() -> None:
        cancelled = asyncio.Event()

        async def factory() -> Any:
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

        with trio.move_on_after(0.01):
            async with open_service(factory):
                pytest.fail("it is not ready")
        await trio.sleep(0.01)
        assert cancelled.is_set()

    as_guest(work)


def test_leaving_waits_for_generators_that_close_and_not_for_long() -> None:
    async def work() -> None:
        closed: list[str] = []

        async def service(message: str, session_id: str) -> Any:
            try:
                yield "x"
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
                closed.append(message)

        async with open_service(service) as opened, trio.open_nursery() as nursery:
            nursery.start_soon(opened.service.run, TURN, "s", Collected())
            await trio.sleep(0.02)
            opened.release()  # as the application does when it leaves
            nursery.cancel_scope.cancel()
        assert closed == ["hello"], "the host's loop goes on: what is open on it is ours to close"

    as_guest(work)
