"""The queue between hypercorn's reader and a WebSocket's application."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from trialogue_adapters.servers.mailbox import CAPACITY, Mailbox

DISCONNECT = {"type": "websocket.disconnect"}


def message(n: int) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": str(n)}


async def test_messages_come_in_order_through_a_full_queue() -> None:
    mailbox = Mailbox()

    async def fill() -> None:
        for n in range(100):
            await mailbox.put(message(n))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill)
        got = [await mailbox.get() for _ in range(100)]
    assert got == [message(n) for n in range(100)]


async def test_whoever_fills_it_waits_and_the_news_of_the_end_does_not() -> None:
    mailbox, put = Mailbox(), 0

    async def fill() -> None:
        nonlocal put
        while True:
            await mailbox.put(message(put))
            put += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill)
        await wait_all_tasks_blocked()
        assert put == CAPACITY
        with trio.fail_after(1):
            await mailbox.put(DISCONNECT)
        nursery.cancel_scope.cancel()
    assert [await mailbox.get() for _ in range(CAPACITY + 2)] == [*map(message, range(CAPACITY + 1)), DISCONNECT]


async def test_a_cancelled_get_loses_nothing() -> None:
    mailbox = Mailbox()
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.get()
    await mailbox.put(message(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.get()
    assert await mailbox.get() == message(1)
