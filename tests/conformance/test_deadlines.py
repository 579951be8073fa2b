"""A pipeline that is too slow: for its first token, between two, in all; and what was sent stays valid."""

from __future__ import annotations

import time

import pytest

from support.raw_client import kinds, of, open_client, tokens
from support.server import Server

FIRST, NEXT, WHOLE = 0.5, 0.3, 1.0
LATE = 1.0
"""How late a busy machine may be. Which of the deadlines it was, the code says."""
FLAGS = (
    *("--first-token-timeout", str(FIRST)),
    *("--token-timeout", str(NEXT)),
    *("--turn-timeout", str(WHOLE)),
)

TOO_SLOW = [
    ({"retrieval": 30}, "RAG-002", FIRST, 0),
    ({"first": 30}, "RAG-002", FIRST, 0),
    ({"at": {"2": ["sleep", 30]}}, "RAG-003", NEXT, 2),
    ({"tokens": 10_000, "pace": 0.05}, "RAG-004", WHOLE, None),
]


@pytest.mark.parametrize(("options", "code", "seconds", "count"), TOO_SLOW, ids=["retrieval", "first", "next", "whole"])
async def test_a_deadline_ends_the_turn_with_its_code_and_closes_the_upstream(
    server: Server, options: dict[str, object], code: str, seconds: float, count: int | None
) -> None:
    async with open_client(server) as client:
        before = time.monotonic()
        message_id = await client.say(**options)
        turn = await client.turn(message_id)
        took = time.monotonic() - before
        assert await client.quiet() == []
    assert (turn[-1]["type"], turn[-1]["error_code"]) == ("stream_error", code)
    assert seconds - 0.02 < took < seconds + LATE
    assert len(tokens(turn)) == (count if count is not None else len(tokens(turn)))
    assert turn[-1]["solutions"]
    assert (await server.recorded("closed", message_id))["at"] - before < took + LATE


async def test_a_deadline_ends_the_turn_also_when_the_upstream_refuses_to_stop(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(retrieval=30, on_cancel="stubborn", stubborn=0.7)
        assert (await client.turn(message_id))[-1]["error_code"] == "RAG-002"
        after = await client.turn(await client.say())
        await server.recorded("closed", message_id)
        assert await client.quiet() == []
    assert after[-1]["finish_reason"] == "stop"
    assert of(after, message_id) == []


async def test_after_a_deadline_the_queue_goes_on(server: Server) -> None:
    async with open_client(server) as client:
        await client.say(retrieval=30)
        waiting = await client.say(on_busy="enqueue")
        assert (await client.turn(waiting))[-1]["finish_reason"] == "stop"


async def test_a_slow_but_steady_answer_is_not_stopped(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(tokens=5, pace=0.15))
    assert (turn[-1]["finish_reason"], turn[-1]["total_tokens"]) == ("stop", 5)


async def test_the_first_tokens_deadline_is_not_extended_by_metadata(server: Server) -> None:
    async with open_client(server) as client:
        before = time.monotonic()
        turn = await client.turn(await client.say(retrieval=FIRST * 0.6, first=FIRST * 0.8))
    assert turn[-1]["error_code"] == "RAG-002"
    assert kinds(turn) == ["stream_start", "stream_sources", "stream_error"]
    assert time.monotonic() - before < FIRST + LATE


async def test_time_in_the_queue_is_not_counted(server: Server) -> None:
    async with open_client(server) as client:
        for _ in range(3):
            last = await client.say(on_busy="enqueue", tokens=4, pace=0.11)
        assert (await client.turn(last))[-1]["finish_reason"] == "stop"
