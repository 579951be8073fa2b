"""The seed's five events: their order, their keys, their bytes, and how soon the first of them leaves."""

from __future__ import annotations

import json
import re
import statistics
import time

import pytest

from support.raw_client import fresh, kinds, open_client, tokens
from support.server import EVERYWHERE, Server
from support.services import SOURCE

KEYS = {
    "stream_start": ["type", "message_id", "session_id", "timestamp"],
    "stream_sources": ["type", "message_id", "sources"],
    "stream_token": ["type", "message_id", "token", "index"],
    "stream_end": ["type", "message_id", "total_tokens", "processing_time_ms", "finish_reason"],
    "stream_error": ["type", "message_id", "error_code", "message", "solutions"],
}


@pytest.fixture(scope="module", params=EVERYWHERE)
def listener(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_turn_is_start_sources_tokens_end_in_this_order(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(pace=0.02, tokens=3))
    assert kinds(turn) == ["stream_start", "stream_sources", *["stream_token"] * 3, "stream_end"]


async def test_keys_come_in_the_contracts_order(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say())
        turn += await client.turn(await client.say(at={"1": ["raise", "ValueError"]}))
    assert {body["type"] for body in turn} == set(KEYS)
    for body in turn:
        assert list(body) == KEYS[body["type"]]


async def test_frames_are_compact_json_with_text_as_itself(server: Server) -> None:
    async with open_client(server) as client:
        await client.turn(await client.say(texts=["안녕", '"', "\n", " 😀"]))
        texts = client.texts
    assert len(texts) == 7
    assert texts == [json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False) for text in texts]


async def test_the_values_of_the_five_events_are_the_turns_own(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=4, done={"usage": {"tokens": 9}})
        start, sources, *middle, end = await client.turn(message_id)
        session_id = client.session_id
    assert start["session_id"] == session_id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", start["timestamp"])
    assert sources["sources"] == [SOURCE]
    assert [(body["index"], body["token"]) for body in middle] == [(n, f"t{n} ") for n in range(4)]
    assert (end["total_tokens"], end["finish_reason"]) == (4, "stop")
    assert isinstance(end["processing_time_ms"], int)
    assert all(body["message_id"] == message_id for body in (start, sources, *middle, end))


async def test_type_may_be_absent(server: Server) -> None:
    async with open_client(server) as client:
        await client.send(message_id="plain", content="hello", session_id=client.session_id)
        turn = await client.turn("plain")
    assert turn[-1]["finish_reason"] == "stop"


async def test_unknown_keys_of_a_message_are_ignored(server: Server) -> None:
    async with open_client(server) as client:
        await client.send(message_id="m", content="hello", session_id=client.session_id, from_the_future=[1])
        assert (await client.turn("m"))[-1]["type"] == "stream_end"


@pytest.mark.parametrize("message_id", ["msg_1768550400000_k3j2h1", "한글-아이디", 'a b"c\\d/e', "x" * 128])
async def test_message_ids_are_the_clients_own(server: Server, message_id: str) -> None:
    async with open_client(server) as client:
        await client.say(message_id)
        turn = await client.turn(message_id)
    assert {body["message_id"] for body in turn} == {message_id}


TEXTS = [
    'say "hi"',
    "back\\slash",
    "안녕하세요",
    "👩‍👩‍👧‍👦🇰🇷",
    "tab\tline\r\n",
    "\x00\x01\x1f\x7f",
    "\u2028\u2029",
    "</script>",
    "é\u0301",
]


async def test_tokens_arrive_as_the_pipeline_wrote_them(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(texts=TEXTS))
    assert tokens(turn) == TEXTS


async def test_tokens_one_at_a_time_arrive_as_the_pipeline_wrote_them(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(texts=TEXTS, pace=0.005))
    assert tokens(turn) == TEXTS


async def test_a_long_answer_has_no_hole(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(tokens=5000))
    assert [body["index"] for body in turn if body["type"] == "stream_token"] == list(range(5000))
    assert turn[-1]["total_tokens"] == 5000


async def test_a_token_larger_than_any_buffer_arrives_whole(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(
            await client.say(at={"0": ["yield", {"event": "chunk", "data": "가" * 9000}]}, tokens=0)
        )
    assert tokens(turn) == ["가" * 9000]


async def test_empty_chunks_are_skipped_and_not_counted(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(texts=["a", "", "b", ""]))
    assert [(body["token"], body["index"]) for body in turn if body["type"] == "stream_token"] == [("a", 0), ("b", 1)]
    assert turn[-1]["total_tokens"] == 2


async def test_sources_are_told_as_soon_as_the_pipeline_tells_them(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(first=30)
        assert kinds(await client.until("stream_sources")) == ["stream_start", "stream_sources"]
        await client.cancel(message_id)


async def test_sources_of_the_done_event_come_before_the_end(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(metadata=None, done={"sources": [SOURCE]}, tokens=1))
    assert kinds(turn) == ["stream_start", "stream_token", "stream_sources", "stream_end"]
    assert turn[2]["sources"] == [SOURCE]


async def test_sources_are_told_once_when_metadata_and_done_have_them(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(done={"sources": [SOURCE, SOURCE]}))
    assert kinds(turn).count("stream_sources") == 1


async def test_without_sources_an_empty_list_comes_before_a_stop(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(metadata=None, tokens=1))
    assert kinds(turn) == ["stream_start", "stream_token", "stream_sources", "stream_end"]
    assert turn[2]["sources"] == []


@pytest.mark.parametrize(
    ("told", "title", "score", "preview"),
    [
        ({"document": "a.md", "relevance": 0.25, "content": "text"}, "a.md", 0.25, "text"),
        ({"metadata": {"source": "b.md"}, "score": 1, "content_preview": "p"}, "b.md", 1, "p"),
        ({"title": "t", "score": 0, "content_preview": "", "content": "c"}, "t", 0, "c"),
    ],
)
async def test_a_source_is_filled_from_what_it_has_and_keeps_every_key(
    server: Server, told: dict[str, object], title: str, score: float, preview: str
) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(metadata={"sources": [told]}))
    (source,) = turn[1]["sources"]
    assert (source["title"], source["score"], source["content_preview"]) == (title, score, preview)
    assert set(told) <= set(source)


async def test_metadata_without_sources_is_no_event_of_the_seed(server: Server) -> None:
    async with open_client(server) as client:
        turn = await client.turn(await client.say(metadata={"stage": "rerank"}, tokens=1))
        assert await client.quiet() == []
    assert kinds(turn) == ["stream_start", "stream_token", "stream_sources", "stream_end"]


async def test_the_seed_gets_nothing_unasked(server: Server) -> None:
    async with open_client(server) as client:
        async with open_client(server, client.session_id):
            assert await client.quiet() == []
        assert await client.quiet() == []


async def test_turns_of_one_connection_follow_each_other(server: Server) -> None:
    async with open_client(server) as client:
        for _ in range(5):
            assert (await client.turn(await client.say()))[-1]["finish_reason"] == "stop"


async def test_ping_is_answered_in_the_middle_of_a_stream(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=1000, pace=0.01)
        await client.wait_for("stream_token")
        await client.send(type="ping", id="p")
        assert await client.wait_for("pong") == {"type": "pong", "id": "p"}
        await client.wait_for("stream_token")
        await client.cancel(message_id)


@pytest.mark.parametrize("ping_id", ["", "핑", 7, None])
async def test_pong_has_the_pings_id(server: Server, ping_id: str | int | None) -> None:
    async with open_client(server) as client:
        await client.send(type="ping", **({} if ping_id is None else {"id": ping_id}))
        assert (await client.next()).get("id") == ping_id


async def test_stream_start_leaves_within_5_ms_while_the_pipeline_sleeps(server: Server) -> None:
    waits = []
    async with open_client(server) as client:
        for _ in range(30):
            message_id = fresh("m")
            before = time.perf_counter()
            await client.say(message_id, retrieval=30)
            await client.wait_for("stream_start", message_id)
            waits.append(time.perf_counter() - before)
            await client.cancel(message_id)
            await client.turn(message_id)
    assert statistics.median(waits) < 0.005


async def test_the_confirmed_session_id_is_accepted_and_handed_to_the_service(server: Server) -> None:
    confirmed = fresh("confirmed")
    async with open_client(server) as client:
        await client.turn(await client.say(metadata={"session_id": confirmed}))
        await client.send(message_id="again", content=fresh("content"), session_id=confirmed)
        assert (await client.turn("again"))[-1]["type"] == "stream_end"
        last = await client.say()
        assert (await client.turn(last))[-1]["type"] == "stream_end"
    assert (await server.recorded("opened", last))["session_id"] == confirmed
