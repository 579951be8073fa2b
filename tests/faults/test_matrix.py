"""The matrix of faults and points of a turn, on both listeners: real processes, real sockets, many cells at a time.

In every cell the turn has the one ending that the table (`matrix.py`) tells, the session goes on, a bystander streams
and pings undisturbed, and afterwards the process has no connection, session, generation, Trio task, thread or
descriptor more than before. `pytest tests/faults/test_matrix.py -n 0 --write-faults` writes what it saw into the docs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from faults import cells
from faults.cells import Cell, Fault, at_point, judged
from faults.matrix import FAMILIES, POINTS, TABLE, Row, rendered
from support.fault_proxy import fault_proxy
from support.raw_client import Refused, open_client, open_wire
from support.server import LISTENERS, Server, running
from support.watcher import bystander, watching

pytestmark = pytest.mark.slow

SERVICE = "planted:service"
TIMES = ("--heartbeat", "2", "--linger", "5", "--session-ttl", "1.5", "--messages-per-minute", "0")
PATIENCES = ("--first-token-timeout", "1.5", "--token-timeout", "1.2", "--turn-timeout", "4")
FLAGS = (*TIMES, *PATIENCES)

CLIENT_FAULTS: dict[str, Fault] = {
    "closes (1000)": cells.close_1000,
    "FIN": cells.fin,
    "half-close": cells.half_close,
    "RST": cells.reset,
    "vanishes": cells.vanish,
    "stops reading": cells.stop_reading,
    "cut in the middle of a frame": cells.cut_in_a_frame,
    "cancel": cells.cancel,
    "a new message": cells.new_message,
    "the same message_id again": cells.same_id,
    "a second tab": cells.second_tab,
    "the session's actor crashes": cells.crash,
    "a hostile neighbour": cells.hostile_neighbour,
    "swallows a cancel": cells.cancel,
    "yields after a cancel": cells.cancel,
}

SERVICE_FAULTS: dict[str, dict[str, Any]] = {
    "raises": {"fault": ["raise", "ValueError"]},
    "hangs": {"fault": ["sleep", 3600]},
    "never ends": {"tokens": None, "pace": 0.03, "at": {}},
    "yields junk": {"fault": ["yield", 5]},
    "swallows a cancel": {"on_cancel": "stubborn", "stubborn": 0.6},
    "yields after a cancel": {"on_cancel": "error"},
    "blocks": {"fault": ["block", 0.15]},
}

SEEN: dict[str, dict[str, dict[str, str]]] = {listener: {} for listener in LISTENERS}
"""What became of each cell: by listener, fault and point."""

BEFORE: dict[int, dict[str, int]] = {}
"""The first census of each server."""


# What a process holds.


async def census(server: Server) -> dict[str, int]:
    async with watching(server, "census") as asker:
        await asker.client.cancel("!census")
        told = await asker.wait_for("census")
    return {name: value for name, value in told.items() if name != "type"}


@asynccontextmanager
async def nothing_left_over(server: Server) -> AsyncGenerator[None]:
    """After the block the process comes back, soon, to having no more of anything than after its very first turn."""
    if server.process.pid not in BEFORE:
        async with open_client(server, "warm-up") as client:
            await client.turn(await client.say())
        await settled(server, {"connections": 1, "sessions": 1, "generations": 0, "abandoned": 0})
        BEFORE[server.process.pid] = await census(server)
    yield
    await settled(server, BEFORE[server.process.pid])


async def settled(server: Server, most: dict[str, int]) -> None:
    """Wait until there is no more than `most` of anything."""
    more: dict[str, tuple[int, int]] = {}
    with trio.move_on_after(8):
        while True:
            now = await census(server)
            more = {name: (now[name], limit) for name, limit in most.items() if now[name] > limit}
            if not more:
                return
            await trio.sleep(0.1)
    raise AssertionError(f"left over (now, before): {more}")


# Faults that leave the process alive.


async def run_cell(server: Server, proxy: Any, fault: str, point: str) -> str:
    options = SERVICE_FAULTS.get(fault)
    if point == "idle" and options:  # nobody's turn is running: the service does it to a neighbour
        async with at_point(server, proxy, "idle") as cell, at_point(server, proxy, "tokens", options) as neighbour:
            await CLIENT_FAULTS.get(fault, cells.nothing)(neighbour)
            await judged(neighbour)
            return await judged(cell)
    async with at_point(server, proxy, point, options) as cell:
        await CLIENT_FAULTS.get(fault, cells.nothing)(cell)
        return await judged(cell)


async def run_family(server: Server, rows: Mapping[str, Row]) -> dict[str, dict[str, str]]:
    """All cells of the rows at the same time; what became of each, an error where it failed."""
    seen: dict[str, dict[str, str]] = {fault: {} for fault in rows}

    async def run(fault: str, point: str, proxy: Any) -> None:
        try:
            with trio.fail_after(20):
                seen[fault][point] = await run_cell(server, proxy, fault, point)
        except* (Exception, trio.TooSlowError) as errors:
            seen[fault][point] = f"error: {first(errors)!r}"

    async with (
        nothing_left_over(server),
        fault_proxy(server) as proxy,
        bystander(server),
        trio.open_nursery() as nursery,
    ):
        for fault, row in rows.items():
            for point in POINTS:
                if getattr(row, point) != "–":
                    nursery.start_soon(run, fault, point, proxy)
    return seen


def first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def compare(family: str, seen: dict[str, dict[str, str]]) -> None:
    wrong = [
        f"{fault} · {POINTS[point]}: expected {getattr(row, point)}, seen {seen[fault].get(point)}"
        for fault, row in FAMILIES[family].items()
        for point in POINTS
        if fault in seen and seen[fault].get(point, "–") != getattr(row, point)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "family",
    ["the client goes", "the client asks", "the service", "the service's thread", "the engine", "somebody else"],
)
async def test_faults(server: Server, listener: str, family: str) -> None:
    seen = await run_family(server, FAMILIES[family])
    SEEN[listener].update(seen)
    compare(family, seen)
    assert server.alive


async def test_faults_of_a_trio_service(listener: str, tmp_path: Path) -> None:
    """The same as of one on asyncio: the family's own runs are with that."""
    family = "the service"
    with running(tmp_path, listener, (*FLAGS, "--service-runtime", "trio"), "planted:trio_service") as server:
        compare(family, await run_family(server, FAMILIES[family]))
        assert server.alive


# Faults of the process: a server of their own.


@asynccontextmanager
async def at_every_point(server: Server, options: dict[str, Any] | None = None) -> AsyncGenerator[dict[str, Cell]]:
    """A session at each point, all at the same moment."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(fault_proxy(server))
        reached: dict[str, Cell] = {}

        async def go(point: str, *, task_status: trio.TaskStatus[None]) -> None:
            async with at_point(server, proxy, point, options if point != "idle" else None) as cell:
                reached[point] = cell
                task_status.started()
                await trio.sleep_forever()

        nursery = await stack.enter_async_context(trio.open_nursery())
        async with trio.open_nursery() as arriving:
            for point in POINTS:
                arriving.start_soon(partial(nursery.start, go, point))
        yield reached
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("fault", "timeout", "options"),
    [("SIGTERM", 10, None), ("SIGTERM, out of time", 0.5, {"tokens": 5000, "retrieval": 0.2, "pace": 0.03, "at": {}})],
)
async def test_sigterm(
    listener: str, tmp_path: Path, fault: str, timeout: float, options: dict[str, Any] | None
) -> None:
    flags = (*TIMES, "--drain-timeout", str(timeout))
    with running(tmp_path, listener, flags, SERVICE) as server:
        seen = {}
        async with at_every_point(server, options) as reached:
            server.signal()
            for cell in reached.values():
                assert cell.link
                cell.link.down.go_on()  # what the replay still lacks must be there before the process goes
            for point, cell in reached.items():
                for connection in cell.connections:
                    assert await connection.end() == 1012
                seen[point] = cells.one_ending(cell.message_id, *cell.connections) or "fine"
        assert await server.exit_code() == 0
    SEEN[listener][fault] = seen
    compare("the process", {fault: seen})


async def hold_wires(server: Server, number: int, *, task_status: trio.TaskStatus[None]) -> None:
    """So many connections that say nothing."""
    async with AsyncExitStack() as stack:
        for _ in range(number):
            await stack.enter_async_context(open_wire(server))
        task_status.started()
        await trio.sleep_forever()


async def hold_clients(server: Server, number: int, *, task_status: trio.TaskStatus[None]) -> None:
    """Connections up to the cap: one more is refused with 503."""
    async with AsyncExitStack() as stack:
        for _ in range(number):
            try:
                await stack.enter_async_context(open_client(server, leave=None))
            except Refused as refused:
                status = refused.status
                break
        else:
            status = 0
        assert status == 503, f"{status}, after {number} more connections"
        task_status.started()
        await trio.sleep_forever()


DESCRIPTORS, CAP = 64, 16


@pytest.mark.parametrize(
    ("fault", "flags", "descriptors", "crowd"),
    [
        ("no descriptor left", (), DESCRIPTORS, hold_wires),
        ("the connection cap reached", ("--max-connections", str(CAP)), None, hold_clients),
    ],
)
async def test_a_full_process(
    listener: str, tmp_path: Path, fault: str, flags: tuple[str, ...], descriptors: int | None, crowd: Any
) -> None:
    with running(tmp_path, listener, (*TIMES, *flags), SERVICE, descriptors) as server:
        seen: dict[str, str] = {}
        async with nothing_left_over(server), bystander(server), at_every_point(server) as reached:
            async with trio.open_nursery() as nursery:
                await nursery.start(crowd, server, descriptors or CAP + 1)
                reached["replay"].still_replayed()
                for cell in reached.values():
                    if cell.message_id:
                        await cell.victim.ending(cell.message_id)  # while it is full
                    await cell.victim.quiet()
                nursery.cancel_scope.cancel()
            for point, cell in reached.items():
                seen[point] = await judged(cell)
        assert not descriptors or "accept returned" in server.log(), "it never ran out of descriptors"
    SEEN[listener][fault] = seen
    compare("the process", {fault: seen})


# The docs.


def test_the_docs_table_is_the_codes() -> None:
    assert TABLE.committed() == rendered(FAMILIES), "write it: pytest tests/faults/test_matrix.py -n 0 --write-faults"


def test_what_the_run_saw_is_what_is_written(request: pytest.FixtureRequest) -> None:
    """The last of the module. Of a run of the whole module the table is written, if that is asked for."""
    whole = {family: {fault: {} for fault in rows} for family, rows in FAMILIES.items()}
    for listener in LISTENERS:
        seen = SEEN[listener]
        if set(seen) != {fault for rows in FAMILIES.values() for fault in rows}:
            pytest.skip("only a part of the matrix was run")
        whole = {family: {fault: seen[fault] for fault in rows} for family, rows in FAMILIES.items()}
        if request.config.getoption("--write-faults"):
            TABLE.commit(rendered(whole))
        assert TABLE.committed() == rendered(whole), listener
