"""Several connections on one session: one transcript, either may steer, and the sessions of others are not theirs."""

from __future__ import annotations

from typing import Any

import trio

from support.raw_client import Client, kinds, open_client
from support.server import Server


async def gather(clients: list[Client], kind: str, message_id: str) -> list[list[dict[str, Any]]]:
    """Each client's frames up to that one, read at the same time."""
    found: list[list[dict[str, Any]]] = [[] for _ in clients]

    async def read(place: int) -> None:
        found[place] = await clients[place].until(kind, message_id)

    async with trio.open_nursery() as nursery:
        for place in range(len(clients)):
            nursery.start_soon(read, place)
    return found


async def test_two_devices_have_identical_transcripts(server: Server) -> None:
    async with open_client(server, v1=True) as first, open_client(server, first.session_id, v1=True) as second:
        await first.say(tokens=50, pace=0.005)
        await second.say(on_busy="enqueue", tokens=5)
        await first.wait_for("stream_token")
        last = await second.say(tokens=5)
        await gather([first, second], "stream_receipt", last)
        assert transcript(first) == transcript(second)
        assert transcript(first)


def transcript(client: Client) -> list[str]:
    """Every entry that came, byte for byte, in order."""
    return [text for text in client.texts if '"offset":' in text]


async def test_two_seed_devices_have_identical_transcripts(server: Server) -> None:
    async with open_client(server) as first, open_client(server, first.session_id) as second:
        await first.say(tokens=1000, pace=0.005)
        await second.wait_for("stream_token")
        last = await second.say()
        await gather([first, second], "stream_end", last)
        assert first.texts == second.texts


async def test_a_message_of_one_is_seen_by_all_with_its_question(server: Server) -> None:
    async with open_client(server, v1=True) as first, open_client(server, first.session_id, v1=True) as second:
        message_id = await first.say()
        question = await second.wait_for("user_message")
        await second.turn(message_id)
    assert question["content"] == message_id


async def test_either_device_may_cancel(server: Server) -> None:
    async with open_client(server) as first, open_client(server, first.session_id) as second:
        message_id = await first.say(tokens=10_000, pace=0.01)
        await second.wait_for("stream_token")
        await second.cancel(message_id)
        assert (await first.turn(message_id))[-1]["finish_reason"] == "cancelled"
        assert (await second.turn(message_id))[-1]["finish_reason"] == "cancelled"


async def test_replies_are_for_the_asker_alone(server: Server) -> None:
    async with open_client(server, v1=True) as first, open_client(server, first.session_id, v1=True) as second:
        await first.wait_for("presence")
        await second.cancel("never-seen")
        await second.send(type="nonsense")
        await second.say(on_busy="reject", tokens=1)
        await second.wait_for("stream_receipt")
        seen = await first.until("stream_receipt")
        assert await first.quiet() == []
    assert {"cancel_result", "stream_error", "pong"} & set(kinds(seen)) == set()


async def test_a_second_device_in_mid_turn_gets_the_turn_from_its_start(server: Server) -> None:
    async with open_client(server) as first:
        message_id = await first.say(tokens=60, pace=0.01)
        for _ in range(10):
            await first.wait_for("stream_token")
        async with open_client(server, first.session_id) as second:
            await gather([first, second], "stream_end", message_id)
            assert second.texts == first.texts


async def test_a_second_v1_device_in_mid_turn_gets_the_turn_from_its_start(server: Server) -> None:
    async with open_client(server) as first:
        message_id = await first.say(tokens=60, pace=0.01)
        await first.wait_for("stream_token")
        async with open_client(server, first.session_id, v1=True) as second:
            frames = await second.until("stream_end")
    assert (second.ready["resumed"], second.ready["running"]) == ("attached", message_id)
    mine = [body for body in frames if "offset" in body]
    assert mine[0]["type"] == "stream_start"
    assert [body["index"] for body in mine if body["type"] == "stream_token"] == list(range(60))


async def test_a_device_that_comes_between_turns_gets_nothing_old(server: Server) -> None:
    async with open_client(server) as first:
        await first.turn(await first.say())
        async with open_client(server, first.session_id) as second:
            assert await second.quiet() == []


async def test_sessions_do_not_meet(server: Server) -> None:
    async with open_client(server) as first, open_client(server) as second:
        await first.turn(await first.say())
        assert await second.quiet() == []


async def test_presence_is_told_to_the_others(server: Server) -> None:
    async with open_client(server, v1=True) as first:
        assert first.ready["connections"] == 1
        async with open_client(server, first.session_id, v1=True) as second:
            assert second.ready["connections"] == 2
            assert await first.next() == {"type": "presence", "connections": 2}
        assert await first.next() == {"type": "presence", "connections": 1}


async def test_typing_is_relayed_to_the_other_v1_connections_only(server: Server) -> None:
    async with (
        open_client(server, v1=True) as origin,
        open_client(server, origin.session_id, v1=True) as other,
        open_client(server, origin.session_id) as plain,
    ):
        await origin.send(type="typing", active=True)
        frames = await other.until("typing")
        await origin.send(type="typing", active=False)
        frames += await other.until("typing")
        assert [body["active"] for body in frames if body["type"] == "typing"] == [True, False]
        assert "typing" not in kinds(await origin.quiet())
        assert await plain.quiet() == []


async def test_typing_is_never_logged(server: Server) -> None:
    async with open_client(server, v1=True) as first:
        await first.send(type="typing", active=True)
        await first.quiet()
        async with open_client(server, first.session_id, v1=True, query={"after": first.ready["position"]}) as second:
            assert await second.quiet() == []
            assert second.ready["resumed"] == "replayed"


async def test_a_lost_device_hurts_no_other(server: Server) -> None:
    async with open_client(server) as first, open_client(server, first.session_id) as second:
        message_id = await first.say(tokens=50, pace=0.01)
        await second.wait_for("stream_token")
        await second.vanish("reset")
        turn = await first.turn(message_id)
    assert turn[-1]["total_tokens"] == 50


async def test_one_of_two_may_leave_on_purpose_and_the_turn_goes_on(server: Server) -> None:
    async with open_client(server) as first, open_client(server, first.session_id) as second:
        message_id = await second.say(tokens=50, pace=0.01)
        await second.wait_for("stream_token")
        await second.close(1000)
        assert (await first.turn(message_id))[-1]["finish_reason"] == "stop"
