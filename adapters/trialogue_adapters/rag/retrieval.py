"""What the documents say about a question: the index, opened, searched and closed. It blocks; call it in a thread.

One thread at a time, any of them. It belongs to no loop, so that an asyncio service and a Trio one can both stand
behind it. What is made of the hits (an extract, a prompt) is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trialogue_adapters.history import Turn

from .errors import RagError
from .extractive import relevant
from .index import Hit, Index, Progress, Size
from .store import default_path

TOP_K = 4
MAX_TOP_K = 10


def read_top_k(options: Mapping[str, Any] | None) -> int | None:
    """The option `top_k`, or its default; None if it is not valid."""
    value = (options or {}).get("top_k", TOP_K)
    valid = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOP_K
    return value if valid else None


class Retrieval:
    """docs: a folder; None is our own documentation and Python's topics. index_path: by default in the user's cache."""

    def __init__(self, docs: Path | None = None, index_path: Path | None = None) -> None:
        self._docs = docs
        self._path = index_path
        self._index: Index | None = None

    def __repr__(self) -> str:
        return f"<Retrieval {self._index or 'closed'}>"

    @property
    def opened(self) -> bool:
        return self._index is not None

    @property
    def size(self) -> Size:
        return self._opened().size

    def describe(self) -> str:
        """For the person who started it; it may name paths, so it is not for clients."""
        index = self._opened()
        where = str(self._docs) if self._docs is not None else "our own docs and Python's topics"
        kept = "" if index.persistent else ", index in memory"
        return f"{index.size.documents} documents, {index.size.passages} passages from {where}{kept}"

    def open(self, progress: Progress | None = None) -> None:
        """Bring the index up to date; again is a no-op. Raises RagError, and what `progress` raises to stop it."""
        if self._index is not None:
            return
        index = Index(self._docs, self._path or default_path(self._docs))
        try:
            index.sync(progress)
        except BaseException:
            index.close()
            raise
        self._index = index

    def find(self, question: str, turns: Sequence[Turn], top_k: int) -> tuple[list[Hit], Mapping[str, float]]:
        """The relevant passages, best first, and what each term of the question weighs. Raises RagError once closed.

        A follow-up that leaves out its subject is searched together with the question before it.
        """
        index = self._opened()
        found = index.search(question, MAX_TOP_K)
        hits = relevant(found.hits)[:top_k]
        if not hits and turns:
            found = index.search(f"{turns[-1].question} {question}", MAX_TOP_K)
            hits = relevant(found.hits)[:top_k]
        return hits, found.weights

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
        self._index = None

    def _opened(self) -> Index:
        if self._index is None:
            raise RagError("the embedded service is closed")
        return self._index
