"""Services that raise, report errors, stop early, yield junk, block, refuse to stop: nobody else is harmed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.raw_client import Client, kinds, of, open_client, tokens
from support.server import Server

STOP_GRACE = 0.25
FLAGS = ("--max-answer-bytes", "2000")


async def is_well(server: Server, client: Client) -> None:
    """This session and a new one do their work."""
    assert (await client.turn(await client.say()))[-1]["finish_reason"] == "stop"
    async with open_client(server) as other:
        assert (await other.turn(await other.say()))[-1]["finish_reason"] == "stop"


async def failing(server: Server, **options: Any) -> list[dict[str, Any]]:
    """A turn with a fault, while a bystander's turn streams; returns the turn."""
    async with open_client(server) as bystander, open_client(server) as client:
        theirs = await bystander.say(tokens=10, pace=0.006)
        await bystander.wait_for("stream_start")
        message_id = await client.say(**options)
        turn = await client.turn(message_id)
        assert await client.quiet() == []
        await is_well(server, client)
        assert (await bystander.turn(theirs))[-1]["total_tokens"] == 10
        await server.recorded("closed", message_id)
    return turn


@pytest.mark.parametrize("error", ["ValueError", "Exception", "StopIteration", "StopAsyncIteration", "MemoryError"])
@pytest.mark.parametrize("place", ["0", "2"])
async def test_a_pipeline_that_raises_is_rag_001(server: Server, error: str, place: str) -> None:
    turn = await failing(server, at={place: ["raise", error]})
    assert turn[-1]["error_code"] == "RAG-001"
    assert len(tokens(turn)) == int(place)
    assert turn[-1]["solutions"]
    assert "as told" not in turn[-1]["message"]


async def test_a_pipelines_error_with_a_code_is_passed_on_verbatim(server: Server) -> None:
    told = {"error_code": "GEN-042", "message": '모델이 없습니다 "x"', "solutions": ["one", "둘"]}
    turn = await failing(server, at={"2": ["yield", {"event": "error", **told}]})
    assert {key: turn[-1][key] for key in told} == told
    assert len(tokens(turn)) == 2


async def test_a_pipelines_error_may_be_nested_in_data(server: Server) -> None:
    told = {"error_code": "GEN-042", "message": "no model", "solutions": ["one"]}
    turn = await failing(server, at={"0": ["yield", {"event": "error", "data": told}]})
    assert {key: turn[-1][key] for key in told} == told


async def test_a_pipelines_error_without_a_code_is_stream_001(server: Server) -> None:
    turn = await failing(server, at={"1": ["yield", {"event": "error"}]})
    assert turn[-1]["error_code"] == "STREAM-001"
    assert turn[-1]["message"]
    assert turn[-1]["solutions"]


async def test_nothing_that_comes_after_an_error_event_is_told(server: Server) -> None:
    turn = await failing(server, tokens=5, at={"2": ["yield", {"event": "error", "error_code": "X-1"}]})
    assert kinds(turn)[-1] == "stream_error"
    assert len(tokens(turn)) == 2


@pytest.mark.parametrize("place", ["0", "2"])
async def test_ending_without_done_counts_as_done(server: Server, place: str) -> None:
    turn = await failing(server, at={place: ["end", None]})
    assert (turn[-1]["finish_reason"], turn[-1]["total_tokens"]) == ("stop", int(place))
    assert kinds(turn).count("stream_sources") == 1


async def test_what_comes_after_done_is_not_told(server: Server) -> None:
    turn = await failing(server, tokens=3, at={"1": ["yield", {"event": "done", "data": {}}]})
    assert (turn[-1]["finish_reason"], turn[-1]["total_tokens"]) == ("stop", 1)


JUNK = [None, 1, [], ["chunk"], {}, {"data": "x"}, {"event": None}, {"event": 5}, {"event": "chunk", "data": 5}]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
async def test_junk_fails_the_turn_and_nothing_else(server: Server, junk: object) -> None:
    turn = await failing(server, at={"2": ["yield", junk]})
    assert turn[-1]["error_code"] == "RAG-001"
    assert len(tokens(turn)) == 2


HARMLESS = [
    "a bare text",
    {"event": "chunk", "data": {"content": "nested"}},
    {"event": "chunk", "content": "flat"},
    {"event": "metadata"},
    {"event": "metadata", "data": None},
    {"event": "metadata", "sources": "none"},
    {"event": "metadata", "data": {"sources": [None, 1, "x", {}]}},
    {"event": "metadata", "data": {"session_id": 5}},
    {"event": "metadata", "data": {"session_id": "x" * 1000}},
    {"event": "no such event", "data": [1, 2]},
]


@pytest.mark.parametrize("item", HARMLESS, ids=repr)
async def test_odd_but_readable_items_do_not_fail_the_turn(server: Server, item: object) -> None:
    turn = await failing(server, metadata=None, at={"1": ["yield", item]})
    assert turn[-1]["finish_reason"] == "stop"


async def test_a_lone_surrogate_reaches_clients_as_valid_utf_8(server: Server) -> None:
    turn = await failing(server, tokens=1, at={"0": ["surrogate", None]})
    assert (turn[-1]["finish_reason"], turn[-1]["total_tokens"]) == ("stop", 2)


async def test_a_pipeline_that_blocks_its_thread_stops_nobody_else_from_being_heard(server: Server) -> None:
    async with open_client(server) as client, open_client(server) as other:
        blocking = await client.say(at={"1": ["block", 1.2]})
        await client.wait_for("stream_token")
        for _ in range(5):
            before = time.monotonic()
            await other.quiet()
            assert time.monotonic() - before < 0.2
        before = time.monotonic()
        mine = await other.say()
        await other.wait_for("stream_start", mine)
        assert time.monotonic() - before < 0.2
        assert (await other.turn(mine))[-1]["finish_reason"] == "stop"
        assert (await client.turn(blocking))[-1]["finish_reason"] == "stop"


async def test_a_pipeline_that_blocks_its_thread_is_cancelled_at_once(server: Server) -> None:
    async with open_client(server) as client:
        blocking = await client.say(at={"1": ["block", 0.8]})
        await client.wait_for("stream_token")
        before = time.monotonic()
        await client.cancel(blocking)
        assert (await client.turn(blocking))[-1]["finish_reason"] == "cancelled"
        assert time.monotonic() - before < 0.2
        after = await client.turn(await client.say())
        assert after[-1]["finish_reason"] == "stop"
        assert of(after, blocking) == []


@pytest.mark.parametrize(
    "options",
    [{"on_cancel": "swallow"}, {"on_cancel": "stubborn", "stubborn": 0.8}, {"on_cancel": "error"}],
    ids=lambda options: options["on_cancel"],
)
@pytest.mark.parametrize("phase", ["retrieval", "pace"])
async def test_an_interrupt_is_obeyed_whatever_the_upstream_answers(
    server: Server, options: dict[str, Any], phase: str
) -> None:
    async with open_client(server) as bystander, open_client(server) as client:
        theirs = await bystander.say(tokens=30, pace=0.01)
        old = await client.say(tokens=1000, **{"pace": 0.05, phase: 0.05 if phase == "pace" else 1.0}, **options)
        await client.wait_for("stream_token" if phase == "pace" else "stream_start")
        await server.recorded("opened", old)
        before = time.monotonic()
        new = await client.say(tokens=30, pace=0.01)
        frames = await client.until("stream_start", new)
        assert time.monotonic() - before < 0.15
        frames += await client.turn(new)
        assert time.monotonic() - before < STOP_GRACE + 2.0
        frames += await client.quiet()
        await server.recorded("closed", old)
        assert await client.quiet() == []
        assert (await bystander.turn(theirs))[-1]["total_tokens"] == 30
    end = next(n for n, body in enumerate(frames) if body["type"] == "stream_end")
    assert (frames[end]["message_id"], frames[end]["finish_reason"]) == (old, "interrupted")
    assert (frames[end + 1]["type"], frames[end + 1]["message_id"]) == ("stream_start", new)
    assert of(frames[end + 1 :], old) == []
    assert kinds(frames).count("stream_error") == 0


async def test_interrupting_again_and_again_leaves_one_ending_each(server: Server) -> None:
    async with open_client(server) as client:
        ids = [await client.say(retrieval=0.05, tokens=1000, pace=0.01, on_cancel="swallow") for _ in range(20)]
        ids.append(await client.say())
        frames = await client.turn(ids[-1])
        frames += await client.quiet()
    ends = [(body["message_id"], body["finish_reason"]) for body in frames if body["type"] == "stream_end"]
    assert ends == [*((message_id, "interrupted") for message_id in ids[:-1]), (ids[-1], "stop")]
    assert [body["message_id"] for body in frames if body["type"] == "stream_start"] == ids


@pytest.mark.parametrize("hook", ["raise", 0.3])
async def test_a_bad_ended_hook_harms_nobody(server: Server, hook: object) -> None:
    turn = await failing(server, hook=hook)
    assert turn[-1]["finish_reason"] == "stop"


async def test_an_answer_past_its_size_ends_with_length(server: Server) -> None:
    turn = await failing(server, texts=["가" * 100] * 50)
    assert turn[-1]["finish_reason"] == "length"
    assert sum(len(token.encode()) for token in tokens(turn)) <= 2000
    assert turn[-1]["total_tokens"] == len(tokens(turn)) == 6


async def test_two_devices_see_the_same_failure(server: Server) -> None:
    async with open_client(server) as first, open_client(server, first.session_id) as second:
        message_id = await first.say(at={"1": ["raise", "ValueError"]})
        assert await first.turn(message_id) == await second.turn(message_id)


async def test_a_failed_turn_lets_the_queue_go_on(server: Server) -> None:
    async with open_client(server) as client:
        await client.say(pace=0.05, at={"2": ["raise", "ValueError"]})
        waiting = await client.say(on_busy="enqueue")
        assert (await client.turn(waiting))[-1]["finish_reason"] == "stop"
