"""A reader that never reads: it costs a bounded number of bytes, and its neighbours do not notice."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from support.raw_client import chat_path, frame, fresh, open_client, open_wire, request
from support.server import Server, running
from support.watcher import Watcher, watching

READERS = 40
MOST_BYTES = 256 * 1024
"""Of the server's memory, per reader that never reads, its endless turn included."""
STALL_SECONDS = 10.0
PACE = 0.01
FLAGS = ("--linger", "0.1")
ENDLESS = b'{"message_id":"m","content":"m","session_id":"%s","options":{"tokens":null}}'


def resident(server: Server) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


async def lateness(watcher: Watcher, seconds: float) -> float:
    """By how much the gap between two of a neighbour's tokens exceeds its 10 ms; exceeded by one gap in a hundred."""
    message_id = await watcher.client.say(tokens=int(seconds / PACE), pace=PACE)
    assert await watcher.ending(message_id) == "stop"
    came = [
        when
        for body, when in zip(watcher.frames, watcher.times, strict=True)
        if body["type"] == "stream_token" and body["message_id"] == message_id
    ]
    gaps = sorted(later - earlier - PACE for earlier, later in pairwise(came))
    return gaps[int(0.99 * len(gaps))]


@pytest.mark.slow
async def test_readers_that_never_read_are_held_back_and_then_closed(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener, FLAGS) as server:
        async with watching(server) as neighbour, open_client(server) as late, AsyncExitStack() as stack:
            alone = min([await lateness(neighbour, 1.0) for _ in range(2)])
            before = resident(server)
            for _ in range(READERS):
                wire = await stack.enter_async_context(open_wire(server))
                session_id = fresh("stuck")
                await wire.send(request(chat_path(session_id)))
                await wire.head()
                await wire.send(frame(ENDLESS % session_id.encode()))
            await late.say(tokens=None)
            since = trio.current_time()
            await trio.sleep(1)
            beside = min([await lateness(neighbour, 1.0) for _ in range(3)])  # the least: others use this machine too
            each = (resident(server) - before) / READERS
            print(f"{each / 1024:.0f} KiB per reader; neighbour's p99: {alone * 1e3:.1f}, {beside * 1e3:.1f} ms")
            assert each <= MOST_BYTES
            assert beside < alone + 0.05
            await trio.sleep_until(since + STALL_SECONDS + 2)
            async with open_client(server) as newcomer:
                assert (await newcomer.turn(await newcomer.say()))[-1]["finish_reason"] == "stop"
            assert len(server.record("closed", "m")) == READERS  # nobody came back
            assert (await late.end()).code == 4000  # one of them reads now
        assert server.alive
