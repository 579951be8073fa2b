"""`grounding.py`: what a model's server is sent when the documents stand in front of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trialogue_adapters.bridges.openai import Question
from trialogue_adapters.bridges.upstream import TurnFailed
from trialogue_adapters.grounding import Grounding
from trialogue_adapters.history import Turn

LONG = "The fox of this village is called Quillon. " * 50


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "fox.md").write_text(f"# Foxes\n\n{LONG}\n")


@asynccontextmanager
async def grounded(folder: Path) -> AsyncGenerator[Grounding]:
    grounding = Grounding(folder / "docs")
    await grounding.start()
    yield grounding
    await grounding.aclose()


TURNS = [Turn("hello", "Good day.", "completed"), Turn("and?", "I was", "interrupted")]


async def test_passages_are_numbered_as_the_sources_are_and_the_conversation_follows(tmp_path: Path) -> None:
    async with grounded(tmp_path) as grounding:
        assert "1 documents" in grounding.describe()
        prompt = await grounding(Question("What is the fox called?", "s", {}, TURNS))
    system, *rest = prompt.messages
    assert "[1] Foxes\nThe fox of this village is called Quillon." in system["content"]
    assert rest == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "I was …"},
        {"role": "user", "content": "What is the fox called?"},
    ]
    assert [(source["title"], source["citation"]) for source in prompt.sources or ()] == [("Foxes", 1)]


async def test_a_brief_one_leaves_out_the_conversation_and_most_of_the_passages(tmp_path: Path) -> None:
    async with grounded(tmp_path) as grounding:
        prompt = await grounding(Question("What is the fox called?", "s", {}, TURNS, brief=True))
    assert len(prompt.messages) == 2
    assert len(prompt.messages[0]["content"]) < 600
    assert prompt.sources


async def test_of_a_question_that_the_documents_do_not_know_the_model_is_told_so(tmp_path: Path) -> None:
    async with grounded(tmp_path) as grounding:
        prompt = await grounding(Question("zxcvb qwerty", "s", {}, ()))
    assert "hold nothing" in prompt.messages[0]["content"]
    assert prompt.sources == []


async def test_an_option_that_is_not_valid_fails_the_turn_in_words(tmp_path: Path) -> None:
    async with grounded(tmp_path) as grounding:
        with pytest.raises(TurnFailed, match="top_k") as caught:
            await grounding(Question("fox", "s", {"top_k": 99}, ()))
    assert caught.value.code == "RAG-400"


async def test_a_start_that_is_cancelled_stops_indexing(tmp_path: Path) -> None:
    seen = []
    with trio.CancelScope() as scope:
        grounding = Grounding(tmp_path / "docs", lambda done, total: seen.append(done))
        trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
        await grounding.start()
    assert scope.cancelled_caught
    await grounding.start()
    await grounding.aclose()
