"""Positions that are good no more: told as `gap`, with the running turn from its start; never a silent hole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.raw_client import fresh, open_client, tokens
from support.server import Server, running

FLAGS = ("--log-bytes", "20000")


def offsets(frames: list[dict[str, Any]]) -> list[int]:
    return [body["offset"] for body in frames if "offset" in body]


def place(position: str) -> int:
    return int(position.split(":")[1])


@pytest.mark.parametrize("busy", [True, False], ids=["a turn runs", "nothing runs"])
async def test_the_server_was_restarted_in_between(listener: str, tmp_path: Path, busy: bool) -> None:
    session_id = fresh("s")
    with running(tmp_path, listener) as former:
        async with open_client(former, session_id, v1=True) as client:
            await client.say(tokens=30, pace=0.01)
            seen = [body for body in await client.until("stream_token") if "offset" in body]
            await client.vanish("reset")
    position = f"{client.ready['position'].split(':')[0]}:{seen[-1]['offset']}"
    with running(tmp_path, listener) as later:
        async with open_client(later, session_id) as other:
            if busy:
                message_id = await other.say(tokens=80, pace=0.01)
                for _ in range(20):  # past the old position's offset
                    await other.wait_for("stream_token")
            async with open_client(later, session_id, v1=True, query={"after": position}) as back:
                assert back.ready["resumed"] == "gap"
                assert int(back.ready["position"].split(":")[0]) > int(position.split(":")[0])
                if busy:
                    frames = await back.turn(message_id)
                    assert back.ready["running"] == message_id
                    first = next(body for body in frames if "offset" in body)
                    assert (first["type"], first["offset"]) == ("stream_start", place(back.ready["position"]) + 1)
                    assert tokens(frames) == [f"t{n} " for n in range(80)]
                else:
                    assert await back.quiet() == []


async def test_a_trimmed_position_is_a_gap_and_the_running_turn_comes_whole(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        positions = [client.ready["position"]]
        for _ in range(6):
            receipt = (await client.until("stream_receipt", await client.say(done={"usage": "x" * 5_000})))[-1]
            positions.append(f"{positions[0].split(':')[0]}:{receipt['offset']}")
        running_id = await client.say(tokens=100, pace=0.01)
        await client.wait_for("stream_token")
        told = []
        for position in positions:
            async with open_client(server, client.session_id, v1=True, query={"after": position}) as back:
                told.append(back.ready["resumed"])
                frames = await back.until("stream_token", running_id)
            start = place(back.ready["position"])
            assert offsets(frames) == list(range(start + 1, start + 1 + len(offsets(frames))))
            begin = next(body for body in frames if body["type"] == "stream_start" and body["message_id"] == running_id)
            if told[-1] == "gap":
                assert begin["offset"] == start + 1
            else:
                assert back.ready["position"] == position
        await client.cancel()
    assert told == sorted(told)  # "gap" for all that is trimmed, then "replayed"
    assert {*told} == {"gap", "replayed"}


async def test_no_position_that_ever_was_brings_a_silent_hole(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        for _ in range(5):
            await client.until("stream_receipt", await client.say(tokens=4, done={"usage": "x" * 5_000}))
        end = int(client.texts[-1].rpartition('"offset":')[2].rstrip("}"))
        for offset in range(end + 1):
            after = f"{client.ready['position'].split(':')[0]}:{offset}"
            async with open_client(server, client.session_id, v1=True, query={"after": after}, leave=1001) as back:
                brought = offsets(await back.quiet())
            if back.ready["resumed"] == "replayed":
                assert brought == list(range(offset + 1, end + 1))
            else:
                assert (back.ready["resumed"], place(back.ready["position"]), brought) == ("gap", end, [])
