"""`trialogue.v1`: the first frame, positions, status, receipts, and resuming from a position without a hole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.raw_client import fresh, kinds, of, open_client, tokens
from support.server import EVERYWHERE, Server
from support.services import SOURCE

FLAGS = ("--queue-size", "5", "--heartbeat", "7")

READY = ["type", "session_id", "position", "resumed", "running", "queued", "connections", "limits", "heartbeat_s"]
ENTRIES = {"user_message", "stream_start", "stream_sources", "stream_token", "stream_end", "stream_receipt"}


@pytest.fixture(scope="module", params=EVERYWHERE)
def listener(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def split(position: str) -> tuple[int, int]:
    epoch, offset = position.split(":")
    return int(epoch), int(offset)


async def test_the_first_frame_is_session_ready_with_all_its_fields(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        ready = client.ready
    assert list(ready) == READY
    assert ready["type"] == "session_ready"
    assert ready["session_id"] == client.session_id
    assert (ready["resumed"], ready["running"], ready["queued"], ready["connections"]) == ("new", None, [], 1)
    assert ready["heartbeat_s"] == 7
    assert ready["limits"]["queue"] == 5
    assert split(ready["position"])[1] == 0


async def test_a_turn_is_told_with_its_question_its_phases_and_its_receipt(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say(pace=0.01)
        frames = await client.until("stream_receipt")
    told = [body.get("phase", body["type"]) for body in frames]
    assert told == [
        "user_message",
        "stream_start",
        "retrieving",
        "stream_sources",
        "generating",
        *["stream_token"] * 3,
        "stream_end",
        "stream_receipt",
    ]
    assert frames[0]["content"] == message_id
    assert frames[0]["on_busy"] == "interrupt"
    assert all(body["message_id"] == message_id for body in frames)


async def test_every_entry_has_an_offset_and_they_are_contiguous_from_just_behind_the_position(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await client.say(tokens=20, pace=0.002)
        await client.say(on_busy="enqueue")
        last = await client.say(on_busy="enqueue", at={"1": ["raise", "ValueError"]})
        frames = await client.until("stream_receipt", last)
        start = split(client.ready["position"])[1]
    assert [body["offset"] for body in frames] == list(range(start + 1, start + 1 + len(frames)))


async def test_frames_are_compact_json_with_type_first(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await client.say(texts=["안녕", '"\\'])
        await client.until("stream_receipt")
    for text in client.texts:
        body = json.loads(text)
        assert text == json.dumps(body, separators=(",", ":"), ensure_ascii=False)
        assert next(iter(body)) == "type"


async def test_further_keys_stand_behind_the_five_events_own(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say(done={"usage": 3})
        v1 = {body["type"]: list(body) for body in await client.turn(message_id)}
        async with open_client(server) as plain:
            seed = {body["type"]: list(body) for body in await plain.turn(await plain.say(done={"usage": 3}))}
    for kind, keys in seed.items():
        assert v1[kind][: len(keys)] == keys


async def test_the_end_carries_what_done_told(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        turn = await client.turn(
            await client.say(done={"usage": {"tokens": 9}, "model_info": "m", "sources": [SOURCE]})
        )
    assert turn[-1]["meta"] == {"usage": {"tokens": 9}, "model_info": "m"}


async def test_a_queued_turn_is_told_with_its_place(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await client.say(tokens=10_000, pace=0.01)
        first, second = await client.say(on_busy="enqueue"), await client.say(on_busy="enqueue")
        frames = await client.until("stream_status", second)
        await client.cancel()
    places = [(body["message_id"], body["place"]) for body in frames if body.get("phase") == "queued"]
    assert places == [(first, 1), (second, 2)]


async def test_waiting_for_the_old_upstream_is_told(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        old = await client.say(retrieval=30, on_cancel="stubborn", stubborn=0.6)
        await client.wait_for("stream_start", old)
        await server.recorded("opened", old)
        new = await client.say()
        frames = await client.turn(new)
    phases = [body["phase"] for body in of(frames, new) if body["type"] == "stream_status"]
    assert phases[:2] == ["waiting", "retrieving"]
    (receipt,) = [body for body in frames if body["type"] == "stream_receipt"]
    assert (receipt["message_id"], receipt["upstream"]) == (old, "abandoned")


async def test_the_pipelines_own_events_are_passed_on(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        turn = await client.turn(await client.say(at={"1": ["yield", {"event": "rerank", "data": {"kept": 3}}]}))
    (told,) = [body for body in turn if body.get("phase") == "pipeline"]
    assert "kept" in json.dumps(told["data"])


async def test_a_confirmed_session_id_is_told(server: Server) -> None:
    confirmed = fresh("confirmed")
    async with open_client(server, v1=True) as client:
        turn = await client.turn(await client.say(metadata={"session_id": confirmed}))
    assert [body["session_id"] for body in turn if body["type"] == "stream_status" and "session_id" in body] == [
        confirmed
    ]


async def test_a_receipt_counts_what_was_generated_sent_and_seen(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say(texts=["안녕", "하세", "요"], pace=0.1)
        frames = await client.until("stream_token")
        await client.send(type="ack", message_id=message_id, index=0)
        frames += await client.until("stream_receipt")
    receipt = frames[-1]
    assert (receipt["generated"], receipt["sent"], receipt["chars"], receipt["upstream"]) == (3, 3, 5, "closed")
    assert receipt["acked"] == 1  # a count of tokens, as its neighbours are


async def test_nobody_acking_is_told_as_null(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await client.say()
        receipt = await client.wait_for("stream_receipt")
    assert list(receipt)[:3] == ["type", "message_id", "generated"]
    assert receipt["acked"] is None


async def test_a_stopped_turns_receipt_comes_after_its_end_and_counts_what_was_sent(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say(tokens=10_000, pace=0.01)
        frames = await client.until("stream_token")
        await client.cancel(message_id)
        frames += await client.until("stream_receipt")
    assert kinds(frames).index("stream_end") < kinds(frames).index("stream_receipt")
    assert frames[-1]["sent"] == len(tokens(frames))
    assert frames[-1]["generated"] >= frames[-1]["sent"]


async def test_an_ack_of_what_was_never_sent_is_no_error(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say(tokens=3, pace=0.05)
        await client.send(type="ack", message_id=message_id, index=999)
        await client.send(type="ack", message_id="never-seen", index=0)
        receipt = await client.wait_for("stream_receipt")
    assert (receipt["acked"] or 0) <= receipt["sent"]


@pytest.mark.parametrize("v1", [False, True])
async def test_ping_in_mid_stream_and_when_idle(server: Server, v1: bool) -> None:
    async with open_client(server, v1=v1) as client:
        assert await client.quiet() == []
        message_id = await client.say(tokens=10_000, pace=0.005)
        await client.wait_for("stream_token")
        await client.send(type="ping", id="mid")
        assert await client.wait_for("pong") == {"type": "pong", "id": "mid"}
        await client.cancel(message_id)


async def test_refusals_are_replies_without_an_offset(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await client.send_text("null")
        (refusal,) = await client.quiet()
        await client.say()
        assert (await client.next())["offset"] == split(client.ready["position"])[1] + 1
    assert "offset" not in refusal


async def test_attaching_to_a_live_session_starts_from_now(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await client.say()
        receipt = await client.wait_for("stream_receipt")
        async with open_client(server, client.session_id, v1=True) as second:
            assert second.ready["resumed"] == "attached"
            assert split(second.ready["position"])[1] == receipt["offset"]
            assert await second.quiet() == []


async def test_session_ready_names_the_running_and_the_queued_turns(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        running = await client.say(tokens=10_000, pace=0.01)
        queued = [await client.say(on_busy="enqueue") for _ in range(2)]
        await client.wait_for("stream_status", queued[1])
        async with open_client(server, client.session_id, v1=True) as second:
            ready = second.ready
            frames = await second.until("stream_token")
        await client.cancel()
    assert (ready["running"], ready["queued"], ready["resumed"]) == (running, queued, "attached")
    first = next(body for body in frames if "offset" in body)
    assert (first["type"], first["offset"]) == ("stream_start", split(ready["position"])[1] + 1)


async def entries_of_two_turns(server: Server, session_id: str) -> tuple[str, list[str], list[dict[str, Any]]]:
    """A finished conversation: the position before it, its entries as text and as objects."""
    async with open_client(server, session_id, v1=True, leave=1001) as client:
        await client.turn(await client.say(tokens=6))
        last = await client.say(tokens=2)
        await client.until("stream_receipt", last)
        texts = client.texts[1:]
    return client.ready["position"], texts, [json.loads(text) for text in texts]


async def test_replay_from_any_position_brings_exactly_what_follows(server: Server) -> None:
    session_id = fresh("s")
    position, texts, frames = await entries_of_two_turns(server, session_id)
    epoch = split(position)[0]
    for place, body in enumerate(frames):
        after = f"{epoch}:{body['offset']}"
        async with open_client(server, session_id, v1=True, query={"after": after}, leave=1001) as again:
            await again.quiet()
            assert (again.ready["resumed"], again.ready["position"]) == ("replayed", after)
            assert again.texts[1:-1] == texts[place + 1 :]


async def test_replay_from_the_start_brings_the_whole_conversation(server: Server) -> None:
    session_id = fresh("s")
    position, texts, frames = await entries_of_two_turns(server, session_id)
    async with open_client(server, session_id, v1=True, query={"after": position}) as again:
        await again.quiet()
    assert again.texts[1:-1] == texts
    assert {body["type"] for body in frames} >= ENTRIES


async def test_a_plain_client_may_resume_too(server: Server) -> None:
    session_id = fresh("s")
    position, _, frames = await entries_of_two_turns(server, session_id)
    async with open_client(server, session_id, query={"after": position}) as again:
        seen = await again.quiet()
    assert tokens(seen) == tokens(frames)
    assert ENTRIES & set(kinds(seen)) == ENTRIES - {"user_message", "stream_receipt"}


async def test_resuming_in_mid_turn_has_neither_hole_nor_double(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        message_id = await client.say(tokens=60, pace=0.01)
        frames = await client.until("stream_token")
        await client.vanish("reset")
    after = f"{split(client.ready['position'])[0]}:{frames[-1]['offset']}"
    async with open_client(server, client.session_id, v1=True, query={"after": after}) as again:
        assert (again.ready["resumed"], again.ready["running"]) == ("replayed", message_id)
        frames += await again.until("stream_receipt")
    assert [body["offset"] for body in frames] == list(range(1, len(frames) + 1))
    assert tokens(frames) == [f"t{n} " for n in range(60)]


@pytest.mark.parametrize("shift", [(-1, 0), (1, 0), (10**9, 0), (0, 10**6)], ids=str)
async def test_an_unknown_epoch_or_a_future_offset_is_a_gap(server: Server, shift: tuple[int, int]) -> None:
    session_id = fresh("s")
    position, _, _ = await entries_of_two_turns(server, session_id)
    epoch, offset = split(position)
    after = f"{epoch + shift[0]}:{offset + shift[1]}"
    async with open_client(server, session_id, v1=True, query={"after": after}) as again:
        assert again.ready["resumed"] == "gap"
        assert split(again.ready["position"])[0] == epoch
        assert await again.quiet() == []


async def test_a_gap_in_mid_turn_starts_with_the_running_turn(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=10_000, pace=0.01)
        await client.wait_for("stream_token")
        async with open_client(server, client.session_id, v1=True, query={"after": "1:0"}) as second:
            frames = await second.until("stream_token")
            assert second.ready["resumed"] == "gap"
        await client.cancel(message_id)
    first = next(body for body in frames if "offset" in body)
    assert (first["type"], first["message_id"]) == ("stream_start", message_id)


async def test_after_on_a_session_that_never_was_is_a_gap(server: Server) -> None:
    async with open_client(server, v1=True, query={"after": "1:0"}) as client:
        assert client.ready["resumed"] == "gap"
        await client.turn(await client.say())


async def test_a_new_sessions_epoch_is_the_time_in_ms(server: Server) -> None:
    async with open_client(server, v1=True) as first, open_client(server, v1=True) as second:
        epochs = split(first.ready["position"])[0], split(second.ready["position"])[0]
    assert epochs[0] < epochs[1]
    assert 1.5e12 < epochs[0] < 1e13
