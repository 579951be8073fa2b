"""A message while something is unfinished: the four policies, row by row as the wire's table has them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from support.raw_client import Client, fresh, kinds, of, open_client, tokens
from support.server import EVERYWHERE, Server

FLAGS = ("--queue-size", "2")


@pytest.fixture(scope="module", params=EVERYWHERE)
def listener(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def busy(client: Client) -> str:
    """A running turn that would go on for ever."""
    message_id = await client.say(tokens=10_000, pace=0.01)
    await client.wait_for("stream_token", message_id)
    return message_id


async def queued(client: Client, **options: object) -> str:
    return await client.say(on_busy="enqueue", **options)


@pytest.mark.parametrize(("policy", "reason"), [("interrupt", "interrupted"), ("rollback", "retracted")])
async def test_the_running_turn_ends_and_this_message_runs_next(server: Server, policy: str, reason: str) -> None:
    async with open_client(server) as client:
        old = await busy(client)
        new = await client.say(on_busy=policy)
        frames = await client.turn(new)
    ends = [(body["message_id"], body["finish_reason"]) for body in frames if body["type"] == "stream_end"]
    assert ends == [(old, reason), (new, "stop")]


async def test_interrupt_is_the_default(server: Server) -> None:
    async with open_client(server) as client:
        old = await busy(client)
        await client.say()
        assert (await client.turn(old))[-1]["finish_reason"] == "interrupted"


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_last_token_then_its_end_then_the_new_start_and_never_a_token_of_the_old_after(
    server: Server, policy: str
) -> None:
    async with open_client(server) as client:
        old = await busy(client)
        new = await client.say(on_busy=policy, tokens=20, pace=0.01)
        frames = await client.turn(new)
        frames += await client.quiet()
    mine = of(frames, old)
    assert kinds(mine)[-1] == "stream_end"
    end = frames.index(mine[-1])
    assert frames[end + 1]["type"] == "stream_start"
    assert frames[end + 1]["message_id"] == new
    assert of(frames[end + 1 :], old) == []


async def test_the_old_end_counts_the_tokens_that_were_told(server: Server) -> None:
    async with open_client(server) as client:
        old = await client.say(tokens=10_000, pace=0.005)
        before = await client.until("stream_token", old)
        await client.say()
        frames = before + await client.turn(old)
    assert frames[-1]["total_tokens"] == len(tokens(frames, old))


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_the_queue_stays_and_this_message_is_ahead_of_it(server: Server, policy: str) -> None:
    async with open_client(server) as client:
        old = await busy(client)
        waiting = [await queued(client), await queued(client)]
        new = await client.say(on_busy=policy)
        frames = await client.turn(waiting[-1])
    starts = [body["message_id"] for body in frames if body["type"] == "stream_start"]
    assert starts == [new, *waiting]
    assert [body["message_id"] for body in frames if body["type"] == "stream_end"] == [old, new, *waiting]


async def test_enqueue_leaves_the_running_turn_and_goes_to_the_end(server: Server) -> None:
    async with open_client(server) as client:
        first = await client.say(tokens=30, pace=0.01)
        second, third = await queued(client), await queued(client)
        frames = await client.turn(third)
    ends = [(body["message_id"], body["finish_reason"]) for body in frames if body["type"] == "stream_end"]
    assert ends == [(first, "stop"), (second, "stop"), (third, "stop")]
    assert len(tokens(frames, first)) == 30


async def test_turns_never_overlap(server: Server) -> None:
    async with open_client(server) as client:
        for _ in range(3):
            last = await queued(client, tokens=5, pace=0.01)
        frames = await client.turn(last)
    runs = [body["message_id"] for body in frames]
    assert sum(a != b for a, b in pairwise(runs)) == 2


async def test_enqueue_on_a_full_queue_is_ws_003_and_harms_nothing(server: Server) -> None:
    async with open_client(server) as client:
        running = await busy(client)
        waiting = [await queued(client), await queued(client)]
        surplus = await queued(client)
        refusal = await client.wait_for("stream_error")
        await client.cancel(running)
        frames = await client.turn(waiting[-1])
    assert (refusal["error_code"], refusal["message_id"]) == ("WS-003", surplus)
    assert refusal["retry_after_ms"] > 0
    assert refusal["solutions"]
    assert [body["message_id"] for body in frames if body["type"] == "stream_start"] == waiting
    assert of(frames, surplus) == []


async def test_a_full_queue_does_not_keep_an_interrupt_out(server: Server) -> None:
    async with open_client(server) as client:
        await busy(client)
        waiting = [await queued(client), await queued(client)]
        new = await client.say()
        frames = await client.turn(waiting[-1])
    assert [body["message_id"] for body in frames if body["type"] == "stream_start"] == [new, *waiting]


async def test_reject_is_ws_003_while_a_turn_runs_and_the_turn_goes_on(server: Server) -> None:
    async with open_client(server) as client:
        running = await client.say(tokens=30, pace=0.01)
        await client.wait_for("stream_token")
        refused = await client.say(on_busy="reject")
        frames = await client.turn(running)
    errors = [(body["message_id"], body["error_code"]) for body in frames if body["type"] == "stream_error"]
    assert errors == [(refused, "WS-003")]
    assert kinds(of(frames, refused)) == ["stream_error"]
    assert frames[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("policy", ["interrupt", "enqueue", "reject", "rollback"])
async def test_every_policy_starts_at_once_when_nothing_is_unfinished(server: Server, policy: str) -> None:
    async with open_client(server) as client:
        await client.turn(await client.say())
        turn = await client.turn(await client.say(on_busy=policy))
    assert kinds(turn)[0] == "stream_start"
    assert turn[-1]["finish_reason"] == "stop"


async def test_a_turn_that_waits_for_the_old_upstream_counts_as_running(server: Server) -> None:
    async with open_client(server) as client:
        stubborn = await client.say(retrieval=30, on_cancel="stubborn", stubborn=1.0)
        await server.recorded("opened", stubborn)
        await client.wait_for("stream_start")
        waiting = await client.say()
        await client.wait_for("stream_start", waiting)
        refused = await client.say(on_busy="reject")
        assert (await client.wait_for("stream_error"))["message_id"] == refused
        third = await client.say()
        frames = await client.turn(third)
    assert frames[0]["message_id"] == waiting
    assert (frames[0]["finish_reason"], frames[0]["total_tokens"]) == ("interrupted", 0)
    assert server.record("opened", waiting) == []


async def test_a_turn_with_any_policy_can_be_interrupted_from_the_other_device(server: Server) -> None:
    async with open_client(server) as first, open_client(server, first.session_id) as second:
        old = await busy(first)
        new = await second.say()
        assert (await first.turn(old))[-1]["finish_reason"] == "interrupted"
        assert (await first.turn(new))[-1]["finish_reason"] == "stop"


async def test_the_service_is_told_how_each_turn_ended(server: Server) -> None:
    async with open_client(server) as client:
        interrupted = await busy(client)
        retracted = await busy(client)
        completed = await client.say(on_busy="rollback", tokens=2)
        await client.turn(completed)
    assert (await server.recorded("ended", interrupted))["ending"] == "interrupted"
    assert (await server.recorded("ended", retracted))["ending"] == "retracted"
    done = await server.recorded("ended", completed)
    assert (done["ending"], done["generated"], done["text"]) == ("completed", 2, "t0 t1 ")


async def test_the_hook_is_told_before_the_next_turn_runs(server: Server) -> None:
    async with open_client(server) as client:
        old = await busy(client)
        new = await client.say()
        await client.turn(new)
    assert (await server.recorded("ended", old))["at"] <= (await server.recorded("opened", new))["at"]


async def test_a_refused_id_may_be_tried_again(server: Server) -> None:
    async with open_client(server) as client:
        running = await busy(client)
        again = fresh("again")
        await client.say(again, on_busy="reject")
        assert (await client.wait_for("stream_error"))["message_id"] == again
        await client.cancel(running)
        await client.turn(running)
        await client.say(again, on_busy="reject")
        assert (await client.turn(again))[-1]["finish_reason"] == "stop"
