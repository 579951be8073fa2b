"""Cancel: obeyed in every phase, of every turn, by id or of all; and what an unknown id gets."""

from __future__ import annotations

import time

import pytest

from support.raw_client import kinds, of, open_client, tokens
from support.server import EVERYWHERE, Server

STOP_GRACE = 0.25


@pytest.fixture(scope="module", params=EVERYWHERE)
def listener(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"retrieval": 30}, "stream_start"),
        ({"first": 30}, "stream_sources"),
        ({"tokens": 10_000, "pace": 0.01}, "stream_token"),
    ],
    ids=["in retrieval", "before the first token", "in mid-answer"],
)
async def test_a_cancel_is_obeyed_at_once_and_the_upstream_closes(
    server: Server, options: dict[str, object], seen: str
) -> None:
    async with open_client(server) as client:
        message_id = await client.say(**options)
        frames = await client.until(seen)
        await server.recorded("opened", message_id)
        before = time.monotonic()
        await client.cancel(message_id)
        frames += await client.turn(message_id)
        told = time.monotonic() - before
        assert await client.quiet() == []
    assert frames[-1]["finish_reason"] == "cancelled"
    assert frames[-1]["total_tokens"] == len(tokens(frames))
    assert told < 0.15
    assert (await server.recorded("closed", message_id))["at"] - before < STOP_GRACE + 0.1


@pytest.mark.parametrize(
    "options",
    [{"on_cancel": "swallow"}, {"on_cancel": "stubborn", "stubborn": 1.0}, {"on_cancel": "error"}],
    ids=lambda options: options["on_cancel"],
)
async def test_a_cancel_is_obeyed_also_when_the_upstream_refuses_to_stop(
    server: Server, options: dict[str, object]
) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=10_000, pace=0.05, **options)
        await client.wait_for("stream_token")
        before = time.monotonic()
        await client.cancel(message_id)
        assert (await client.turn(message_id))[-1]["finish_reason"] == "cancelled"
        assert time.monotonic() - before < 0.15
        after = await client.turn(await client.say())
        assert time.monotonic() - before < STOP_GRACE + 0.5
        assert of(after, message_id) == []
        await server.recorded("closed", message_id)
        assert await client.quiet() == []


async def test_a_queued_turn_gets_one_ending_without_a_start(server: Server) -> None:
    async with open_client(server) as client:
        running = await client.say(tokens=10_000, pace=0.01)
        waiting = await client.say(on_busy="enqueue")
        await client.wait_for("stream_token")
        await client.cancel(waiting)
        frames = await client.turn(waiting)
        await client.cancel(running)
        frames += await client.turn(running)
    (end,) = of(frames, waiting)
    assert (end["type"], end["finish_reason"], end["total_tokens"]) == ("stream_end", "cancelled", 0)
    assert server.record("opened", waiting) == []


async def test_cancelling_the_running_turn_begins_the_next_of_the_queue(server: Server) -> None:
    async with open_client(server) as client:
        running = await client.say(tokens=10_000, pace=0.01)
        waiting = await client.say(on_busy="enqueue")
        await client.wait_for("stream_token")
        await client.cancel(running)
        frames = await client.turn(waiting)
    end = next(n for n, body in enumerate(frames) if body["type"] == "stream_end")
    assert (frames[end]["message_id"], frames[end]["finish_reason"]) == (running, "cancelled")
    assert (frames[end + 1]["type"], frames[end + 1]["message_id"]) == ("stream_start", waiting)
    assert frames[-1]["finish_reason"] == "stop"


async def test_without_an_id_everything_of_the_session_is_cancelled(server: Server) -> None:
    async with open_client(server) as client:
        running = await client.say(tokens=10_000, pace=0.01)
        waiting = [await client.say(on_busy="enqueue") for _ in range(2)]
        await client.wait_for("stream_token")
        await client.cancel()
        frames = await client.turn(waiting[-1])
        assert await client.quiet() == []
    ends = {body["message_id"]: body["finish_reason"] for body in frames if body["type"] == "stream_end"}
    assert ends == dict.fromkeys([running, *waiting], "cancelled")
    assert kinds(of(frames, waiting[0])) == ["stream_end"]


async def test_without_an_id_other_sessions_are_left_alone(server: Server) -> None:
    async with open_client(server) as bystander, open_client(server) as client:
        theirs = await bystander.say(tokens=20, pace=0.01)
        mine = await client.say(tokens=10_000, pace=0.01)
        await client.wait_for("stream_token")
        await client.cancel()
        await client.turn(mine)
        assert (await bystander.turn(theirs))[-1]["finish_reason"] == "stop"


async def test_an_unknown_or_ended_id_is_no_error(server: Server) -> None:
    async with open_client(server) as client:
        ended = await client.say()
        await client.turn(ended)
        await client.cancel("never-seen")
        await client.cancel(ended)
        await client.cancel()
        assert await client.quiet() == []


async def test_v1_is_told_what_became_of_a_cancel_after_the_turns_end(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say(tokens=10_000, pace=0.01)
        await client.wait_for("stream_token")
        await client.cancel(message_id)
        frames = await client.until("cancel_result")
    assert frames[-1] == {"type": "cancel_result", "message_id": message_id, "outcome": "cancelled"}
    assert "stream_end" in kinds(frames)


async def test_v1_is_told_that_a_turn_had_ended_already_or_is_unknown(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        ended = await client.say()
        await client.turn(ended)
        await client.cancel(ended)
        assert (await client.wait_for("cancel_result"))["outcome"] == "already_ended"
        await client.cancel("never-seen")
        result = await client.wait_for("cancel_result")
    assert result == {"type": "cancel_result", "message_id": "never-seen", "outcome": "unknown"}


async def test_v1_cancels_a_queued_turn_and_all_turns(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        running = await client.say(tokens=10_000, pace=0.01)
        waiting = [await client.say(on_busy="enqueue") for _ in range(2)]
        await client.cancel(waiting[0])
        frames = await client.until("cancel_result")
        assert [body["type"] for body in of(frames, waiting[0])][-2:] == ["stream_end", "cancel_result"]
        await client.cancel()
        frames = await client.until("cancel_result")
    ended = {body["message_id"] for body in frames if body["type"] == "stream_end"}
    assert ended == {running, waiting[1]}


async def test_a_cancel_twice_ends_the_turn_once(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=10_000, pace=0.01)
        await client.wait_for("stream_token")
        await client.cancel(message_id)
        await client.cancel(message_id)
        await client.turn(message_id)
        assert await client.quiet() == []


async def test_a_cancel_right_behind_its_message_ends_it_once(server: Server) -> None:
    async with open_client(server) as client:
        for _ in range(10):
            message_id = await client.say(tokens=10_000, pace=0.01)
            await client.cancel(message_id)
            frames = await client.turn(message_id)
            assert kinds(frames)[0] == "stream_start"
            assert frames[-1]["finish_reason"] == "cancelled"
        assert await client.quiet() == []


async def test_the_service_hears_of_the_cancel_and_of_what_was_sent(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=10_000, pace=0.02)
        frames = await client.until("stream_token")
        await client.cancel(message_id)
        frames += await client.turn(message_id)
    told = await server.recorded("ended", message_id)
    assert told["ending"] == "cancelled"
    assert told["text"] == "".join(tokens(frames))
