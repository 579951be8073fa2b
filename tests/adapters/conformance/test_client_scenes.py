"""The scenes for clients: our own client survives them, so does the smallest one; without a habit, it is found out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import trio

from support import node, small_client
from trialogue_adapters import web
from trialogue_adapters.conformance.client_scenes import SCENES, judge_client
from trialogue_adapters.conformance.report import Finding


def test_our_client_survives_every_scene() -> None:
    """In node, before the command as a person calls it."""
    folder = node.with_packages()
    words = [sys.executable, "-m", "trialogue_adapters", "conformance", "--serve", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as judge:
        assert judge.stdout
        url = judge.stdout.readline().strip().removeprefix("listening on ")
        node.run(folder / "conformance.mjs", web.CLIENT / "trialogue.js", url)
        report = json.loads(judge.stdout.read())
    assert [check for check in report["checks"] if check["failure"]] == []
    assert (judge.returncode, report["held"]) == (0, len(SCENES))


async def judged(*faults: str, only: tuple[str, ...] = ()) -> dict[str, Finding]:
    """What is found of the smallest client with these faults."""
    address: list[str] = []
    findings: list[Finding] = []
    async with trio.open_nursery() as nursery:

        async def judge() -> None:
            findings.extend(await judge_client(0, 1.5, only, address.append))
            nursery.cancel_scope.cancel()

        nursery.start_soon(judge)
        with trio.fail_after(5):
            while not address:
                await trio.sleep(0.01)
        try:
            await small_client.SmallClient(address[0], set(faults)).run()
        except* small_client.Gone:
            pass
        await trio.sleep_forever()
    return {finding.name: finding for finding in findings}


async def test_the_smallest_client_survives_every_scene() -> None:
    found = await judged()
    assert len(found) == len(SCENES)
    assert [finding for finding in found.values() if finding.failure] == []


FAULTS = {
    "comes-back": "drops",
    "tells-its-position": "drops",
    "skips-what-it-has": "told-again",
    "starts-anew": "a-restart",
    "asks-again": "a-lost-message",
    "keeps-the-id": "a-lost-message",
    "waits-as-told": "a-goaway",
    "stays-away": "a-final-close",
    "tells-turns-apart": "another-s-turn",
    "ignores-the-unknown": "the-unknown",
    "knows-errors": "an-error",
    "forgets-refusals": "a-refusal",
    "speaks-v1": "an-answer",
    "acks-what-it-has": "an-answer",
}


def test_every_habit_has_its_scene() -> None:
    assert set(FAULTS) == small_client.HABITS


@pytest.mark.parametrize(("habit", "scene"), FAULTS.items())
async def test_a_client_without_a_habit_is_found_out(habit: str, scene: str) -> None:
    found = await judged(habit, only=(scene,))
    assert found[scene].failure


async def test_who_never_comes_is_told_so(autojump_clock: trio.testing.MockClock) -> None:
    first, *others = await judge_client(0, 1.0)
    assert "no client came within 60 s" in str(first.failure)
    assert {finding.failure for finding in others} == {"not reached"}
