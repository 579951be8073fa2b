"""What the tests of the embedded service share: a folder of documents, a throw-away cache, drained streams."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trialogue_adapters.rag import EmbeddedChatService


def write(path: Path, text: str, *, age: float = 3600) -> Path:
    """A file that is old enough for its time to be trusted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    write(
        folder / "refunds.md",
        "# Refunds\n\nA refund is paid back within fourteen days. It goes to the card that paid.\n\n"
        "## Deadlines\n\nAsk for a refund before the end of the month. Later requests are refused by the office.\n",
    )
    write(
        folder / "guide" / "shipping.txt", "Parcels leave the warehouse at noon.\n\nThey travel by train to the coast."
    )
    write(folder / "ko.md", "# 환불 안내\n\n환불은 십사 일 안에 카드로 돌려 드립니다. 배송비는 돌려 드리지 않습니다.\n")
    return folder


@pytest.fixture
def make(docs: Path) -> Callable[..., EmbeddedChatService]:
    def make(**arguments: Any) -> EmbeddedChatService:
        return EmbeddedChatService(**{"docs": docs, "answer": "extractive", **arguments})

    return make


async def drain(service: EmbeddedChatService, message: str, session: str = "s", **options: Any) -> list[dict[str, Any]]:
    return [event async for event in service.stream_rag_pipeline(message, session, options)]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["data"] for event in events if event["event"] == "chunk")
