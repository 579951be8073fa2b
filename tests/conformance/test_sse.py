"""`/chat/stream` and `/chat/cancel` of a real server: one session with the WebSockets, resumed at every event."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from support.auth import ALICE, BOB, token, write_files
from support.event_stream import ask, fields_of, open_stream, post, text_of, whole
from support.raw_client import fresh, kinds, of, open_client, open_wire, tokens
from support.server import Server, running

HEARTBEAT, LINGER = 0.5, 0.8
FLAGS = ("--heartbeat", str(HEARTBEAT), "--linger", str(LINGER), "--first-token-timeout", "20")
NASTY = ["안녕", "a\nb\r\n", "\u2028\u0085", "😀", '"\\', " "]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with running(tmp_path_factory.mktemp("server"), "hypercorn", FLAGS) as server:
        yield server


async def cancel(server: Server, session_id: str, message_id: str | None = None) -> dict[str, Any]:
    answer = await ask(server, "/chat/cancel", {"session_id": session_id, "message_id": message_id})
    assert answer.status == 200, answer
    body = answer.json()
    assert isinstance(body, dict)
    return body


def names(events: list[Any]) -> list[str]:
    return [event.name for event in events]


# ── A turn ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_turn_and_its_headers(server: Server) -> None:
    fields = fields_of(fresh("s"), options={"texts": NASTY, "done": {"usage": {"n": 7}}})
    async with open_stream(server, fields) as stream:
        events = await stream.rest()
    assert stream.ended
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert names(events) == ["metadata", "metadata", *["chunk"] * len(NASTY), "done"]
    assert text_of(events) == "".join(NASTY)
    greeting, done = events[0].body, events[-1].body
    assert greeting["data"] == {name: fields[name] for name in ("session_id", "message_id")} | {"resumed": "new"}
    assert events[1].body["sources"][0]["page"] == 3
    assert (done["finish_reason"], done["total_tokens"], done["usage"]) == ("stop", len(NASTY), {"n": 7})
    offsets = [event.offset for event in events]
    assert offsets == sorted(set(offsets))


async def test_it_streams_while_the_answer_is_made(server: Server) -> None:
    async with open_stream(server, fields_of(options={"tokens": 3, "pace": 0.3, "retrieval": 0.3})) as stream:
        before, arrived = time.monotonic(), []
        while event := await stream.next():
            arrived.append((event.name, time.monotonic() - before))
    assert arrived[0][0] == "metadata"
    assert arrived[0][1] < 0.25, "told before the pipeline has told anything"
    chunks = [at for name, at in arrived if name == "chunk"]
    assert all(later - earlier > 0.2 for earlier, later in pairwise(chunks))


async def test_ids_are_minted_and_told_and_are_good_for_the_next_request(server: Server) -> None:
    async with open_stream(server, {"message": "minted", "options": {"tokens": 2}}) as stream:
        first = await stream.rest()
    told = first[0].body
    assert len({told["session_id"], told["message_id"]}) == 2
    known = {"message": "minted", "session_id": told["session_id"], "message_id": told["message_id"]}
    again = await whole(server, known)
    assert [event.text for event in again[1:]] == [event.text for event in first[1:]]
    assert len(server.record("opened", "minted")) == 1


async def test_a_failure_is_an_error_with_the_pipelines_own_texts(server: Server) -> None:
    failing = {"event": "error", "error_code": "GEN-7", "message": "no", "solutions": ["wait"]}
    events = await whole(server, fields_of(options={"tokens": 2, "at": {"1": ["yield", failing]}}))
    assert names(events)[-2:] == ["chunk", "error"]
    error = events[-1].body
    assert (error["error_code"], error["message"], error["solutions"]) == ("GEN-7", "no", ["wait"])
    assert error["data"]["error_code"] == "GEN-7"


async def test_a_silent_answer_outlives_the_read_timeout_and_is_kept_alive(server: Server) -> None:
    read_timeout = 2 * HEARTBEAT + 1
    async with open_stream(server, fields_of(options={"first": read_timeout + 0.6, "tokens": 1})) as stream:
        events = await stream.rest()
    assert events[-1].body["finish_reason"] == "stop"
    assert len(stream.reader.comments) >= 3
    assert set(stream.reader.comments) == {"ping"}


# ── Resuming ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_it_resumes_at_every_event_while_it_runs_and_when_it_has_ended(server: Server) -> None:
    fields = fields_of(fresh("s"), options={"texts": NASTY * 2, "pace": 0.02})
    cuts: list[str] = []
    assembled, last = "", None
    while True:  # each response is cut after one event that is new
        async with open_stream(server, fields, last=last) as stream:
            greeting = await stream.next()
            assert greeting
            assert greeting.body["resumed"] == ("replayed" if last else "new")
            event = await stream.next()
            assert event
        assembled, last = assembled + text_of([event]), event.id
        cuts.append(event.id)
        if event.name == "done":
            break
    assert assembled == "".join(NASTY * 2)
    assert len(cuts) == len(NASTY * 2) + 2
    reference = await whole(server, fields)
    assert [event.id for event in reference[1:]] == cuts
    for n, event in enumerate(reference):
        again = await whole(server, fields, last=event.id)
        assert again[1:] == (reference[n + 1 :] or reference[-1:])
        assert text_of(reference[: n + 1]) + text_of(again) == assembled
    assert len(server.record("opened", fields["message_id"])) == 1


async def test_after_in_the_body_resumes_too(server: Server) -> None:
    fields = fields_of(fresh("s"))
    first = await whole(server, fields)
    again = await whole(server, {**fields, "after": first[2].id})
    assert again[1:] == first[3:]


@pytest.mark.parametrize("position", ["1:0", "9999999999999999:5"])
async def test_an_unknown_position_is_a_gap_and_the_turn_comes_from_its_start(server: Server, position: str) -> None:
    fields = fields_of(fresh("s"))
    first = await whole(server, fields)
    again = await whole(server, fields, last=position)
    assert again[0].body["resumed"] == "gap"
    assert again[1:] == first[1:]
    assert len(server.record("opened", fields["message_id"])) == 1


async def test_twenty_at_once_with_one_id_are_one_generation(server: Server) -> None:
    fields = fields_of(fresh("s"), options={"tokens": 30, "pace": 0.01})
    answers: list[str] = []

    async def one() -> None:
        answers.append(text_of(await whole(server, fields)))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert set(answers) == {"".join(f"t{n} " for n in range(30))}
    assert len(answers) == 20
    assert len(server.record("opened", fields["message_id"])) == 1


# ── Stopping, leaving ────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancel_ends_the_stream_and_answers_for_each_turn(server: Server) -> None:
    session_id = fresh("s")
    running_, waiting = fields_of(session_id, options={"first": 30}), fields_of(session_id, on_busy="enqueue")
    async with open_stream(server, running_) as stream, open_stream(server, waiting) as second:
        await stream.until("metadata")
        await second.until("metadata")
        await server.recorded("opened", running_["message_id"])
        told = await cancel(server, session_id)
        results = [{"message_id": fields["message_id"], "outcome": "cancelled"} for fields in (running_, waiting)]
        assert told == {"type": "cancel_result", **results[0], "results": results}
        for one in (stream, second):
            assert (await one.rest())[-1].body["finish_reason"] == "cancelled"
    await server.recorded("closed", running_["message_id"])
    again = await cancel(server, session_id, running_["message_id"])
    assert (again["message_id"], again["outcome"]) == (running_["message_id"], "already_ended")
    assert (await cancel(server, session_id, "other"))["outcome"] == "unknown"
    assert (await cancel(server, fresh("nobody")))["outcome"] == "unknown"


async def test_a_newer_message_interrupts_and_a_busy_session_may_refuse(server: Server) -> None:
    session_id = fresh("s")
    old, new = fields_of(session_id, options={"tokens": 500, "pace": 0.02}), fields_of(session_id)
    async with open_stream(server, old) as stream:
        await stream.until("chunk")
        refused = await ask(server, "/chat/stream", fields_of(session_id, on_busy="reject"))
        assert (refused.status, refused.json()["error"]["code"]) == (409, "WS-003")
        events = await whole(server, new)
        assert (await stream.rest())[-1].body["finish_reason"] == "interrupted"
    assert events[-1].body["finish_reason"] == "stop"
    assert {event.body["message_id"] for event in events if event.name != "chunk"} == {new["message_id"]}


async def test_closing_the_request_is_a_drop_the_turn_lingers_and_can_be_resumed(server: Server) -> None:
    fields = fields_of(fresh("s"), options={"tokens": 40, "pace": 0.01})
    async with open_stream(server, fields) as stream:
        before = await stream.until("chunk")
    await trio.sleep(LINGER / 2)
    rest = await whole(server, fields, last=before[-1].id)
    assert text_of(before) + text_of(rest) == "".join(f"t{n} " for n in range(40))
    assert rest[-1].body["finish_reason"] == "stop"


async def test_after_the_linger_it_is_cancelled(server: Server) -> None:
    fields = fields_of(fresh("s"), options={"first": 30})
    async with open_stream(server, fields) as stream:
        await stream.until("metadata")
        await server.recorded("opened", fields["message_id"])
    before = time.monotonic()
    closed = await server.recorded("closed", fields["message_id"])
    assert LINGER - 0.2 < closed["at"] - before < LINGER + 1
    assert (await whole(server, fields))[-1].body["finish_reason"] == "cancelled"


async def test_a_reader_that_stops_holds_the_generation_up_and_nobody_else(server: Server, tmp_path: Path) -> None:
    fields = fields_of(fresh("s"), options={"tokens": 200_000})
    async with open_stream(server, fields) as stream:
        await stream.until("chunk")
        await trio.sleep(1)
        resident = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096
        assert not server.record("closed", fields["message_id"]), "22 MB were not made for nobody"
        assert resident < 150 * 2**20
    async with open_stream(server, fields_of()) as other:
        assert (await other.rest())[-1].body["finish_reason"] == "stop"


# ── With others ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_websocket_and_a_stream_are_one_session(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        fields = fields_of(client.session_id, options={"tokens": 200, "pace": 0.01})
        async with open_stream(server, fields) as stream:
            events = await stream.until("chunk")
            assert (await client.wait_for("user_message"))["message_id"] == fields["message_id"]
            await client.wait_for("stream_token", fields["message_id"])
            newer = await client.say()
            events += await stream.rest()
            frames = await client.turn(newer)
        assert events[-1].body["finish_reason"] == "interrupted"
        ended = [frame for frame in of(frames, fields["message_id"]) if frame["type"] == "stream_end"]
        assert [frame["finish_reason"] for frame in ended] == ["interrupted"]
        assert events[-1].offset == ended[0]["offset"], "positions mean the same on both"
        seen = tokens([json.loads(text) for text in client.texts], fields["message_id"])
        assert text_of(events) == "".join(seen)
        followed = await whole(server, fields_of(client.session_id, newer, message=newer))
        assert text_of(followed) == "".join(tokens(frames, newer))


async def test_a_message_by_stream_interrupts_a_websockets_turn(server: Server) -> None:
    async with open_client(server) as client:
        running_ = await client.say(tokens=500, pace=0.02)
        await client.wait_for("stream_token")
        fields = fields_of(client.session_id)
        events = await whole(server, fields)
        frames = await client.turn(fields["message_id"])
        assert "interrupted" in [frame.get("finish_reason") for frame in of(frames, running_)]
        assert text_of(events) == "".join(tokens(frames, fields["message_id"]))
        assert kinds(of(frames, fields["message_id"]))[0] == "stream_start"


# ── Who is let in, and what is refused ───────────────────────────────────────────────────────────────────────────

BAD: list[tuple[bytes, dict[str, str | None], int, str | None]] = [
    (b"{", {}, 400, "WS-001"),
    (b"[]", {}, 400, "WS-001"),
    (b"[" * 5_000, {}, 400, "WS-001"),
    (b"\xff", {}, 400, "WS-001"),
    (b"{}", {}, 400, "WS-001"),
    (b'{"message":" "}', {}, 400, "WS-001"),
    (b'{"message":7}', {}, 400, "WS-001"),
    (b'{"message":"x","session_id":"a b"}', {}, 400, "WS-001"),
    (b'{"message":"x","on_busy":"dance"}', {}, 400, "WS-001"),
    (b'{"message":"x","options":[]}', {}, 400, "WS-001"),
    (b'{"message":"x"}', {"Last-Event-ID": "1:1"}, 400, "WS-001"),
    (b'{"message":"x","session_id":"s","message_id":"m"}', {"Last-Event-ID": "abc"}, 400, None),
    (b'{"message":"x"}', {"Content-Type": "text/plain"}, 415, None),
    (b'{"message":"x"}', {"Content-Type": None}, 415, None),
    (b'{"message":"x"}', {"Origin": "https://evil.example"}, 403, None),
    (b'{"message":"' + b"x" * 70_000 + b'"}', {}, 413, None),
    (b'{"message":"x","options":{"n":[' + b",".join([b"1e15"] * 12_000) + b"]}}", {}, 413, None),
]


@pytest.mark.parametrize(("body", "headers", "status", "code"), BAD, ids=lambda value: repr(value)[:40])
async def test_what_is_refused_is_an_http_answer(
    server: Server, body: bytes, headers: dict[str, str | None], status: int, code: str | None
) -> None:
    async with open_wire(server) as wire:
        await wire.send(post("/chat/stream", body, headers))
        answer = await wire.answer()
    error = answer.json()["error"]
    assert (answer.status, error["status"], error.get("code")) == (status, status, code)
    assert error["message"]


@pytest.mark.parametrize("path", ["/chat/stream", "/chat/cancel"])
async def test_only_posts(server: Server, path: str) -> None:
    async with open_wire(server) as wire:
        await wire.send(post(path, b"", method="GET"))
        answer = await wire.answer()
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_the_same_id_with_other_content_is_refused(server: Server) -> None:
    fields = fields_of(fresh("s"))
    await whole(server, fields)
    refused = await ask(server, "/chat/stream", {**fields, "message": "other"})
    assert (refused.status, refused.json()["error"]["code"]) == (400, "WS-001")


async def test_the_gate_and_the_budgets_are_the_websockets(tmp_path: Path) -> None:
    flags = (*write_files(tmp_path), "--turns-per-minute", "3", "--max-connections-per-client", "1")
    with running(tmp_path, "hypercorn", flags) as server:
        session_id = fresh("s")
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Bearer {token('another')}"}):
            refused = await ask(server, "/chat/stream", fields_of(session_id), headers)
            assert refused.status in (401, 403)
            assert (await ask(server, "/chat/cancel", {"session_id": session_id}, headers)).status in (401, 403)
        async with open_wire(server) as wire:
            await wire.send(post("/chat/stream", b"", {"Content-Length": "1000", "X-API-Key": "wrong"}))
            assert (await wire.answer()).status == 401, "told before the body has come"
        fields = fields_of(session_id, options={"first": 30})
        async with open_stream(server, fields, headers={"Authorization": f"Bearer {token(session_id)}"}) as stream:
            await stream.until("metadata")
            refused = await ask(server, "/chat/stream", fields_of(session_id), ALICE)
            assert (refused.status, refused.json()["error"]["code"]) == (429, "WS-005")
            theirs = await ask(server, "/chat/cancel", {"session_id": session_id}, BOB)
            assert theirs.json()["outcome"] == "unknown", "another principal's session"
        for n in range(3):
            async with open_stream(server, fields_of(), headers=ALICE) as stream:
                last = (await stream.rest())[-1]
                assert last.name == ("error" if n == 2 else "done")
        assert (last.body["error_code"], last.body["retry_after_ms"] > 0) == ("WS-005", True)


async def test_a_drain_lets_the_answer_end_refuses_newcomers_and_can_be_cancelled(tmp_path: Path) -> None:
    with running(tmp_path, "hypercorn", ("--drain-timeout", "10")) as server:
        short = fields_of(fresh("s"), options={"tokens": 60, "pace": 0.02})
        long = fields_of(fresh("s"), options={"first": 25})
        async with open_stream(server, short) as stream, open_stream(server, long) as stuck:
            await stream.until("chunk")
            await stuck.until("metadata")
            await server.recorded("opened", long["message_id"])
            server.signal()
            await refused_as_draining(server)
            assert (await cancel(server, long["session_id"]))["outcome"] == "cancelled"
            assert (await stuck.rest())[-1].body["finish_reason"] == "cancelled"
            done = (await stream.rest())[-1].body
            assert (done["finish_reason"], done["total_tokens"]) == ("stop", 60)
        assert await server.exit_code() == 0


async def test_what_a_drain_cannot_finish_is_an_error(tmp_path: Path) -> None:
    with running(tmp_path, "hypercorn", ("--drain-timeout", "0.2")) as server:
        async with open_stream(server, fields_of(options={"first": 25})) as stream:
            await stream.until("metadata")
            server.signal()
            error = (await stream.rest())[-1]
        assert (error.name, error.body["error_code"], stream.ended) == ("error", "WS-006", True)
        assert await server.exit_code() == 0


async def refused_as_draining(server: Server) -> None:
    with trio.fail_after(3):
        while (answer := await ask(server, "/chat/stream", fields_of(options={"tokens": 1}))).status == 200:
            await trio.sleep(0.01)
    assert (answer.status, answer.json()["error"]["code"]) == (503, "WS-006")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_curl_streams_and_resumes(server: Server) -> None:
    session_id, message_id = fresh("s"), fresh("m")
    body = f'{{"message":"{message_id}","session_id":"{session_id}","message_id":"{message_id}"}}'
    command = ["curl", "-sNf", "-H", "Content-Type: application/json", f"{server.address}/chat/stream", "-d", body]

    async def curl(*more: str) -> str:
        done = await trio.run_process([*command, *more], capture_stdout=True)
        return done.stdout.decode()

    first = await curl()
    assert [line[7:] for line in first.splitlines() if line.startswith("event: ")] == [
        *["metadata"] * 2,
        *["chunk"] * 3,
        "done",
    ]
    second_chunk = [line[4:] for line in first.splitlines() if line.startswith("id: ")][3]
    rest = await curl("-H", f"Last-Event-ID: {second_chunk}")
    assert first.endswith(rest.partition("\n\n")[2])
    assert rest.count("event: chunk") == 1
    assert len(server.record("opened", message_id)) == 1


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_over_http2_a_silent_answer_outlives_the_read_timeout_too(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    files = ("--certfile", str(tmp_path / "both.pem"), "--keyfile", str(tmp_path / "both.pem"))
    with running(tmp_path, "hypercorn", (*FLAGS, *files)) as server:
        address = f"https://{server.host}:{server.port}/chat/stream"
        body = json.dumps(fields_of(options={"first": 2 * HEARTBEAT + 1.6, "tokens": 2}))
        write = "version %{http_version} after %{time_total}"
        words = ["curl", "-sNfk", "--http2", "-H", "Content-Type: application/json", "-d", body, "-w", write, address]
        done = await trio.run_process(words, capture_stdout=True, check=False)
        answer = done.stdout.decode()
    if "version 2 " not in answer:
        pytest.skip("this curl has no HTTP/2")
    assert answer.count("event: chunk") == 2
    assert '"finish_reason":"stop"' in answer
    assert ": ping\n" in answer
