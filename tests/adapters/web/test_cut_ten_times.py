"""The client library over a wire that is cut ten times during an answer: in node and in Chromium, on a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from support import node
from support.fault_proxy import cuttable
from support.raw_client import fresh
from support.server import Server, running
from support.services import SOURCE
from trialogue_adapters import web

pytestmark = pytest.mark.slow

CUTS = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("cuts"), "hypercorn", ("--linger", "5")) as server:
        yield server


def cut_often(words: Iterator[str], cut: Callable[[], None]) -> None:
    """Cut when a token has come over each new connection, ten times, while the first answer goes on."""
    for _ in range(CUTS):
        assert any(word == "ready" for word in words), "it did not come back"
        assert next(words) == "token", "the answer was over too soon"
        cut()


def check(found: dict[str, Any]) -> None:
    text = "".join(f"t{n} " for n in range(500))
    assert (found["ending"], found["nothingMissing"]) == ("stop", True)
    assert found["text"] == found["iterated"] == text
    assert found["sources"] == [SOURCE]
    seen = found["seen"]
    assert seen["ending"] == "cancelled"
    assert seen["text"] == found["iteratedUntilCancelled"] == "".join(f"t{n} " for n in range(seen["tokens"]))
    assert seen["tokens"] >= 40
    receipt = seen["receipt"]
    assert receipt["generated"] >= receipt["sent"] == seen["tokens"]
    assert receipt["acked"] >= 1
    assert receipt["upstream"] == "closed"


def test_in_node(server: Server) -> None:
    folder = node.with_packages()
    with cuttable(server) as (port, cut):
        url = f"ws://127.0.0.1:{port}/chat-ws?session_id={fresh('node')}"
        words = [node.command(), folder / "cuts.mjs", web.CLIENT / "trialogue.js", url]
        with subprocess.Popen(words, env=node.environment(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            lines = (line.strip() for line in process.stdout)
            cut_often(lines, cut)
            *_, last = lines
            assert process.wait(10) == 0
    check(json.loads(last))


@pytest.mark.browser
def test_in_chromium(server: Server, new_context: Callable[..., Any]) -> None:
    page = new_context().new_page()
    heard: list[str] = []
    page.expose_function("say", lambda word: heard.append(word))
    with cuttable(server) as (port, cut):
        origin = f"127.0.0.1:{port}"
        script = (node.JS / "cuts.mjs").read_text()
        page.route("**/cuts.mjs", lambda route: route.fulfill(body=script, content_type="text/javascript"))
        page.goto(f"http://{origin}/livez")  # of the server itself: Chromium lets no made-up page reach 127.0.0.1
        page.evaluate(
            """async (url) => {
              const { connect } = await import("/static/trialogue.js"), { talk } = await import("/cuts.mjs");
              window.talking = talk({ connect, url, say });
            }""",
            f"ws://{origin}/chat-ws?session_id={fresh('chromium')}",
        )
        cut_often(words_of(page, heard), cut)
        found = page.evaluate("talking")
    check(found)


def words_of(page: Any, heard: list[str]) -> Generator[str]:
    """What the page says, as it says it: its calls are served while we wait."""
    for number in range(10_000):
        for _ in range(1_000):
            if len(heard) > number:
                break
            page.wait_for_timeout(10)
        else:
            pytest.fail("the page says nothing more")
        yield heard[number]
