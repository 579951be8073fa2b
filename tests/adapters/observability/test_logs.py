"""`logs.py`, in a real server: whatever happens to a question, the log does not show it; and it says what happened."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from support.pages import texts
from support.raw_client import Refused, chat_path, frame, fresh, open_client, open_wire, request
from support.server import running
from trialogue import TurnNames, current_turn
from trialogue_adapters.observability.logs import _Formatter
from trialogue_adapters.observability.names import hashing, plain

SECRET = "my-daughter-is-ill"
KEY = "the key of names"
CREDENTIAL = "a-credential-of-alice"

LEAKY = """
import asyncio, gc, logging, threading

class Quoting:
    def __init__(self, text):
        self.text = text
    def __del__(self):
        raise ValueError(self.text)

def fail(how, text):
    match how:
        case "raise":
            raise ValueError(text)
        case "chain":
            try:
                raise KeyError(text)
            except KeyError as error:
                raise RuntimeError(f"no answer to {text}") from error
        case "group":
            raise ExceptionGroup(text, [ValueError(text), OSError(2, text, text)])
        case "exit":
            raise SystemExit(text)
        case "note":
            error = ValueError("x")
            error.add_note(text)
            raise error
        case "unraisable":
            quoting = [Quoting(text)]
            quoting.append(quoting)
            del quoting
            gc.collect()
        case "thread":
            thread = threading.Thread(target=fail, args=("raise", text))
            thread.start()
            thread.join()
        case "log":
            logging.getLogger("leaky").info("a line of the service's")

def items(how, text):
    fail(how, text)
    if how == "object":
        ring = {text: text}
        ring["again"] = ring
        yield {"event": "metadata", "data": {"of": ring}}
    if how == "junk":
        yield [text]
    yield {"event": "chunk", "data": text}

def ended(receipt, text):
    if text:
        raise ValueError(text)

class Asyncio:
    async def stream_rag_pipeline(self, message, session_id, options):
        how = options["how"]
        if how == "task":
            asyncio.get_running_loop().create_task(self.wrong(message))
            await asyncio.sleep(0.01)
            gc.collect()
        if how == "callback":
            asyncio.get_running_loop().call_soon(fail, "raise", message)
            await asyncio.sleep(0.01)
        for item in items(how, message):
            yield item
    async def wrong(self, message):
        raise ValueError(message)
    async def ended(self, receipt, text):
        ended(receipt, text)

class Trio:
    async def stream_rag_pipeline(self, message, session_id, options):
        for item in items(options["how"], message):
            yield item
    async def ended(self, receipt, text):
        ended(receipt, text)

class Sync:
    def stream_rag_pipeline(self, message, session_id, options):
        yield from items(options["how"], message)
    def ended(self, receipt, text):
        ended(receipt, text)
"""

FAILURES = ("raise", "chain", "group", "exit", "note", "object", "junk")
AFTERMATHS = {
    "unraisable": "an exception had nowhere to go",
    "thread": "a thread died",
    "log": "a line of the service's",
}
ASYNCIOS = {
    "task": "something that nobody awaited failed in the service's loop",
    "callback": "something that nobody awaited failed in the service's loop",
}


@pytest.mark.parametrize(
    ("runtime", "listener"), [("asyncio", "hypercorn"), ("trio", "trio-websocket"), ("sync", "hypercorn")]
)
async def test_no_line_shows_what_was_said_nor_by_whom(runtime: str, listener: str, tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(LEAKY)
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "keys").write_text(f"alice-from-accounting:{CREDENTIAL}\n")
    hows = {**AFTERMATHS, **(ASYNCIOS if runtime == "asyncio" else {})}
    session_id, sent = fresh("session-of-somebody"), {how: fresh("message-of-somebody") for how in (*FAILURES, *hows)}
    flags = ("--service-runtime", runtime, "--log-turns", "--log-ids", "hashed", "--log-ids-key-file", "key")
    with running(tmp_path, listener, (*flags, "--api-key-file", "keys"), f"leaky:{runtime.title()}") as server:
        async with open_client(server, session_id, headers={"X-API-Key": CREDENTIAL}) as client:
            for how, message_id in sent.items():
                options = {"how": how, "more": SECRET}
                await client.send(message_id=message_id, content=SECRET, session_id=session_id, options=options)
                end = (await client.turn(message_id))[-1]
                assert end.get("error_code", "") == ("RAG-001" if how in FAILURES else ""), how
            await client.send_text(f'{{"content": "{SECRET}')
            await client.send(type=SECRET)
            await client.quiet()
        with pytest.raises(Refused):
            async with open_client(server, session_id, headers={"X-API-Key": SECRET}):
                pass
        async with open_wire(server) as wire:
            await wire.send(request(chat_path(session_id), {"X-API-Key": CREDENTIAL, SECRET: f"{SECRET}\0"}))
        server.signal()
        assert await server.exit_code() == 0
        output = server.log() + (server.process.stdout.read() if server.process.stdout else "")
    for said in (SECRET, session_id, "of-somebody", "alice", CREDENTIAL, KEY):
        assert said not in output
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert not [line for line in output.splitlines() if line and not line.startswith("{")]
    check_what_is_told(lines, session_id, sent, hows)


def check_what_is_told(
    lines: list[dict[str, Any]], session_id: str, sent: dict[str, str], hows: dict[str, str]
) -> None:
    hide = hashing(KEY.encode())
    for line in lines:
        assert {"event", "level", "logger", "timestamp"} <= line.keys()
    ended = {line["message_id"]: line for line in lines if line["event"] == "a turn ended"}
    assert set(ended) == {hide(message_id) for message_id in sent.values()}
    assert {line["session_id"] for line in ended.values()} == {hide(session_id)}
    assert {line["principal"] for line in ended.values()} == {hide("alice-from-accounting")}
    (example,) = texts("observability.md", "json")
    assert set(json.loads(example)) == set(ended[hide(sent["log"])]) - {"principal"}

    def told(how: str, event: str) -> dict[str, Any]:
        found = [line for line in lines if line["event"] == event and line.get("message_id") == hide(sent[how])]
        assert found, f"{how}: nothing is told"
        return found[0]

    failed = {how: told(how, "the service failed")["exception"] for how in FAILURES[:5]}
    assert failed["raise"].startswith("ValueError\n")
    assert "leaky.py:" in failed["raise"]
    assert "\nfrom KeyError\n" in failed["chain"]
    assert "| FileNotFoundError (ENOENT)" in failed["group"]
    assert told("object", "the service told something unusable")["exception"]
    for how, event in hows.items():
        line = (
            told(how, event) if how in ("log", "unraisable") else next(line for line in lines if line["event"] == event)
        )
        assert how == "log" or line["exception"].startswith("ValueError")
    assert len([line for line in lines if line["event"] == "the service's `ended` hook failed"]) == len(hows)


async def test_a_failing_connection_s_text_is_not_logged_and_full_shows_it(tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(LEAKY)
    with running(tmp_path, "hypercorn", ("--log-errors", "full"), "leaky:Asyncio") as server:
        async with open_client(server) as client:
            await client.send(message_id="m", content=SECRET, session_id=client.session_id, options={"how": "chain"})
            await client.turn("m")
            await client.wire.send(frame(b"x", 7))
            with trio.fail_after(5):
                while "Traceback" not in server.log():
                    await trio.sleep(0.01)
        assert f"RuntimeError: no answer to {SECRET}" in server.log()


def record(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("some.library", logging.WARNING, __file__, 1, message, args, None)
    made.__dict__.update(extra)
    return made


def test_an_exception_among_a_line_s_arguments_is_its_type() -> None:
    formatter = _Formatter(console=False, errors="type", hide=plain)
    made = record("%s failed with %r and %s", "it", ValueError(SECRET), OSError(13, SECRET))
    assert json.loads(formatter.format(made))["event"] == "it failed with ValueError and PermissionError (EACCES)"
    assert SECRET in made.getMessage(), "other handlers see what they would have seen"
    full = _Formatter(console=False, errors="full", hide=plain)
    assert SECRET in full.format(made)


def test_names_of_the_turn_are_added_unless_the_line_has_its_own() -> None:
    formatter = _Formatter(console=False, errors="type", hide=str.upper)
    token = current_turn.set(TurnNames("alice", "s", "m"))
    try:
        line = json.loads(formatter.format(record("here")))
        assert (line["session_id"], line["message_id"], line["principal"]) == ("S", "M", "ALICE")
        assert json.loads(formatter.format(record("here", message_id="other")))["message_id"] == "OTHER"
    finally:
        current_turn.reset(token)
    assert "session_id" not in json.loads(formatter.format(record("here")))


def test_the_console_s_form_is_for_people_and_shows_the_same() -> None:
    formatter = _Formatter(console=True, errors="type", hide=plain)
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        shown = formatter.format(record("it failed", exc_info=(type(error), error, None), session_id="s1"))
    assert "it failed" in shown
    assert "session_id=s1" in shown
    assert "ValueError" in shown
    assert SECRET not in shown


def test_nothing_of_opentelemetry_is_imported_unasked() -> None:
    program = """
import sys
from trialogue_adapters.cli import read_settings
from trialogue_adapters.deployment import make_app
make_app(read_settings([]))
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
