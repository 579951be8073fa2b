"""What a page of the deployed OneRAG server sees here: an answer, an interrupt, a stop, a drop. `-s` prints it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from onerag.guide_client import GuideClient
from support.raw_client import fresh
from support.server import Server, running

PATIENCE = 8.0
SOURCES = [{"document": "guide.md", "relevance": 0.95, "content_preview": "…", "title": "guide.md", "score": 0.95}]


@pytest.fixture(scope="module")
def server(listener: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("onerag")
    shutil.copy(Path(__file__).with_name("service.py"), folder / "chat.py")
    with running(folder, listener, ("--dialect", "onerag")) as server:
        yield server


@asynccontextmanager
async def visiting(server: Server, scene: str) -> AsyncGenerator[GuideClient]:
    """A client that runs by itself; its transcript is printed when the scene is over."""
    client = GuideClient(server.host, server.port, fresh("page"))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            await client.open.wait()
            yield client
            nursery.cancel_scope.cancel()
    print(f"\n── {scene}, {server.listener}")
    for event in client.transcript:
        told = {key: value for key, value in event.items() if key not in ("type", "message_id", "solutions")}
        print(f"{event['type']:15} {event['message_id'][-14:]:>14}  {told}")


async def until(client: GuideClient, kind: str, message_id: str, count: int = 1) -> dict[str, Any]:
    """The nth such event, waited for."""
    while True:
        found = [e for e in client.transcript if (e["type"], e["message_id"]) == (kind, message_id)]
        if len(found) >= count:
            return found[count - 1]
        await trio.sleep(0.005)


def kinds(client: GuideClient, message_id: str) -> list[str]:
    return [event["type"].removeprefix("stream_") for event in client.transcript if event["message_id"] == message_id]


async def test_an_answer(server: Server) -> None:
    async with visiting(server, "an answer") as client:
        first = await client.send("count 5")
        end = await until(client, "stream_end", first)
        assert (end["total_tokens"], end["finish_reason"]) == (5, "stop")
        assert kinds(client, first) == ["start", *["token"] * 5, "sources", "end"]
        assert client.answers == {first: "0 1 2 3 4 "}
        assert (await until(client, "stream_sources", first))["sources"] == SOURCES
        confirmed = str(uuid.uuid5(uuid.NAMESPACE_URL, client.session_id))
        assert client.message_session_id == confirmed
        second = await client.send("count 2")  # under the confirmed id, on the same connection
        await until(client, "stream_end", second)
        assert (await until(client, "stream_start", second))["session_id"] == confirmed
        failing = await client.send("fail")
        error = await until(client, "stream_error", failing)
        assert (error["error_code"], error["message"]) == ("GEN-001", "No model answers.")
        assert error["solutions"] == ["Wait."]
        assert kinds(client, failing) == ["error"]


async def test_a_second_message_in_mid_answer(server: Server) -> None:
    async with visiting(server, "an interrupt") as client:
        first = await client.send("count 40")
        await until(client, "stream_token", first, 3)
        second = await client.send("count 3")
        await until(client, "stream_end", second)
        assert (await until(client, "stream_end", first))["finish_reason"] == "interrupted"
        assert client.answers[second] == "0 1 2 "
        assert kinds(client, second) == ["start", "token", "token", "token", "sources", "end"]
        at = [event["message_id"] for event in client.transcript]
        assert at == sorted(at, key=[first, second].index), "nothing of the old answer after its end"


async def test_a_stop(server: Server) -> None:
    async with visiting(server, "a stop") as client:
        first = await client.send("count 41")
        await until(client, "stream_token", first, 3)
        await client.stop()
        await server.recorded("cancelled", "count 41")
        while client.open.is_set():
            await trio.sleep(0.005)
        assert "end" not in kinds(client, first)
        seen = len(client.transcript)
        async with trio.open_nursery() as nursery:  # the next message connects again, as the page does it
            nursery.start_soon(client.run)
            await client.open.wait()
            second = await client.send("count 2")
            await until(client, "stream_end", second)
            nursery.cancel_scope.cancel()
        assert {event["message_id"] for event in client.transcript[seen:]} == {second}


async def test_a_drop_in_mid_answer(server: Server) -> None:
    async with visiting(server, "a drop") as client:
        message_id = await client.send("count 45")
        await until(client, "stream_token", message_id, 3)
        await client.stream.aclose()  # no close frame: the network's doing
        again = f"{message_id}~r1"
        end = await until(client, "stream_end", again)
        assert (end["finish_reason"], end["total_tokens"]) == ("stop", 45)
        assert client.answers[again] == "".join(f"{n} " for n in range(45)), "whole, and nothing twice"
        assert client.answers[again].startswith(client.answers[message_id])
        assert kinds(client, again) == ["start", *["token"] * 45, "sources", "end"]
        assert "end" not in kinds(client, message_id)
        assert len(server.record("finished", "count 45")) == 1
