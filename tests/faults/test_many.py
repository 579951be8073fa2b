"""Many at once: sessions whose actors crash beside others, and a SIGTERM while many stream and some are stuck."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from support.raw_client import (
    CLOSE,
    Client,
    Closed,
    _close_of,
    chat_path,
    close_payload,
    frame,
    fresh,
    is_end,
    open_client,
    open_wire,
    request,
    tokens,
)
from support.server import Server, running

OPEN = (
    "--max-generations",
    "0",
    "--messages-per-minute",
    "0",
    "--turns-per-minute",
    "0",
    "--handshakes-per-second",
    "0",
)
CRASHING = 500
BYSTANDERS = 500
AT_ONCE = 50

STREAMING, STUCK = 100, 20
DRAIN_TIMEOUT = 1.0


@pytest.mark.slow
async def test_500_crashes_among_500_bystanders(listener: str, tmp_path: Path) -> None:
    """Every bystander's answer comes whole; every crashed session's turn ends once, and it answers the next."""
    gate, streaming, crashed = trio.CapacityLimiter(AT_ONCE), trio.Event(), trio.Event()
    whole: list[str] = []
    recovered: list[str] = []
    arrived = 0

    async def bystander() -> None:
        nonlocal arrived
        async with AsyncExitStack() as stack:
            async with gate:
                client = await stack.enter_async_context(open_client(server))
            message_id = await client.say(tokens=20, pace=0.4)
            await client.wait_for("stream_token", message_id)
            arrived += 1
            if arrived == BYSTANDERS:
                streaming.set()
            turn = await client.turn(message_id)
            assert len(tokens(turn)) == 19
            whole.append(turn[-1]["finish_reason"])

    async def victim() -> None:
        async with gate, open_client(server) as client:
            message_id = await client.say(tokens=None, pace=0.1)
            await client.wait_for("stream_token", message_id)
            await client.cancel("!crash")
            turn = await client.turn(message_id)
            assert turn[-1]["error_code"] == "WS-007"
            following = await client.say()
            frames = await client.turn(following) + await client.quiet()
            assert [body["message_id"] for body in frames if is_end(body)] == [following]
            recovered.append(message_id)
            if len(recovered) == CRASHING:
                crashed.set()

    with running(tmp_path, listener, OPEN, "planted:service") as server:
        async with trio.open_nursery() as nursery:
            for _ in range(BYSTANDERS):
                nursery.start_soon(bystander)
            await streaming.wait()
            for _ in range(CRASHING):
                nursery.start_soon(victim)
            with trio.fail_after(20):
                await crashed.wait()
        assert whole == ["stop"] * BYSTANDERS
        assert len(recovered) == CRASHING
        assert server.alive
        assert server.log().count("a session's actor crashed") == CRASHING


async def stuck(server: Server, *, task_status: trio.TaskStatus[None]) -> None:
    """A client with a running turn that never reads."""
    async with open_wire(server) as wire:
        session_id = fresh("stuck")
        await wire.send(request(chat_path(session_id)))
        await wire.head()
        ask = {"message_id": "m", "content": "m", "session_id": session_id, "options": {"tokens": None}}
        await wire.send(frame(json.dumps(ask).encode()))
        task_status.started()
        await trio.sleep_forever()


async def until_closed(client: Client) -> tuple[list[str], int]:
    """The endings that it was told, and its close code."""
    endings: list[str] = []
    try:
        while True:
            opcode, payload = await client._frame()
            if opcode == CLOSE:
                raise Closed(*_close_of(payload))
            body = json.loads(payload)
            if is_end(body):
                endings.append(body.get("finish_reason") or body["error_code"])
    except Closed as closed:
        client.gone = True
        if closed.code != 1006:
            await client.send_frame(close_payload(closed.code), CLOSE)
        return endings, closed.code


async def test_sigterm_while_100_stream_20_of_them_stuck_with_a_service_that_ignores_it(
    listener: str, tmp_path: Path
) -> None:
    seen: list[tuple[list[str], int]] = []

    async def reader(*, task_status: trio.TaskStatus[None]) -> None:
        async with open_client(server) as client:
            await client.say(tokens=None, pace=0.05, on_cancel="stubborn", stubborn=30)
            await client.wait_for("stream_token")
            task_status.started()
            seen.append(await until_closed(client))

    with running(tmp_path, listener, ("--drain-timeout", str(DRAIN_TIMEOUT)), "planted:service") as server:
        async with trio.open_nursery() as nursery:
            for _ in range(STUCK):
                await nursery.start(stuck, server)
            for _ in range(STREAMING - STUCK):
                await nursery.start(reader)
            await trio.sleep(0.5)  # for the stuck ones' sockets to be full
            before = time.monotonic()
            server.signal()
            assert await server.exit_code() == 0
            took = time.monotonic() - before
            with trio.fail_after(2):
                while len(seen) < STREAMING - STUCK:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    print(f"gone after {took:.2f} s")
    assert seen == [(["WS-006"], 1012)] * (STREAMING - STUCK)
    assert took < DRAIN_TIMEOUT + 1
