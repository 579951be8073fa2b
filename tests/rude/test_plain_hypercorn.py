"""A plain hypercorn: what it says of itself when it starts, and what it is then (`deployment.harden_host`)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.raw_client import open_wire, request
from support.server import PLAIN, running
from trialogue_adapters import deployment
from trialogue_adapters.settings import Settings

BAD_KEY = request("/chat-ws?session_id=a", {"Sec-WebSocket-Key": "short"})
"""Stock hypercorn takes any key; and unlike much else, this one it survives."""


@pytest.mark.parametrize(
    ("variables", "line", "status"),
    [
        ({}, "trialogue: hardened this hypercorn 0.18.0", 400),
        ({"TRIALOGUE_HARDEN": "0"}, "trialogue: warning: this hypercorn is not hardened", 101),
    ],
    ids=["by default", "told not to"],
)
async def test_a_plain_hypercorn_says_in_one_line_what_it_is(
    tmp_path: Path, variables: dict[str, str], line: str, status: int
) -> None:
    with running(tmp_path, PLAIN, variables=variables) as server:
        ours = [text for text in server.log().splitlines() if text.startswith("trialogue:")]
        assert len(ours) == 1
        assert ours[0].startswith(line)
        async with open_wire(server) as wire:
            await wire.send(BAD_KEY)
            assert (await wire.head())[0] == status


async def test_every_worker_hardens_itself(tmp_path: Path) -> None:
    with running(tmp_path, PLAIN, ("--workers", "2")) as server:
        for _ in range(8):
            async with open_wire(server) as wire:
                await wire.send(BAD_KEY)
                assert (await wire.head())[0] == 400


def test_a_version_that_we_do_not_know_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import hypercorn.trio.run

    stock = hypercorn.trio.run.TCPServer
    monkeypatch.setattr(deployment, "version", lambda package: "0.19.0")
    deployment.harden_host(Settings())
    assert capsys.readouterr().err.startswith("trialogue: warning: hypercorn 0.19.0 is not 0.18.0")
    assert hypercorn.trio.run.TCPServer is stock


def test_another_server_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "hypercorn.trio.run", raising=False)
    deployment.harden_host(Settings())
    assert capsys.readouterr().err == ""
