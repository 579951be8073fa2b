"""`bridges/sse.py` in front of another `trialogue serve`, and of servers that speak the same events in other ways."""

from __future__ import annotations

import json
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import trio

from support.raw_client import fresh, open_client, tokens
from support.scripted import HANG, OK, Script, refusal, scripted
from support.server import Server, running
from support.sinkhole import Sinkhole
from trialogue import Done, Failure, Fault, Metadata, Turn
from trialogue_adapters.bridges import open_service
from trialogue_adapters.bridges.sse import SseService


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The server behind: its service does what a message's options say, and writes it down."""
    with running(tmp_path_factory.mktemp("upstream"), "hypercorn") as server:
        yield server


@pytest.fixture(scope="module")
def front(upstream: Server, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("front")
    keys = folder / "keys"
    keys.write_text("alice:key-of-alice\n")
    flags = ("--api-key-file", str(keys))
    with running(folder, "hypercorn", flags, f"sse:{upstream.address}/chat/stream") as server:
        yield server


ALICE = {"X-API-Key": "key-of-alice"}


async def test_an_answer_comes_through_with_sources_and_what_its_end_told(front: Server) -> None:
    done = {"usage": {"completion_tokens": 5}, "sources": []}
    async with open_client(front, v1=True, headers=ALICE) as client:
        turn = await client.turn(await client.say(texts=["한국어\u2028", "b", "\n", "d", '"e"'], done=done))
    assert tokens(turn) == ["한국어\u2028", "b", "\n", "d", '"e"']
    assert turn[-1]["finish_reason"] == "stop"
    assert turn[-1]["meta"]["usage"] == {"completion_tokens": 5}
    sources = next(frame for frame in turn if frame["type"] == "stream_sources")["sources"]
    assert [(source["title"], source["page"]) for source in sources] == [("A guide", 3)]
    assert not any("session_id" in frame for frame in turn if frame["type"] == "stream_status"), "the id stays ours"


async def test_tokens_are_not_held_back(front: Server) -> None:
    async with open_client(front, headers=ALICE) as client:
        message_id = await client.say(tokens=3, pace=0.2)
        await client.wait_for("stream_token")
        began = trio.current_time()
        await client.turn(message_id)
        assert trio.current_time() - began > 0.3


@pytest.mark.parametrize("phase", ["retrieval", "answer"])
async def test_a_cancel_ends_the_turn_over_there(upstream: Server, front: Server, phase: str) -> None:
    async with open_client(front, headers=ALICE) as client:
        options = {"retrieval": 20.0} if phase == "retrieval" else {"tokens": None, "pace": 0.01}
        message_id = await client.say(**options)
        await upstream.recorded("opened", message_id)
        if phase == "answer":
            await client.wait_for("stream_token")
        began = trio.current_time()
        await client.cancel(message_id)
        await upstream.recorded("closed", message_id, within=2)
        print(f"\ncancel -> closed over there: {1000 * (trio.current_time() - began):.0f} ms")
        assert (await client.turn(message_id))[-1]["finish_reason"] == "cancelled"
        assert upstream.record("cancelled", message_id)


async def test_an_error_over_there_is_passed_on_in_its_words(front: Server) -> None:
    told = {"event": "error", "error_code": "GEN-7", "message": "the GPU burns", "solutions": ["run"]}
    async with open_client(front, headers=ALICE) as client:
        end = (await client.turn(await client.say(at={"1": ["yield", told]})))[-1]
    assert (end["error_code"], end["message"], end["solutions"]) == ("GEN-7", "the GPU burns", ["run"])


async def test_a_server_that_dies_in_mid_answer_is_a_failure(tmp_path: Path) -> None:
    endless, short = Turn("m", fresh("m"), options={"tokens": None, "pace": 0.01}), Turn("m", fresh("m"))
    first, second = Sinkhole(), Sinkhole()
    with running(tmp_path, "hypercorn") as upstream:
        url = f"{upstream.address}/chat/stream"
        async with open_service(lambda: SseService(url), "trio") as bridged, trio.open_nursery() as nursery:
            nursery.start_soon(bridged.service.run, endless, "s", first)
            await first.until(3)
            upstream.signal(signal.SIGKILL)
            with trio.fail_after(2):
                await upstream.exit_code()
                await bridged.service.run(short, "s", second)
    assert [fault.code for fault in map(fault_of, (first, second))] == ["UPSTREAM-502", "UPSTREAM-503"]


def fault_of(sink: Sinkhole) -> Fault:
    assert isinstance(sink.events[-1], Failure)
    return sink.events[-1].fault


# ── Other ways to say the same ───────────────────────────────────────────────────────────────────────────────────


def event(name: str, data: Any, *, named: bool = True) -> bytes:
    line = f"event: {name}\n" if named else ""
    return f"{line}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


async def told(*script: Any, session_id: str = "s") -> tuple[list[Any], dict[str, Any]]:
    """What a scripted stream becomes, and what had been asked."""
    sink = Sinkhole()
    async with (
        scripted(script) as server,
        open_service(lambda: SseService(f"{server.url}/chat/stream", headers={"X-API-Key": "k"}), "trio") as bridged,
    ):
        with trio.fail_after(5):
            await bridged.service.run(Turn("m", "hello", options={"k": 1}), session_id, sink)
    assert "x-api-key: k" in server.heads[0].lower()
    return sink.events, server.bodies[0]


WAYS: dict[str, Script] = {
    "flat, as OneRAG": [
        event("metadata", {"event": "metadata", "session_id": "s", "sources": [{"document": "d"}]}),
        event("chunk", {"event": "chunk", "data": "a", "chunk_index": 0}),
        event("chunk", {"event": "chunk", "data": "b", "chunk_index": 1}),
        event("done", {"event": "done", "usage": {"n": 2}}),
    ],
    "nested": [
        event("metadata", {"data": {"session_id": "s", "sources": [{"document": "d"}]}}),
        event("chunk", {"data": {"token": "a"}}),
        event("chunk", {"content": "b"}),
        event("done", {"data": {"usage": {"n": 2}}}),
    ],
    "only data lines": [
        event("metadata", {"event": "metadata", "data": {"sources": [{"document": "d"}]}}, named=False),
        event("chunk", {"event": "chunk", "data": "a"}, named=False),
        event("notice", {"lunch": "ready"}, named=False),
        event("chunk", {"event": "chunk", "data": "b"}, named=False),
        event("done", {"event": "done", "usage": {"n": 2}}, named=False),
        HANG,
    ],
    "bare text": [
        event("metadata", {"sources": [{"document": "d"}]}),
        event("chunk", "a"),
        event("chunk", "b"),
        event("done", {"usage": {"n": 2}}),
    ],
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_same_answer_in_another_way(way: str) -> None:
    events, body = await told(OK, *WAYS[way])
    assert events == [Metadata([{"document": "d"}]), "a", "b", Done(None, {"usage": {"n": 2}})]
    assert (body["message"], body["session_id"], body["options"]) == ("hello", "s", {"k": 1})


async def test_an_id_that_the_other_side_confirms_is_ours_from_then_on() -> None:
    events, _ = await told(OK, event("metadata", {"session_id": "theirs"}), event("done", {}))
    assert events == [Metadata(None, "theirs"), Done()]


async def test_an_id_with_a_principal_is_sent_as_one_that_every_server_takes() -> None:
    _, body = await told(OK, event("done", {}), session_id="alice/s")
    assert body["session_id"].isalnum()
    assert body["session_id"] != (await told(OK, event("done", {}), session_id="bob/s"))[1]["session_id"]


FAILING: dict[str, tuple[Script, str]] = {
    "broken off": ([OK, event("chunk", "a")], "UPSTREAM-502"),
    "junk": ([OK, event("done", "nonsense")], "UPSTREAM-502"),
    "JSON": (refusal(200), "UPSTREAM-502"),
    "busy": (refusal(409), "UPSTREAM-400"),
    "drained": (refusal(503), "UPSTREAM-500"),
    "an error in bare text": ([OK, event("error", "it burns")], "STREAM-001"),
    **{
        reason: ([OK, event("chunk", "a"), event("done", {"finish_reason": reason})], "UPSTREAM-409")
        for reason in ("interrupted", "cancelled", "retracted")
    },
}


@pytest.mark.parametrize("way", FAILING)
async def test_what_is_no_whole_answer_is_a_failure(way: str) -> None:
    script, code = FAILING[way]
    events, _ = await told(*script)
    assert isinstance(events[-1], Failure)
    assert events[-1].fault.code == code
    assert not any(isinstance(event, Done) for event in events)


async def test_another_kind_of_server_is_not_told_to_cancel() -> None:
    sink = Sinkhole()
    async with (
        scripted([OK, event("metadata", {}), event("chunk", "a"), HANG]) as server,
        open_service(lambda: SseService(f"{server.url}/chat/stream"), "trio") as bridged,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridged.service.run, Turn("m", "hello"), fresh("s"), sink)
            await sink.until(2)
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            await server.gone.wait()
    assert len(server.bodies) == 1
