"""`mounting/guest.py`: Trio on somebody else's loop, begun and ended with the mounts, cancelled with its tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import uvloop

from trialogue_adapters.mounting import EngineEnded, Mount, guest_of_this_loop, on_trio

SECONDS = 5.0


def run(main: Callable[[], Coroutine[Any, Any, None]], loop: Any = asyncio.new_event_loop) -> None:
    """As a server does: the loop's end is checked for what is left over (a warning is an error)."""
    with asyncio.Runner(loop_factory=loop, debug=loop is asyncio.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(), SECONDS))


@asynccontextmanager
async def nothing() -> AsyncGenerator[None, None]:
    yield


@asynccontextmanager
async def mounted(block: Any = nothing) -> AsyncGenerator[Mount, None]:
    async with guest_of_this_loop() as guest, guest.mount(block) as mount:
        yield mount


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_both_loops_run_in_one_thread_and_each_knows_which_it_is_on(loop: Any) -> None:
    async def main() -> None:
        trios, answered = trio.Event(), asyncio.get_running_loop().create_future()

        async def work() -> None:
            assert on_trio()
            assert asyncio.get_running_loop() is answered.get_loop()
            await trios.wait()
            await trio.sleep(0.01)
            answered.set_result("from Trio")

        async with mounted() as mount:
            errand = mount.start(work)
            await asyncio.sleep(0.01)
            assert not on_trio()
            trios.set()
            assert await answered == "from Trio"
            await errand.wait()
            assert repr(errand) == "<Errand done>"
            assert repr(mount) == "<Mount open, 0 errands>"
        assert repr(mount) == "<Mount closed, 0 errands>"

    run(main, loop)


def test_mounts_of_a_loop_share_one_run_and_the_last_one_ends_it() -> None:
    async def main() -> None:
        for _ in range(2):  # it can begin again
            async with guest_of_this_loop() as guest:
                async with guest.mount(nothing), mounted(), guest_of_this_loop() as same:
                    assert same is guest
                    assert repr(guest) == "<Guest running, 2 mounts>"
                trio.current_time()
            assert repr(guest) == "<Guest over, 0 mounts>"
            with pytest.raises(RuntimeError):
                trio.current_time()

    run(main)


def test_a_task_that_is_cancelled_cancels_on_trio_and_waits_for_it() -> None:
    async def main() -> None:
        left: list[str] = []

        async def work() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.02)
                left.append("closed")

        async with mounted() as mount:
            task = asyncio.create_task(mount.start(work).wait())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert left == ["closed"]

    run(main)


def test_what_an_errand_raises_is_its_own() -> None:
    async def main() -> None:
        async def work() -> None:
            raise LookupError("as told")

        async with mounted() as mount:
            with pytest.raises(LookupError, match="as told"):
                await mount.start(work).wait()
            await mount.start(trio.lowlevel.checkpoint).wait()

    run(main)


def test_leaving_cancels_the_errands_before_the_block_closes() -> None:
    async def main() -> None:
        order: list[str] = []

        @asynccontextmanager
        async def block() -> AsyncGenerator[None, None]:
            yield
            order.append("block")

        async def work() -> None:
            try:
                await trio.sleep_forever()
            finally:
                order.append("errand")

        async with mounted(block) as mount:
            errand = mount.start(work)
            await asyncio.sleep(0)
        await errand.wait()
        assert order == ["errand", "block"]
        with pytest.raises(EngineEnded):
            mount.start(work)

    run(main)


def test_a_block_that_cannot_open_is_the_hosts_to_hear_of() -> None:
    @asynccontextmanager
    async def block() -> AsyncGenerator[None, None]:
        raise LookupError("no such service")
        yield

    async def main() -> None:
        with pytest.raises(LookupError, match="no such service"):
            async with mounted(block):
                pytest.fail("it is not open")

    run(main)


def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    @asynccontextmanager
    async def block() -> AsyncGenerator[None, None]:
        await trio.sleep_forever()
        yield

    async def main() -> None:
        async def enter() -> None:
            async with mounted(block):
                pytest.fail("it is not open")

        task = asyncio.create_task(enter())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        assert task.cancelled()
        async with mounted():
            pass

    run(main)


def test_a_block_that_breaks_ends_its_errands_is_logged_at_once_and_raised_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        fatal = trio.Event()

        @asynccontextmanager
        async def block() -> AsyncGenerator[None, None]:
            async with trio.open_nursery() as nursery:

                async def breaking() -> None:
                    await fatal.wait()
                    raise LookupError("a bug")

                nursery.start_soon(breaking)
                yield
                nursery.cancel_scope.cancel()

        with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012 - the end of the block raises
            async with mounted() as other, mounted(block) as mount:
                errand = mount.start(trio.sleep_forever)
                await asyncio.sleep(0)
                fatal.set()
                await errand.wait()
                await asyncio.sleep(0.01)
                assert "turns everybody away" in caplog.text
                with pytest.raises(EngineEnded):
                    mount.start(trio.sleep_forever)
                await other.start(trio.lowlevel.checkpoint).wait()
        assert raised.group_contains(LookupError, match="a bug", depth=None)

    with caplog.at_level(logging.CRITICAL):
        run(main)


def test_nobody_waits_for_a_trio_that_has_died(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def bug() -> None:
            raise LookupError("inside Trio")

        async with mounted() as mount:
            errand = mount.start(trio.sleep_forever)
            await asyncio.sleep(0)
            trio.lowlevel.spawn_system_task(bug)
            await errand.wait()
            await asyncio.sleep(0.01)
            with pytest.raises(EngineEnded):
                mount.start(trio.sleep_forever)

    with caplog.at_level(logging.CRITICAL):
        run(main)
    assert "Trio has ended" in caplog.text


def test_a_thread_with_a_trio_of_its_own_says_so() -> None:
    async def main() -> None:
        over = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            trio.sleep,
            0.05,
            run_sync_soon_threadsafe=over.get_loop().call_soon_threadsafe,
            done_callback=lambda outcome: over.set_result(None),
            host_uses_signal_set_wakeup_fd=True,
        )
        with pytest.raises(RuntimeError, match="Attempted to call run"):
            async with mounted():
                pytest.fail("there are two")
        await over

    run(main)
