"""`otel.py`, in a real server: a turn's spans, whose children a service's are on every runtime, and where they go."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from support.pages import texts
from support.raw_client import Client, open_client
from support.server import Server, running

pytest.importorskip("opentelemetry.sdk")

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
SECRET = "my-daughter-is-ill"

TRACED = """
import asyncio, threading, time
import trio
from opentelemetry import trace

tracer = trace.get_tracer(__name__)

def beginning(message):
    with tracer.start_as_current_span("retrieve"):
        pass
    if message.startswith("fail"):
        raise ValueError(message)
    for word in "one", "two", "three":
        yield {"event": "chunk", "data": word}

class Asyncio:
    async def stream_rag_pipeline(self, message, session_id):
        for item in beginning(message):
            yield item
        await asyncio.sleep(60 if message.startswith("long") else 0)

class Trio:
    async def stream_rag_pipeline(self, message, session_id):
        for item in beginning(message):
            yield item
        await trio.sleep(60 if message.startswith("long") else 0)

class Sync:
    def stream_rag_pipeline(self, message, session_id):
        yield from beginning(message)
        while message.startswith("long"):
            time.sleep(0.01)
            yield {"event": "chunk", "data": ""}
"""


def spans(server: Server) -> list[dict[str, Any]]:
    """What was exported, in the order in which the spans began."""
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith('{"name"')]
    return sorted(lines, key=lambda span: span["start_time"])


async def ask(client: Client, message_id: str, content: str, on_busy: str = "interrupt") -> None:
    await client.send(message_id=message_id, content=content, session_id=client.session_id, on_busy=on_busy)


def listed(found: list[dict[str, Any]]) -> str:
    """Spans as the page lists them."""
    names = {span["context"]["span_id"]: span["name"] for span in found} | {f"0x{PARENT}": "the client's span"}
    lines = []
    for span in found:
        told = {key.rpartition(".")[2]: value for key, value in span["attributes"].items()}
        shown = " ".join(f"{key}={told[key]}" for key in ("ending", "generated", "sent", "upstream") if key in told)
        lines.append(f"{span['name']:<12}of {names[span['parent_id']]:<20}{shown}".rstrip())
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("runtime", ["asyncio", "trio", "sync"])
async def test_the_spans_of_turns(runtime: str, tmp_path: Path) -> None:
    (tmp_path / "traced.py").write_text(TRACED)
    flags = ("--otel", "console", "--service-runtime", runtime)
    with running(tmp_path, "hypercorn", flags, f"traced:{runtime.title()}") as server:
        async with open_client(server, "s1", headers=TRACEPARENT) as client:
            await ask(client, "m1", f"long {SECRET}")
            for _ in range(3):
                await client.wait_for("stream_token", "m1")
            await ask(client, "m2", f"short {SECRET}")
            await client.turn("m2")
            await ask(client, "m3", f"fail {SECRET}")
            await client.turn("m3")
            await ask(client, "m4", "long")
            await client.wait_for("stream_token", "m4")
            await ask(client, "m5", "queued", "enqueue")
            await client.cancel("m5")
            await client.turn("m5")
            await client.cancel("m4")
            await client.turn("m4")
        server.signal()
        assert await server.exit_code() == 0
        assert SECRET not in server.log()
        found = spans(server)
    assert {span["context"]["trace_id"] for span in found} == {f"0x{TRACE}"}
    turns = {span["attributes"]["trialogue.message_id"]: span for span in found if span["name"] == "turn"}
    assert set(turns) == {"m1", "m2", "m3", "m4", "m5"}
    families = {
        name: [turn] + [span for span in found if span["parent_id"] == turn["context"]["span_id"]]
        for name, turn in turns.items()
    }
    assert listed(families["m1"]) == texts("observability.md", "text")[-1]
    names = {name: [span["name"] for span in family[1:]] for name, family in families.items()}
    assert names["m2"] == ["waiting", "retrieving", "retrieve", "generating"]
    assert names["m3"] == ["waiting", "retrieving", "retrieve"] or names["m3"] == ["retrieving", "retrieve"]
    assert names["m5"] == ["queued"]
    assert sum(map(len, families.values())) == len(found), "every span is of one turn"
    for name, family in families.items():
        check_times(family)
        status = {"status_code": "ERROR", "description": "RAG-001"} if name == "m3" else {"status_code": "UNSET"}
        assert family[0]["status"] == status
        assert family[0]["attributes"]["trialogue.session_id"] == "s1"
        assert [event["name"] for event in family[0]["events"]] == ["ended"]
    assert turns["m3"]["attributes"]["trialogue.error_code"] == "RAG-001"
    assert turns["m5"]["attributes"]["trialogue.ending"] == "cancelled"
    assert "trialogue.upstream" not in turns["m5"]["attributes"]


def check_times(family: list[dict[str, Any]]) -> None:
    """Phases follow each other, inside the turn."""
    turn, *inside = family
    phases = [span for span in inside if span["name"] != "retrieve"]
    for before, after in pairwise(phases):
        assert before["end_time"] <= after["start_time"]
    assert all(turn["start_time"] <= span["start_time"] <= span["end_time"] <= turn["end_time"] for span in phases)


@contextmanager
def collector() -> Generator[tuple[str, list[bytes]]]:
    """An OTLP receiver: its address, and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{receiver.server_port}", bodies
        finally:
            receiver.shutdown()
            thread.join()


async def test_a_collector_has_got_every_span_when_the_server_has_left(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    (tmp_path / "traced.py").write_text(TRACED)
    with collector() as (address, bodies):
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_SERVICE_NAME": "our-chat"}
        with running(
            tmp_path, "hypercorn", ("--otel", "otlp", "--log-ids", "hashed"), "traced:Asyncio", variables=variables
        ) as server:
            async with open_client(server, "somebody", headers={"traceparent": "nonsense"}) as client:
                await ask(client, "m1", SECRET)
                await client.turn("m1")
            server.signal()
            assert await server.exit_code() == 0
    assert not [body for body in bodies if SECRET.encode() in body or b"somebody" in body]
    resources = [part for body in bodies for part in ExportTraceServiceRequest.FromString(body).resource_spans]
    told = {attribute.key: attribute.value.string_value for part in resources for attribute in part.resource.attributes}
    assert told["service.name"] == "our-chat"
    exported = [span for part in resources for scope in part.scope_spans for span in scope.spans]
    assert sorted(span.name for span in exported) == ["generating", "retrieve", "retrieving", "turn"]
    (turn,) = [span for span in exported if span.name == "turn"]
    assert not turn.parent_span_id, "a header that is none begins a trace of its own"


async def test_a_collector_that_is_away_keeps_no_server(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    (tmp_path / "traced.py").write_text(TRACED)
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with running(tmp_path, "hypercorn", ("--otel", "otlp"), "traced:Asyncio", variables=variables) as server:
        async with open_client(server) as client:
            await ask(client, "m1", SECRET)
            await client.turn("m1")
        before = time.monotonic()
        server.signal()
        assert await server.exit_code() == 0
        assert time.monotonic() - before < 3
        assert SECRET not in server.log()


async def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError('opentelemetry')")
    done = await trio.run_process(
        [sys.executable, "-m", "trialogue_adapters", "serve", "--port", "0", "--otel", "console"],
        cwd=tmp_path,
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == 2
    assert "trialogue[otel]" in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1
