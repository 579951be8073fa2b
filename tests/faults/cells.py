"""How a cell of the matrix is run: a session is brought to a point of its turn, something goes wrong, the log is read.

The victim connects through the fault proxy. What became of its turn is judged by a witness, who resumes the session
from before the turn, as a client does that comes back: its log has one ending, and tokens without a hole before it.

During a replay: who asked has gone, a backlog is in the log, and the victim, who alone has come back for it, is being
sent it over a slow line. Such a victim comes back a second time, from where the fault left it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trio

from support.fault_proxy import FaultProxy, Link
from support.raw_client import (
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    chat_path,
    close_payload,
    frame,
    fresh,
    open_client,
    open_wire,
    request,
    tokens,
)
from support.server import Server
from support.watcher import Frame, Watcher, watching

LONG = {"tokens": 40, "pace": 0.03}

BACKLOG = 180
"""Tokens. With what comes after them they stay below the engine's window (256 entries): a slow reader that far behind
does not hold the service back, so that its faults fall into the replay."""
TOKEN_CHARS = 1400
"""The backlog is some 270 KB: several times what the kernels between the server and the client have room for."""
DRIP = 0.033
"""Seconds for each 4 KiB of the slow line: the backlog takes more than 2 s, so long that service faults happen in it,
and less than two heartbeats, for a ping comes behind it."""
TURNS: dict[str, dict[str, Any]] = {
    "accepted": {"retrieval": 0.8, "tokens": 5},
    "tokens": LONG,
    "last": {"tokens": 3, "at": {"3": ["sleep", 0.8]}},
    "two": LONG,
    "replay": {"tokens": BACKLOG + 40, "burst": BACKLOG, "size": TOKEN_CHARS, "pace": 0.03},
}
"""What the service does in the turn of a cell where it is not the service's fault."""

FAULTY_AT = {"accepted": "0", "tokens": "8", "last": "3", "two": "8", "replay": str(BACKLOG + 8)}
"""Before which token (`last`: before the done) the service misbehaves, where it does."""


@dataclass
class Cell:
    """One fault at one point. `message_id` is empty where no turn runs."""

    server: Server
    point: str
    victim: Watcher
    second: Watcher | None = None
    message_id: str = ""
    link: Link | None = None
    extra: list[str] = field(default_factory=list)
    """Turns that the fault itself has submitted: they must be answered in full."""

    @property
    def session_id(self) -> str:
        return self.victim.client.session_id

    @property
    def connections(self) -> list[Watcher]:
        return [self.victim, *([self.second] if self.second else [])]

    def still_replayed(self) -> None:
        """Raise AssertionError if the victim has all of the backlog: then the fault came after the replay."""
        got = sum(is_token(body, self.message_id) for body in self.victim.frames)
        assert got < BACKLOG, f"the victim has {got} tokens: the replay of {BACKLOG} is over"


def turn_at(point: str, options: dict[str, Any] | None) -> dict[str, Any]:
    """The options of the turn that is brought to a point; a service's fault (`{"fault": …}`) at its place there."""
    if options is None:
        return TURNS[point]
    more = {key: value for key, value in options.items() if key != "fault"}
    if "fault" not in options:
        return {**TURNS[point], **more}
    base = {"accepted": {"retrieval": 0.2}, "last": {"tokens": 3}, "replay": TURNS["replay"]}.get(point, LONG)
    return {**base, "at": {FAULTY_AT[point]: options["fault"]}, **more}


@asynccontextmanager
async def at_point(
    server: Server, proxy: FaultProxy, point: str, options: dict[str, Any] | None = None
) -> AsyncGenerator[Cell]:
    """A session at that point of its turn."""
    session_id = fresh("cell")
    before, message_id = await left_behind(server, session_id, options) if point == "replay" else ("", "")
    async with watching(proxy, session_id, {"after": before} if before else None) as victim:
        cell = Cell(server, point, victim, message_id=message_id, link=proxy.link(victim.client))
        if point == "replay":
            await rejoin(cell)
            yield cell
        elif point == "two":
            async with watching(server, cell.session_id) as second:
                cell.second = second
                await reach(cell, options)
                yield cell
        else:
            await reach(cell, options)
            yield cell


async def reach(cell: Cell, options: dict[str, Any] | None) -> None:
    victim = cell.victim
    if cell.point == "idle":
        await victim.quiet()
        return
    cell.message_id = await victim.client.say(**turn_at(cell.point, options))
    await victim.wait_for("stream_start", message_id=cell.message_id)
    if cell.point != "accepted":
        for connection in cell.connections:
            await connection.wait_for("stream_token", 3, message_id=cell.message_id)


async def left_behind(server: Server, session_id: str, options: dict[str, Any] | None) -> tuple[str, str]:
    """A turn runs, a backlog of it is in the log, and who asked has dropped: the position before it, and its id."""
    turn = turn_at("replay", options)
    awaited = BACKLOG + (80 if turn["tokens"] is None else 0)  # what is cut by its age is replayed when that is near
    async with open_client(server, session_id, v1=True) as asker:
        message_id = await asker.say(**turn)
        while awaited:
            awaited -= is_token(await asker.next(), message_id)
        asker.gone = True
        return str(asker.ready["position"]), message_id


async def rejoin(cell: Cell) -> None:
    """The victim has just come back: its line is slow, it is alone, and the first tokens have come."""
    assert cell.link
    cell.link.down.delay(DRIP)
    victim = cell.victim
    assert victim.client.ready["resumed"] == "replayed", victim.client.ready
    if victim.client.ready["connections"] > 1:  # the asker's has not been missed yet
        await victim.wait_for("presence", connections=1)
    await victim.wait_for("stream_token", 3, message_id=cell.message_id)
    cell.still_replayed()


async def judged(cell: Cell) -> str:
    """How the turn ended, read from the log; then the session must answer another message in full."""
    before = str(cell.victim.client.ready["position"])
    async with watching(cell.server, cell.session_id, {"after": before}) as witness:
        assert witness.client.ready["resumed"] == "replayed", witness.client.ready
        if cell.message_id:
            await witness.ending(cell.message_id)
        for message_id in cell.extra:
            assert await witness.ending(message_id) == "stop"
        following = await witness.client.say(on_busy="enqueue")
        assert await witness.ending(following) == "stop"
        await witness.quiet()
        outcome = one_ending(cell.message_id, witness, *([cell.second] if cell.second else []))
        for message_id in (*cell.extra, following):
            one_ending(message_id, witness)
        if cell.point == "replay":
            await whole_again(cell, witness)
    return outcome if cell.message_id else "fine"


async def whole_again(cell: Cell, witness: Watcher) -> None:
    """The victim comes back from where it got to: both times together it was sent what the witness has, each once."""
    after, first = cell.victim.position, list(cell.victim.frames)
    async with watching(cell.server, cell.session_id, {"after": after}) as again:
        assert again.client.ready["resumed"] == "replayed", again.client.ready
        await again.quiet()
    entries = [[body for body in frames if "offset" in body] for frames in ([*first, *again.frames], witness.frames)]
    assert [body["offset"] for body in entries[0]] == [body["offset"] for body in entries[1]]
    assert tokens(entries[0], cell.message_id) == tokens(entries[1], cell.message_id)


def one_ending(message_id: str, *readers: Watcher) -> str:
    """The ending that all of them saw, once. "" for no turn."""
    if not message_id:
        return ""
    seen = [reader.endings(message_id) for reader in readers]
    assert all(len(endings) == 1 for endings in seen), f"not one ending each: {seen}"
    assert len({endings[0] for endings in seen}) == 1, f"they saw different endings: {seen}"
    for reader in readers:
        indexes = [it["index"] for it in reader.frames if is_token(it, message_id)]
        assert indexes == list(range(len(indexes))), f"tokens are missing: {indexes}"
    return seen[0][0]


def is_token(body: Frame, message_id: str) -> bool:
    return body["type"] == "stream_token" and body["message_id"] == message_id


# Faults: what is done when the point is reached.

Fault = Callable[[Cell], Awaitable[None]]


async def nothing(cell: Cell) -> None:
    """The service does it; during a replay, in time. Where no turn runs, it does it to a neighbour."""
    if cell.point == "replay":
        await cell.server.recorded("closed", cell.message_id)
        cell.still_replayed()


async def close_1000(cell: Cell) -> None:
    await cell.victim.client.send_frame(close_payload(1000), CLOSE)
    if cell.point != "replay":  # the answer comes behind the backlog, later than the session is kept for
        assert await cell.victim.end() == 1000


async def fin(cell: Cell) -> None:
    assert cell.link
    cell.link.finish()


async def half_close(cell: Cell) -> None:
    assert cell.link
    cell.link.up.half_close()
    if cell.point != "replay":  # as above
        await cell.victim.end()


async def reset(cell: Cell) -> None:
    assert cell.link
    cell.link.reset()


async def vanish(cell: Cell) -> None:
    assert cell.link
    cell.link.vanish()


async def stop_reading(cell: Cell) -> None:
    assert cell.link
    cell.link.down.stall()


async def cut_in_a_frame(cell: Cell) -> None:
    assert cell.link
    cell.link.up.cut_after(5)
    with suppress(trio.BrokenResourceError):
        await cell.victim.client.send(type="ping")
    await cell.victim.end()


async def cancel(cell: Cell) -> None:
    await cell.victim.client.cancel(cell.message_id or None)
    await cell.victim.wait_for("cancel_result")


async def new_message(cell: Cell) -> None:
    cell.extra.append(await cell.victim.client.say())


async def same_id(cell: Cell) -> None:
    """The same message once more; where no turn runs, one that has been answered."""
    if cell.message_id:
        await cell.victim.client.say(cell.message_id, **turn_at(cell.point, None))
    else:
        cell.extra.append(await cell.victim.client.say())
        await cell.victim.ending(cell.extra[0])
        await cell.victim.client.say(cell.extra[0])
    again = cell.message_id or cell.extra[0]
    await cell.victim.wait_for("stream_status", phase="duplicate", message_id=again)
    await cell.server.recorded("opened", again)  # its thread may not have got that far when the turn was accepted
    assert len(cell.server.record("opened", again)) == 1


async def second_tab(cell: Cell) -> None:
    async with watching(cell.server, cell.session_id) as tab:
        if cell.message_id:
            await tab.ending(cell.message_id)
            one_ending(cell.message_id, tab)
        await tab.quiet()


async def crash(cell: Cell) -> None:
    await cell.victim.client.cancel("!crash")
    await cell.victim.quiet()
    assert cell.victim.closed is None


async def hostile_neighbour(cell: Cell) -> None:
    """Everything rude at once, on connections of its own."""
    upgrade = request(chat_path(fresh("hostile")))
    rudeness = (
        upgrade + b"x",
        upgrade + frame(b"x", masked=False),
        upgrade + frame(b"x" * 200_000),
        upgrade + frame(b"x", PING) * 300,
        upgrade + frame(b"", TEXT, final=False) + frame(b"", CONTINUATION, final=False) * 300,
        upgrade + frame(b"x", length=2**62),
        upgrade + b"".join(frame(text) for text in (b"null", b"[", b'{"type":5}', b'{"content":""}', b"\xff")),
        b"\0" * 3000,
    )
    for data in rudeness:
        async with open_wire(cell.server) as wire:
            await wire.shove(data)
            await trio.sleep(0.02)
            wire.reset()
