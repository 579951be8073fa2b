"""No secret, token or content is in any log, at any level; and what an operator sees of a wrong set-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from support.auth import ALICE, SECRET, damaged, token, write_files
from support.raw_client import V1, Refused, fresh, open_client, open_wire, request
from support.server import Server, environment, running, said

LOUD = """
import logging, threading
from trialogue_adapters import cli
logging.basicConfig(level=1)
threading.Timer(0.5, lambda: logging.getLogger("trialogue").log(1, "everything is logged")).start()
cli.main()
"""


def loud_command(listener: str, service: str, *flags: str) -> list[str]:
    """`serve` whose every logger says everything."""
    words = [sys.executable, "-c", LOUD, "serve", "--port", "0", "--listener", listener, "--service", service]
    return [*words, *flags]


async def come_and_go(server: Server) -> list[str]:
    """Everything that carries a secret, good and bad. Returns what must not be found anywhere."""
    session_id = fresh("s")
    good, short = token(session_id), token(session_id, lifetime=1.5)
    secrets = [good, damaged(good), short, SECRET, "key-of-alice", "key-of-bob", "key-of-mallory", "a-renewal"]
    offers = {"Sec-WebSocket-Protocol": f"{V1}, bearer.{good}"}
    ways: list[dict[str, Any]] = [
        {"headers": ALICE},
        {"headers": offers},
        {"query": {"ws_token": good}},
        {"query": {"ws_token": damaged(good)}},
        {"query": {"ws_token": good, "after": "x"}},
        {"headers": {"X-API-Key": "key-of-mallory"}},
        {"headers": {"Authorization": "Bearer key-of-mallory", "Origin": "https://evil.example"}},
    ]
    answers = []
    for way in ways:
        try:
            async with open_client(server, session_id, **way) as client:
                await client.turn(await client.say("the-content-of-a-message", tokens=1))
                await client.send(type="auth", token="a-renewal")
        except Refused as refused:
            answers.append(refused.body.decode())
    async with open_client(server, session_id, query={"ws_token": short}) as client:
        await client.send(type="auth", token="key-of-bob")
        await client.send(type="auth", token="a-renewal", session_id="\u0007")
        assert (await client.end()).code == 1008
    async with open_wire(server) as wire:
        await wire.send(request(f"/other?ws_token={good}"))
        await wire.answer()
    assert len(answers) == 4
    assert not any(secret in answer for secret in secrets for answer in answers)
    return [*secrets, "the-content"]


async def test_no_log_at_any_level_holds_a_secret(
    listener: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.server.command", loud_command)
    with running(tmp_path, listener, write_files(tmp_path), typed=True) as server:
        secrets = await come_and_go(server)
        async with open_wire(server) as wire:
            await wire.send(request("/metrics", {"Upgrade": None}))
            metrics = (await wire.answer()).body.decode()
        server.signal()
        assert await server.exit_code() == 0
    log = server.log()
    assert "everything is logged" in log
    for secret in secrets:
        assert secret not in log
        assert secret not in metrics


SERVED = """
from trialogue_adapters.servers.asgi import app

async def service(message, session_id):
    yield message
"""


async def test_the_access_log_of_a_plain_hypercorn_holds_no_token(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SERVED)
    write_files(tmp_path)
    words = [sys.executable, "-m", "hypercorn", "-k", "trio", "--bind", "127.0.0.1:0", "--access-logfile", "-"]
    configured = {
        "TRIALOGUE_API_KEY_FILE": "keys",
        "TRIALOGUE_WS_TOKEN_SECRET": SECRET,
        "TRIALOGUE_SERVICE": "app:service",
        "TRIALOGUE_SERVICE_RUNTIME": "trio",
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*words, "--access-logformat", "%(R)s %(s)s %(q)s", "app:app"],
            cwd=tmp_path,
            env={**environment(), **configured, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])},
            stdout=log,
            stderr=log,
        )
    try:
        server = await started(process, tmp_path / "log")
        session_id = fresh("s")
        good = token(session_id)
        async with open_client(server, session_id, query={"ws_token": good}) as client:
            await client.quiet()
        for path in (f"/chat-ws?session_id=other&ws_token={good}", f"/nowhere?%77s_token={good}"):
            async with open_wire(server) as wire:
                await wire.send(request(path))
                await wire.answer()
        async with open_wire(server) as wire:
            await wire.send(request(f"/livez?ws_token={good}", {"Upgrade": None, "Connection": "close"}))
            assert (await wire.answer()).status == 200
    finally:
        process.terminate()
        process.wait(10)
    text = (tmp_path / "log").read_text()
    assert f"GET /chat-ws?session_id={session_id}&ws_token=*** " in text
    assert text.count("ws_token=***") >= 8  # each of four requests, by %(R)s and by %(q)s
    assert good not in text


async def started(process: subprocess.Popen[bytes], log: Path) -> Any:
    with trio.fail_after(20):
        while "Running on http://127.0.0.1:" not in log.read_text():
            assert process.poll() is None, log.read_text()
            await trio.sleep(0.02)
    port = int(log.read_text().partition("Running on http://127.0.0.1:")[2].split()[0])
    return Server(process, log.parent, "hypercorn", f"http://127.0.0.1:{port}")  # type: ignore[arg-type]


# What an operator sees.


def test_config_masks_the_secret(tmp_path: Path) -> None:
    done = said(tmp_path, "config", TRIALOGUE_WS_TOKEN_SECRET=SECRET)
    assert '# ws_token_secret = "**********"' in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_a_wrong_set_up_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("alice:key-of-alice\nbob:two words\n")
    done = said(tmp_path, "serve", "--port", "0", "--api-key-file", "keys")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "line 2" in line
    assert "words" not in line


def test_keys_make_a_host_that_others_can_reach_permissible(tmp_path: Path) -> None:
    """192.0.2.1 is an address for documents (RFC 5737): it cannot be listened on, and that is all that is said."""
    write_files(tmp_path)
    for flags in (("--api-key-file", "keys"), ("--auth", "jwt", "--jwt-key-file", "secret"), ("--insecure",)):
        done = said(tmp_path, "serve", "--host", "192.0.2.1", "--port", "0", *flags)
        assert done.returncode == 2
        assert "--insecure" not in done.stderr
        assert "192.0.2.1" in done.stderr
    open_to_all = said(tmp_path, "serve", "--host", "192.0.2.1", "--port", "0")
    assert all(flag in open_to_all.stderr for flag in ("--api-key-file", "--auth jwt", "--insecure"))


def test_without_pyjwt_it_says_what_to_install(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "jwt.py").write_text("raise ModuleNotFoundError(\"No module named 'jwt'\", name='jwt')")
    flags = ("--auth", "jwt", "--jwt-key-file", "secret")
    done = said(tmp_path, "serve", *flags, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert (done.returncode, json.dumps(done.stderr).count("trialogue[auth]")) == (2, 1)
