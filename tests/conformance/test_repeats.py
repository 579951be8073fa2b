"""The same message id again never generates twice, whenever and from wherever it comes."""

from __future__ import annotations

from support.raw_client import Client, fresh, is_end, kinds, of, open_client, tokens
from support.server import Server

DUPLICATE = "duplicate"


async def repeat(client: Client, message_id: str, content: str | None = None) -> None:
    await client.send(
        type="message", message_id=message_id, content=content or message_id, session_id=client.session_id
    )


def generated_once(server: Server, message_id: str) -> bool:
    return len(server.record("opened", message_id)) == 1


async def test_while_it_runs_nothing_more_comes_of_it(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=40, pace=0.01)
        frames = await client.until("stream_token")
        await repeat(client, message_id)
        frames += await client.turn(message_id)
        frames += await client.quiet()
    assert kinds(frames).count("stream_start") == 1
    assert len(tokens(frames)) == 40
    assert sum(map(is_end, frames)) == 1
    assert generated_once(server, message_id)


async def test_while_it_is_queued_nothing_more_comes_of_it(server: Server) -> None:
    async with open_client(server) as client:
        await client.say(tokens=20, pace=0.01)
        message_id = await client.say(on_busy="enqueue")
        await repeat(client, message_id)
        frames = await client.turn(message_id)
        frames += await client.quiet()
    assert kinds(of(frames, message_id)).count("stream_start") == 1
    assert sum(map(is_end, of(frames, message_id))) == 1
    assert generated_once(server, message_id)


async def test_after_its_end_who_was_there_gets_nothing(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say()
        await client.turn(message_id)
        await repeat(client, message_id)
        assert await client.quiet() == []
    assert generated_once(server, message_id)


async def test_v1_is_told_that_it_is_a_duplicate(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say()
        await client.until("stream_receipt", message_id)
        await repeat(client, message_id)
        (told,) = await client.quiet()
    assert told == {"type": "stream_status", "message_id": message_id, "phase": DUPLICATE}


async def test_who_attached_after_the_turn_is_sent_its_events(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=5, done={"usage": 1})
        await client.turn(message_id)
        async with open_client(server, client.session_id) as again:
            await repeat(again, message_id)
            await again.turn(message_id)
            assert again.texts == client.texts
            assert await again.quiet() == []
        assert await client.quiet() == []
    assert generated_once(server, message_id)


async def test_who_left_and_returned_is_sent_its_events(server: Server) -> None:
    async with open_client(server, leave=1001) as client:
        message_id = await client.say()
        before = await client.turn(message_id)
    async with open_client(server, client.session_id) as again:
        await repeat(again, message_id)
        assert await again.turn(message_id) == before
        assert await again.quiet() == []
    assert generated_once(server, message_id)


async def test_v1_gets_the_past_turn_as_replies_without_an_offset(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say()
        await client.until("stream_receipt", message_id)
        async with open_client(server, client.session_id, v1=True) as again:
            await repeat(again, message_id)
            frames = await again.turn(message_id)
    assert frames[0] == {"type": "stream_status", "message_id": message_id, "phase": DUPLICATE}
    assert all("offset" not in body for body in frames)
    assert [kind for kind in kinds(frames) if kind != "stream_status" and kind != "user_message"] == [
        "stream_start",
        "stream_sources",
        *["stream_token"] * 3,
        "stream_end",
    ]


async def test_a_past_turn_is_sent_after_the_running_one(server: Server) -> None:
    async with open_client(server) as client:
        past = await client.say()
        await client.turn(past)
        async with open_client(server, client.session_id) as again:
            running = await client.say(tokens=40, pace=0.01)
            await again.wait_for("stream_token", running)
            await repeat(again, past)
            frames = await again.turn(past)
    order = [body["message_id"] for body in frames]
    assert order == [running] * order.count(running) + [past] * order.count(past)
    assert kinds(of(frames, past))[0] == "stream_start"


async def test_a_repeat_does_not_interrupt(server: Server) -> None:
    async with open_client(server) as client:
        past = await client.say()
        await client.turn(past)
        running = await client.say(tokens=40, pace=0.01)
        await client.wait_for("stream_token", running)
        await repeat(client, past)
        assert (await client.turn(running))[-1]["finish_reason"] == "stop"


async def test_a_returning_client_that_repeats_the_running_message_gets_it_once(server: Server) -> None:
    async with open_client(server, leave=1001) as client:
        message_id = await client.say(tokens=60, pace=0.01)
        await client.wait_for("stream_token")
    async with open_client(server, client.session_id) as again:
        await repeat(again, message_id)
        frames = await again.turn(message_id)
        frames += await again.quiet()
    assert kinds(frames).count("stream_start") == 1
    assert len(tokens(frames)) == 60
    assert generated_once(server, message_id)


async def test_who_resumes_with_after_is_not_sent_twice_what_the_log_brings(server: Server) -> None:
    async with open_client(server, v1=True, leave=1001) as client:
        message_id = await client.say()
        await client.until("stream_receipt", message_id)
    async with open_client(server, client.session_id, v1=True, query={"after": client.ready["position"]}) as again:
        await repeat(again, message_id)
        frames = await again.quiet()
    assert kinds(frames).count("stream_start") == 1
    assert kinds(frames).count("stream_end") == 1


async def test_a_message_that_was_sent_and_never_answered_is_found_after_a_reload(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=3)
        await client.vanish("reset")
    done = await server.recorded("ended", message_id)
    assert done["ending"] == "completed"
    async with open_client(server, client.session_id) as again:
        await repeat(again, message_id)
        assert (await again.turn(message_id))[-1]["total_tokens"] == 3
    assert generated_once(server, message_id)


async def test_with_other_content_it_is_ws_001_and_names_the_field(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say()
        await client.turn(message_id)
        await repeat(client, message_id, "something else")
        (refusal,) = await client.quiet()
    assert (refusal["error_code"], refusal["message_id"]) == ("WS-001", message_id)
    assert "message_id" in refusal["message"]


async def test_with_other_content_the_running_turn_goes_on(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=40, pace=0.01)
        await client.wait_for("stream_token")
        await repeat(client, message_id, "something else")
        assert (await client.wait_for("stream_error"))["error_code"] == "WS-001"
        assert (await client.turn(message_id))[-1]["finish_reason"] == "stop"


async def test_a_failed_turn_is_remembered(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(at={"1": ["raise", "ValueError"]})
        await client.turn(message_id)
        async with open_client(server, client.session_id) as again:
            await repeat(again, message_id)
            turn = await again.turn(message_id)
    assert kinds(turn) == ["stream_start", "stream_sources", "stream_token", "stream_error"]
    assert turn[-1]["error_code"] == "RAG-001"
    assert generated_once(server, message_id)


async def test_a_cancelled_queued_turn_is_remembered(server: Server) -> None:
    async with open_client(server) as client:
        running = await client.say(tokens=10_000, pace=0.01)
        message_id = await client.say(on_busy="enqueue")
        await client.cancel(message_id)
        await client.turn(message_id)
        await client.cancel()
        await client.turn(running)
        async with open_client(server, client.session_id) as again:
            await repeat(again, message_id)
            (end,) = [body for body in await again.quiet() if body["message_id"] == message_id]
    assert end["finish_reason"] == "cancelled"
    assert server.record("opened", message_id) == []


async def test_the_same_id_in_another_session_is_another_message(server: Server) -> None:
    message_id = fresh("m")
    async with open_client(server) as first, open_client(server) as second:
        await first.say(message_id)
        await second.say(message_id)
        assert (await first.turn(message_id))[-1]["finish_reason"] == "stop"
        assert (await second.turn(message_id))[-1]["finish_reason"] == "stop"
    assert len(server.record("opened", message_id)) == 2
