"""The three bridges against services that behave and services that do not: one suite, real loops, real threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import pytest
import trio

from support.sinkhole import Sinkhole
from trialogue import Done, Metadata, Policy, Turn, TurnReceipt
from trialogue.core.machine import Ending
from trialogue_adapters.bridges import NotAService, Runtime, open_service
from trialogue_adapters.bridges.handover import WINDOW
from trialogue_adapters.bridges.trio_stream import HOLD

RUNTIMES: list[Runtime] = ["asyncio", "trio", "sync"]


TURN = Turn("m", "hello", Policy.INTERRUPT, {"k": 1})


class Notes:
    """What a service did, seen from outside."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.yielded = 0
        self.thread = 0


def endless(runtime: Runtime, notes: Notes, pause: float = 0.0) -> Any:
    """A generator function that yields chunks until it is closed."""

    async def on_asyncio(message: str, session_id: str, options: Any) -> Any:
        try:
            while True:
                notes.yielded += 1
                notes.thread = threading.get_ident()
                yield {"event": "chunk", "data": "x"}
                await asyncio.sleep(pause)
        finally:
            notes.closed.set()

    async def on_trio(message: str, session_id: str, options: Any) -> Any:
        try:
            while True:
                notes.yielded += 1
                yield {"event": "chunk", "data": "x"}
                await trio.sleep(pause)
        finally:
            notes.closed.set()

    def in_a_thread(message: str, session_id: str, options: Any) -> Any:
        try:
            while True:
                notes.yielded += 1
                yield {"event": "chunk", "data": "x"}
                time.sleep(pause)
        finally:
            notes.closed.set()

    return {"asyncio": on_asyncio, "trio": on_trio, "sync": in_a_thread}[runtime]


def finite(runtime: Runtime, make: Callable[[], Any]) -> Any:
    """A generator function that yields what `make` gives, and raises what it raises."""

    async def asynchronous(message: str, session_id: str, options: Any) -> Any:
        for item in make():
            yield item

    def synchronous(message: str, session_id: str, options: Any) -> Any:
        yield from make()

    return synchronous if runtime == "sync" else asynchronous


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_everything_arrives_in_order_and_in_trios_thread(runtime: Runtime) -> None:
    sink = Sinkhole()
    items = [
        {"event": "metadata", "data": {"sources": [1]}},
        *({"event": "chunk", "data": str(n)} for n in range(500)),
        {"event": "done"},
    ]
    async with open_service(finite(runtime, lambda: items), runtime) as bridged:
        await bridged.service.run(TURN, "s", sink)
    assert sink.events == [Metadata([1]), *map(str, range(500)), Done()]
    assert sink.threads == {threading.get_ident()}
    assert len(sink.batches) < 500


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_cancel_closes_the_upstream(runtime: Runtime) -> None:
    sink, notes = Sinkhole(), Notes()
    async with open_service(endless(runtime, notes, 0.005), runtime) as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, TURN, "s", sink)
        await sink.until(3)
        started = time.perf_counter()
        nursery.cancel_scope.cancel()
    assert notes.closed.is_set()
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_the_upstream_is_not_pulled_while_there_is_no_room(runtime: Runtime) -> None:
    sink, notes = Sinkhole(room_for=10), Notes()
    async with open_service(endless(runtime, notes), runtime) as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, TURN, "s", sink)
        await sink.until(10)
        await trio.sleep(0.1)
        first = notes.yielded
        assert first <= 10 + 2 * WINDOW
        await trio.sleep(0.1)
        assert notes.yielded == first
        sink.make_room(1000)
        await sink.until(1000)
        nursery.cancel_scope.cancel()
    assert notes.closed.is_set()


def raising() -> Any:
    yield {"event": "chunk", "data": "x"}
    raise ValueError("boom")


def junk() -> Any:
    yield {"event": "chunk", "data": "x"}
    yield 17


@pytest.mark.parametrize("make", [raising, junk])
@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_what_a_service_raises_comes_through_after_what_it_yielded(runtime: Runtime, make: Any) -> None:
    sink = Sinkhole()
    async with open_service(finite(runtime, make), runtime) as bridged:
        with pytest.raises(ValueError, match=r"boom|the service yielded int"):
            await bridged.service.run(TURN, "s", sink)
    assert sink.events == ["x"]


async def test_system_exit_in_a_service_is_its_turns_failure() -> None:
    def leaving() -> Any:
        yield {"event": "chunk", "data": "x"}
        raise SystemExit(3)

    for runtime in ("asyncio", "sync"):
        async with open_service(finite(runtime, leaving), runtime) as bridged:  # type: ignore[arg-type]
            with pytest.raises(RuntimeError, match="SystemExit"):
                await bridged.service.run(TURN, "s", Sinkhole())


async def test_an_asyncio_service_that_cancels_itself_fails() -> None:
    async def service(message: str, session_id: str) -> Any:
        yield "x"
        raise asyncio.CancelledError

    async with open_service(service) as bridged:
        with pytest.raises(RuntimeError, match="cancelled itself"):
            await bridged.service.run(TURN, "s", Sinkhole())


async def test_an_asyncio_service_that_swallows_the_cancel_ends_at_its_next_yield() -> None:
    notes = Notes()

    async def service(message: str, session_id: str) -> Any:
        try:
            while True:
                yield "x"
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError:
                    notes.yielded += 1
        finally:
            notes.closed.set()

    sink = Sinkhole()
    async with open_service(service) as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, TURN, "s", sink)
        await sink.until(2)
        nursery.cancel_scope.cancel()
    assert notes.yielded == 1
    assert notes.closed.is_set()


async def test_a_cancel_before_the_first_step_is_a_cancel() -> None:
    sink, notes = Sinkhole(), Notes()
    async with open_service(endless("asyncio", notes)) as bridged:
        with trio.CancelScope() as scope:
            scope.cancel()
            await bridged.service.run(TURN, "s", sink)
        assert scope.cancelled_caught
        assert "0 streams" in repr(bridged.service._thread.handover)  # type: ignore[attr-defined]


async def test_a_service_that_blocks_its_loop_does_not_block_ours() -> None:
    async def service(message: str, session_id: str) -> Any:
        yield "x"
        time.sleep(0.5)
        yield "y"

    sink = Sinkhole()
    slowest = 0.0
    async with open_service(service) as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, TURN, "s", sink)
        await sink.until(1)
        while len(sink.events) < 2:
            before = time.perf_counter()
            await trio.sleep(0.01)
            slowest = max(slowest, time.perf_counter() - before)
    assert slowest < 0.3


async def test_leaving_waits_for_no_upstream_that_refuses() -> None:
    stop = threading.Event()

    def stubborn(message: str, session_id: str) -> Any:
        yield "x"
        stop.wait(20)

    sink = Sinkhole()
    started = time.perf_counter()
    async with open_service(stubborn, "sync") as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, TURN, "s", sink)
        await sink.until(1)
        nursery.cancel_scope.cancel()
        bridged.release()
    assert time.perf_counter() - started < 5
    stop.set()


class Hearing:
    """A service of each kind with the `ended` hook."""

    def __init__(self) -> None:
        self.heard: list[tuple[TurnReceipt, str, int]] = []


class HearingAsyncio(Hearing):
    async def stream_rag_pipeline(self, message: str, session_id: str) -> Any:
        yield message

    async def ended(self, receipt: TurnReceipt, text: str) -> None:
        self.heard.append((receipt, text, threading.get_ident()))


class HearingSync(Hearing):
    def stream_rag_pipeline(self, message: str, session_id: str) -> Any:
        yield message

    def ended(self, receipt: TurnReceipt, text: str) -> None:
        self.heard.append((receipt, text, threading.get_ident()))


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_the_hook_is_called_where_the_service_lives(runtime: Runtime) -> None:
    service = HearingSync() if runtime == "sync" else HearingAsyncio()
    receipt = TurnReceipt("s", "m", Ending.COMPLETED, 1, 1, None, "closed")
    async with open_service(service, runtime) as bridged:
        await bridged.service.ended(receipt, "text")  # type: ignore[attr-defined]
    ((heard, text, thread),) = service.heard
    assert (heard, text) == (receipt, "text")
    assert (thread == threading.get_ident()) is (runtime == "trio")


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_service_without_the_hook_offers_none(runtime: Runtime) -> None:
    async with open_service(finite(runtime, list), runtime) as bridged:
        assert not hasattr(bridged.service, "ended")


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_factory_is_called_where_the_service_lives_and_what_it_made_is_closed(runtime: Runtime) -> None:
    class Made(HearingSync if runtime == "sync" else HearingAsyncio):  # type: ignore[misc]
        made: ClassVar[list[Any]] = []

        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.get_running_loop() if runtime == "asyncio" else None
            self.closed = 0
            Made.made.append(self)

        if runtime == "sync":

            def close(self) -> None:
                self.closed += 1
        else:

            async def aclose(self) -> None:
                self.closed += 1

    sink = Sinkhole()
    async with open_service(Made, runtime) as bridged:
        await bridged.service.run(TURN, "s", sink)
        assert Made.made[0].closed == 0
    assert sink.events == ["hello"]
    assert Made.made[0].closed == 1


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_factory_that_raises_is_heard(runtime: Runtime) -> None:
    def broken() -> Any:
        raise LookupError("no key")

    with pytest.raises((LookupError, ExceptionGroup)) as caught:
        async with open_service(broken, runtime):
            pytest.fail("it opened")
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert str(error) == "no key"


async def test_what_is_no_service_is_said() -> None:
    with pytest.raises(NotAService, match="object has no method"):
        async with open_service(object()):
            pytest.fail("it opened")


async def test_a_trio_flood_lets_others_run() -> None:
    async def flood(message: str, session_id: str) -> Any:
        for _ in range(100_000):
            yield "x"

    sink, ticks = Sinkhole(), 0
    async with open_service(flood, "trio") as bridged, trio.open_nursery() as nursery:

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await trio.lowlevel.checkpoint()

        nursery.start_soon(tick)
        await bridged.service.run(TURN, "s", sink)
        nursery.cancel_scope.cancel()
    assert len(sink.events) == 100_000
    assert ticks > 100
    assert max(sink.batches) <= 32


async def test_a_trio_generator_flushes_the_moment_it_suspends() -> None:
    step = trio.Event()

    async def service(message: str, session_id: str) -> Any:
        for n in range(5):
            yield str(n)
        await step.wait()
        yield "last"

    sink = Sinkhole()
    async with open_service(service, "trio") as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, TURN, "s", sink)
        await trio.testing.wait_all_tasks_blocked()
        assert sink.batches == [5]
        step.set()
    assert sink.batches == [5, 1]


async def test_between_checkpoints_a_trio_generator_collects_and_before_a_wait_it_flushes() -> None:
    step = trio.Event()

    async def service(message: str, session_id: str) -> Any:
        for n in range(5):
            await trio.lowlevel.checkpoint()
            yield str(n)
        await step.wait()
        yield "last"

    sink = Sinkhole()
    async with open_service(service, "trio") as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, TURN, "s", sink)
        await trio.testing.wait_all_tasks_blocked()
        assert sum(sink.batches) == 5  # in one piece, unless this machine stood still for a millisecond
        assert len(sink.batches) < 5
        step.set()
    assert sink.batches[-1] == 1


async def test_between_slow_checkpoints_nothing_is_held() -> None:
    async def service(message: str, session_id: str) -> Any:
        for n in range(5):
            yield str(n)
            time.sleep(2 * HOLD)
            await trio.lowlevel.checkpoint()

    sink = Sinkhole()
    async with open_service(service, "trio") as bridged:
        await bridged.service.run(TURN, "s", sink)
    assert sink.batches == [1] * 5


async def test_a_loop_that_was_told_to_exit_is_noticed() -> None:
    async def service(message: str, session_id: str) -> Any:
        async def leave() -> None:
            raise SystemExit(3)

        task = asyncio.create_task(leave())
        yield "x"
        await asyncio.sleep(60)
        del task

    async def run() -> None:
        with suppress(RuntimeError):  # the turn's own failure
            await bridged.service.run(TURN, "s", Sinkhole())

    async with open_service(service) as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with trio.fail_after(5), pytest.raises(RuntimeError, match="event loop has ended"):
            await bridged.watch()
        bridged.release()
        nursery.cancel_scope.cancel()


WRONG_LOOP: list[tuple[Runtime, Runtime]] = [("asyncio", "trio"), ("trio", "asyncio"), ("sync", "asyncio")]


@pytest.mark.parametrize(("runtime", "needed"), WRONG_LOOP)
async def test_a_service_that_wants_another_loop_in_mid_answer_fails_with_its_remedy(
    runtime: Runtime, needed: Runtime
) -> None:
    async def wants(message: str, session_id: str) -> Any:
        yield "x"
        await (trio.sleep(0) if needed == "trio" else asyncio.sleep(0.01))

    def blocks(message: str, session_id: str) -> Any:
        yield "x"
        asyncio.get_running_loop()

    sink = Sinkhole()
    async with open_service(blocks if runtime == "sync" else wants, runtime) as bridged:
        with pytest.raises(NotAService, match=f"add --service-runtime {needed}"):
            await bridged.service.run(TURN, "s", sink)
    assert sink.events == ["x"]


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_service_that_returns_no_generator_fails_with_its_remedy(runtime: Runtime) -> None:
    async def text(message: str, session_id: str) -> int:
        return 5

    def number(message: str, session_id: str) -> int:
        return 5

    async with open_service(number if runtime == "sync" else text, runtime) as bridged:
        with pytest.raises(NotAService, match="returned int, not a generator"):
            await bridged.service.run(TURN, "s", Sinkhole())


async def test_what_a_service_says_it_runs_on_is_believed() -> None:
    class Says(HearingAsyncio):
        runtime = "trio"

    async with open_service(Says(), "trio"):
        pass
    with pytest.raises(NotAService, match="Says runs on trio: add --service-runtime trio"):
        async with open_service(Says()):
            pytest.fail("it opened")
