"""`servers/guard.py`: what stays in a connection, and what must not."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trialogue_adapters.servers.guard import (
    LINGER_BYTES,
    LINGER_SECONDS,
    UNACKNOWLEDGED_SECONDS,
    contained,
    limit_unacknowledged,
    linger,
)


class Failing:
    """Serves by raising."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def __call__(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("x"), ExceptionGroup("x", [OSError(), ExceptionGroup("y", [KeyError()])])]
)
async def test_exceptions_stay(error: Exception) -> None:
    await contained(Failing(error))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), BaseExceptionGroup("x", [KeyboardInterrupt()])])
async def test_what_ends_a_process_goes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        await contained(Failing(error))


async def test_of_a_mixed_group_only_the_rest_goes_through() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await contained(Failing(BaseExceptionGroup("x", [ValueError(), KeyboardInterrupt()])))
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]


async def test_a_cancelled_connection_is_cancelled() -> None:
    async def serve() -> None:
        scope.cancel()
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        await contained(serve)
        pytest.fail("it went on")
    assert scope.cancelled_caught


@asynccontextmanager
async def tcp() -> AsyncGenerator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Both ends of a connection over the loopback: ours, theirs."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        theirs = await trio.open_tcp_stream(*listener.socket.getsockname())
        ours = await listener.accept()
    async with ours, theirs:
        yield ours, theirs


async def test_the_kernel_gives_up_a_peer_that_acknowledges_nothing() -> None:
    async with tcp() as (ours, _):
        limit_unacknowledged(ours)
        found = ours.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert found == UNACKNOWLEDGED_SECONDS * 1000


async def test_a_socket_that_is_no_tcp_is_left_as_it_is() -> None:
    one, two = trio.socket.socketpair()
    async with trio.SocketStream(one) as stream, trio.SocketStream(two):
        limit_unacknowledged(stream)


async def test_last_words_are_read_although_more_was_still_coming() -> None:
    """Without lingering, closing with bytes unread is a reset, and the peer may never see them."""
    async with tcp() as (ours, theirs):
        await theirs.send_all(b"x" * 100_000)
        async with trio.open_nursery() as nursery:
            await ours.send_all(b"last words")
            nursery.start_soon(linger, ours)
            assert await theirs.receive_some() == b"last words"
            await theirs.send_all(b"x" * 100_000)
            assert await theirs.receive_some() == b""
            await theirs.aclose()


async def test_a_peer_that_stays_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with tcp() as (ours, _):
        began = trio.current_time()
        await linger(ours)
        assert trio.current_time() - began == pytest.approx(LINGER_SECONDS)


async def test_a_peer_that_goes_on_sending_is_not_read_for_ever() -> None:
    async with tcp() as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"x" * 20 * LINGER_BYTES)
        with trio.fail_after(LINGER_SECONDS / 2):
            await linger(ours)
        nursery.cancel_scope.cancel()


async def test_who_is_being_read_by_another_task_is_not_lingered_for() -> None:
    async with tcp() as (ours, _), trio.open_nursery() as nursery:
        nursery.start_soon(ours.receive_some)
        await wait_all_tasks_blocked()
        with trio.fail_after(LINGER_SECONDS / 2):
            await linger(ours)
        nursery.cancel_scope.cancel()
