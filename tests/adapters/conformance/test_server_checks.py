"""The checks of servers: both of our listeners hold them; each way to be wrong is found by the check that is for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from support.sabotage import Frame, Sabotage, sabotaged
from support.server import Server, running
from trialogue_adapters.conformance.command import CHECKS, check_server, main
from trialogue_adapters.conformance.link import Target
from trialogue_adapters.conformance.report import Finding
from trialogue_adapters.conformance.server_checks import Check

SERVICE = "trialogue_adapters.conformance.service:stream"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("good"), "hypercorn", service=SERVICE) as server:
        yield server


def command(*words: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-m", "trialogue_adapters", "conformance", *words)
    return subprocess.run(words, capture_output=True, text=True, timeout=40, check=False)


@pytest.mark.parametrize("listener", ["hypercorn", pytest.param("trio-websocket", marks=pytest.mark.slow)])
def test_our_listeners_hold_every_check(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener, service=SERVICE) as server:
        done = command(server.address, "--json")
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if check["failure"]] == []
    assert (done.returncode, report["held"], report["failed"]) == (0, len(CHECKS), 0)


# ── Servers that are wrong ───────────────────────────────────────────────────────────────────────────────────────


class LosesAToken(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [] if frame.get("index") == 3 else [frame]


class RepeatsAToken(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [frame, frame] if frame.get("index") == 3 else [frame]


class EndsTwice(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [frame, frame] if frame["type"] == "stream_end" else [frame]


class Miscounts(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [{**frame, "total_tokens": 7} if "total_tokens" in frame else frame]


class HidesItsSources(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [] if frame["type"] == "stream_sources" else [frame]


class SortsItsKeys(Sabotage):
    def write(self, frame: Frame) -> str:
        return json.dumps(dict(sorted(frame.items())), separators=(",", ":"))


class IsNotCompact(Sabotage):
    def write(self, frame: Frame) -> str:
        return json.dumps(frame)


class Chats(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [{"type": "presence", "connections": 1}, frame]


class IsDeafToCancels(Sabotage):
    def up(self, frame: Frame) -> list[Frame]:
        return [] if frame.get("type") == "cancel" else [frame]


class LetsATokenThrough(Sabotage):
    """Of a turn that has ended."""

    def down(self, frame: Frame) -> list[Frame]:
        late = {"type": "stream_token", "message_id": frame.get("message_id"), "token": "late", "index": 99}
        return [frame, late] if frame["type"] == "stream_end" else [frame]


class OnlyInterrupts(Sabotage):
    def up(self, frame: Frame) -> list[Frame]:
        return [{**frame, "on_busy": "interrupt"} if "content" in frame else frame]


class NeverInterrupts(Sabotage):
    def up(self, frame: Frame) -> list[Frame]:
        return [{**frame, "on_busy": "enqueue"} if "content" in frame else frame]


class ForgetsPositions(Sabotage):
    def query(self, query: str) -> str:
        return "&".join(field for field in query.split("&") if not field.startswith("after="))


class CountsFromNought(Sabotage):
    """Its offsets all are the same."""

    def down(self, frame: Frame) -> list[Frame]:
        return [{**frame, "offset": 1} if "offset" in frame else frame]


class IgnoresAcks(Sabotage):
    def up(self, frame: Frame) -> list[Frame]:
        return [] if frame.get("type") == "ack" else [frame]


class AnswersPingsLate(Sabotage):
    """As a server that does not read while it streams."""

    def __init__(self) -> None:
        self._pings: list[Frame] = []

    def down(self, frame: Frame) -> list[Frame]:
        if frame["type"] == "pong":
            self._pings.append(frame)
            return []
        return [frame, *self._pings] if frame["type"] == "stream_end" else [frame]


class SpeaksEnglishOnly(Sabotage):
    def query(self, query: str) -> str:
        return query.replace("lang=ko", "lang=en")


class AnswersCancelsEarly(Sabotage):
    def __init__(self) -> None:
        self._end: list[Frame] = []

    def down(self, frame: Frame) -> list[Frame]:
        if frame["type"] == "stream_end":
            self._end = [frame]
            return []
        held, self._end = self._end, []
        return [frame, *held]


class IgnoresFarewells(Sabotage):
    farewell = False


class ClosesAsItLikes(Sabotage):
    code = 1011


class TellsWrongReceipts(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [{**frame, "sent": 0} if frame["type"] == "stream_receipt" else frame]


class ForgetsTheQuestion(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [] if frame["type"] == "user_message" else [frame]


class NamesNoSolution(Sabotage):
    def down(self, frame: Frame) -> list[Frame]:
        return [{**frame, "solutions": []} if "solutions" in frame else frame]


class LetsEverybodyIn(Sabotage):
    def query(self, query: str) -> str:
        return "session_id=ok"


WRONG: dict[type[Sabotage], tuple[str, ...]] = {
    LosesAToken: ("five-events",),
    RepeatsAToken: ("five-events",),
    EndsTwice: ("nothing-unasked",),
    Miscounts: ("five-events", "a-failing-pipeline"),
    HidesItsSources: ("five-events", "an-empty-answer"),
    SortsItsKeys: ("five-events",),
    IsNotCompact: ("five-events", "session-ready"),
    Chats: ("nothing-unasked",),
    IsDeafToCancels: ("cancel", "cancel-all"),
    LetsATokenThrough: ("cancel",),
    OnlyInterrupts: ("enqueue", "reject", "rollback"),
    NeverInterrupts: ("interrupt",),
    ForgetsPositions: ("resume", "replay", "a-gap"),
    CountsFromNought: ("a-turn-s-life",),
    IgnoresAcks: ("acks",),
    AnswersPingsLate: ("a-pong-in-mid-answer",),
    SpeaksEnglishOnly: ("two-languages",),
    AnswersCancelsEarly: ("cancel-results",),
    IgnoresFarewells: ("leaving",),
    ClosesAsItLikes: ("a-binary-frame", "a-frame-that-is-too-big"),
    TellsWrongReceipts: ("a-turn-s-life",),
    ForgetsTheQuestion: ("attach", "a-turn-s-life"),
    NamesNoSolution: ("invalid-frames",),
    LetsEverybodyIn: ("handshakes",),
}


async def findings_for(port: int, names: Collection[str]) -> list[Finding]:
    """What each of these checks finds there, all at once: each has sessions of its own."""
    findings: list[Finding] = []

    async def run(check: Check) -> None:
        findings.extend(await check_server(Target.at(f"ws://127.0.0.1:{port}", 1.5), [check]))

    async with trio.open_nursery() as nursery:
        for check in CHECKS:
            if check.name in names:
                nursery.start_soon(run, check)
    return findings


async def test_the_proxy_itself_does_no_harm(good: Server) -> None:
    named = {name for names in WRONG.values() for name in names}
    async with sabotaged(good.port, Sabotage) as port:
        found = await findings_for(port, named)
    assert len(found) == len(named)
    assert [finding for finding in found if finding.failure] == []


@pytest.fixture(scope="module")
def found(good: Server) -> dict[type[Sabotage], list[Finding]]:
    """Of each wrong server, which are all asked at once: most of the time they make a check wait for nothing."""
    findings: dict[type[Sabotage], list[Finding]] = {}

    async def meet(sabotage: type[Sabotage]) -> None:
        async with sabotaged(good.port, sabotage) as port:
            findings[sabotage] = await findings_for(port, WRONG[sabotage])

    async def meet_all() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for sabotage in WRONG:
                    nursery.start_soon(meet, sabotage)

    trio.run(meet_all)
    return findings


@pytest.mark.parametrize("sabotage", WRONG, ids=lambda sabotage: str(sabotage.__name__))
def test_a_wrong_server_is_found(found: dict[type[Sabotage], list[Finding]], sabotage: type[Sabotage]) -> None:
    assert len(found[sabotage]) == len(WRONG[sabotage])
    assert [finding.name for finding in found[sabotage] if finding.failure is None] == []


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_there_is_a_failure_of_each_check() -> None:
    done = command("ws://127.0.0.1:9", "--only", "cancel", "--only", "replay")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1] == "1..2"
    assert done.stdout.count("\nnot ok ") == 2


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("ftp://host",),
        ("ws://host?x=1",),
        ("ws://host", "--serve"),
        ("ws://host", "--only", "nothing"),
        ("--port",),
    ],
)
def test_what_cannot_be_meant_is_said(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_list_names_every_check(capsys: Any) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in listed][: len(CHECKS)] == [check.name for check in CHECKS]
