"""Heartbeats: a peer is asked whether it is there; one that is silent is lost, one that only answers stays."""

from __future__ import annotations

import trio

from support.raw_client import PING, frame, open_client
from support.server import Server

HEARTBEAT = 0.5
FLAGS = ("--heartbeat", str(HEARTBEAT))


async def test_a_peer_that_answers_pings_stays(server: Server) -> None:
    async with open_client(server) as client:
        with trio.move_on_after(4 * HEARTBEAT):
            await client.receive()  # answers pings meanwhile
        await client.say()
        await client.until("stream_end")


async def test_a_silent_peer_is_lost_within_two_heartbeats(server: Server) -> None:
    async with open_client(server) as client:
        began, pings = trio.current_time(), 0
        with trio.fail_after(2 * HEARTBEAT + 1):
            while data := await client.wire.stream.receive_some(4096):
                pings += data.count(frame(b"", PING, masked=False))
        assert trio.current_time() - began > 1.5 * HEARTBEAT
        assert pings >= 1
        client.gone = True
