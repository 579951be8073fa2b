"""`rag/retrieval.py`: opened, searched and closed from threads that come and go."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from trialogue_adapters.history import Turn
from trialogue_adapters.rag import RagError, Retrieval
from trialogue_adapters.rag.retrieval import read_top_k


def in_a_thread(call: Any, *args: Any) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call(*args)))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("kept", [True, False])
def test_any_thread_may_open_search_and_close_it(docs: Path, tmp_path: Path, kept: bool) -> None:
    path = tmp_path / "index.sqlite" if kept else Path("/proc/nowhere/index.sqlite")
    retrieval = Retrieval(docs, path)
    assert not retrieval.opened
    in_a_thread(retrieval.open)
    hits, weights = in_a_thread(retrieval.find, "When is a refund paid?", (), 2)
    assert hits[0].document == "refunds.md"
    assert weights
    assert retrieval.size.documents == 3
    assert ("in memory" in retrieval.describe()) is not kept
    assert "3 documents" in repr(retrieval)
    in_a_thread(retrieval.close)
    with pytest.raises(RagError, match="closed"):
        retrieval.find("refund", (), 2)


def test_a_follow_up_is_searched_with_the_question_before_it(docs: Path, tmp_path: Path) -> None:
    retrieval = Retrieval(docs, tmp_path / "index.sqlite")
    retrieval.open()
    assert retrieval.find("and why?", (), 2)[0] == []
    turns = [Turn("When is a refund paid?", "Within fourteen days.", "completed")]
    assert retrieval.find("and why?", turns, 2)[0][0].document == "refunds.md"
    retrieval.close()


def test_what_progress_raises_stops_it_and_it_can_be_opened_later(docs: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError

    retrieval = Retrieval(docs, tmp_path / "index.sqlite")
    with pytest.raises(InterruptedError):
        retrieval.open(stop)
    assert not retrieval.opened
    retrieval.open()
    retrieval.open(stop)  # a no-op
    retrieval.close()


@pytest.mark.parametrize(("options", "top_k"), [(None, 4), ({}, 4), ({"top_k": 10}, 10), ({"top_k": 1}, 1)])
def test_how_many_are_wanted(options: Any, top_k: int) -> None:
    assert read_top_k(options) == top_k


@pytest.mark.parametrize("value", [0, 11, "3", 2.0, True, None])
def test_how_many_nobody_can_want(value: Any) -> None:
    assert read_top_k({"top_k": value}) is None
