"""The searchable index of a documents folder: SQLite FTS5 finds candidates, a small BM25 here ranks and scores them.

Why not FTS5's own `bm25()` for the score: its weight of a word sinks to nothing when half of the passages hold the
word, so a folder of three files, or a question about `with`, would score 0. Here a word weighs ln(1 + (N-n+½)/(n+½)),
always above zero, and words of a title are counted apart (they are stored with a prefix that no text can contain).
An index is used by one thread at a time; it knows nothing of sessions, languages or answers.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .documents import Found, digest, find_documents, split
from .store import open_store, set_aside
from .text import is_korean, query_terms, tokens

Progress = Callable[[int, int], None]

BATCH = 32  # documents per transaction: an interrupted first run keeps what it did
CANDIDATES = 64
MAX_TERMS = 48
RACY_NS = 2_000_000_000
K1, B = 1.2, 0.75
TITLE_WEIGHT = 1.6
LEAD_WEIGHT = 0.4
SMALLEST_CORPUS = 200  # a folder of five passages is weighed as if it stood in one of 200: see `_weigh`
TITLE_MARK = "\ue000"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that answers, with `score` in 0..1 (see `Index.search`)."""

    document: str
    title: str
    body: str
    score: float


@dataclass(frozen=True, slots=True)
class Answerable:
    """What a search found, and how much each term of the question weighs in this corpus."""

    hits: tuple[Hit, ...]
    weights: dict[str, float]


@dataclass(frozen=True, slots=True)
class Size:
    documents: int
    passages: int


class Index:
    """Use it from one thread at a time. `close()` when done."""

    def __init__(self, docs: Path | None, path: Path | None) -> None:
        self._docs = docs
        self._path = path
        self._db, self.persistent = open_store(path)
        self._vocabulary()
        self._size = Size(0, 0)
        self._mean_words = 1.0

    def __repr__(self) -> str:
        where = "on disk" if self.persistent else "in memory"
        return f"<Index {where}, {self._size.documents} documents, {self._size.passages} passages>"

    @property
    def size(self) -> Size:
        return self._size

    def sync(self, progress: Progress | None = None) -> int:
        """Bring the index up to date with the folder; how many documents had to be cut anew.

        Read only if size or time differ, cut only if the content does. A damaged file is set aside and built again; one
        that cannot be written is left alone, and the index is built in memory.
        Stopping half-way leaves a usable index that the next run completes.
        """
        found = find_documents(self._docs)
        try:
            changed = self._sync(found, progress)
        except sqlite3.OperationalError:  # no room, no right to write, or locked for a minute
            self._reopen(None)
            changed = self._sync(found, progress)
        except sqlite3.DatabaseError:  # damaged
            self._reopen(self._path, damaged=self.persistent)
            changed = self._sync(found, progress)
        self._measure()
        return changed

    def search(self, question: str, limit: int) -> Answerable:
        """The best passages for a question, best first; the same text in two documents counts once.

        score = e / (e + r): r is the weight of all that was asked (an unknown word weighs most), e the evidence of the
        passage: BM25 over its words, plus TITLE_WEIGHT times the weight of each asked word in its trail of headings,
        plus a little for the first passage under a heading that was asked for. So 0.5 says: as if each word asked
        stood once in a passage of average length. The score grows with the evidence and stays below 1.
        """
        terms, body_only = query_terms(question)
        weights = self._weigh(terms)
        known = sorted((term for term, (n, _) in weights.items() if n), key=lambda term: weights[term][0])[:MAX_TERMS]
        asked = sum(weight for _, weight in weights.values())
        marked = self._weigh([TITLE_MARK + term for term in known if term not in body_only])
        titles = {term: weight for term, (n, weight) in marked.items() if n}
        best: dict[str, Hit] = {}
        for document, title, body, lead, heads, words in self._candidates([*known, *titles]):
            counts = Counter(words.split())
            damp = K1 * (1 - B + B * counts.total() / self._mean_words)
            evidence = sum(weights[t][1] * counts[t] * (K1 + 1) / (counts[t] + damp) for t in known if counts[t])
            named = sum(titles.get(head, 0.0) for head in set(heads.split()))
            evidence += TITLE_WEIGHT * named + LEAD_WEIGHT * min(named, asked) * lead
            hit = Hit(document, title, body, round(evidence / (evidence + asked), 4))
            if body not in best or _rank(hit) < _rank(best[body]):
                best[body] = hit
        hits = sorted(best.values(), key=_rank)[:limit]
        return Answerable(tuple(hits), {term: weights[term][1] for term in known})

    def close(self) -> None:
        self._db.close()

    # Bringing it up to date.

    def _sync(self, found: list[Found], progress: Progress | None) -> int:
        known = {row[0]: row[1:] for row in self._rows("SELECT name, size, mtime_ns, sha256 FROM documents")}
        names = {doc.name for doc in found}
        with self._transaction():
            for name in known.keys() - names:
                self._remove(name)
        due = [doc for doc in found if known.get(doc.name, ())[:2] != (doc.size, doc.mtime_ns) or doc.path is None]
        changed = 0
        for start in range(0, len(due), BATCH):
            with self._transaction():
                for i, doc in enumerate(due[start : start + BATCH], start + 1):
                    changed += self._put(doc, known.get(doc.name))
                    if progress is not None and doc.path is not None:
                        progress(i, len(due))
        return changed

    def _put(self, doc: Found, known: tuple[int, int, str] | None) -> bool:
        try:
            text = doc.read()
        except OSError:  # vanished since it was found: the next run drops it
            return False
        sha256 = digest(text)
        # An edit within the resolution of the clock leaves size and time alone: a fresh file is looked at once more.
        fresh = doc.path is not None and time.time_ns() - doc.mtime_ns < RACY_NS
        mtime_ns = -1 if fresh else doc.mtime_ns
        if known is not None and known[2] == sha256:
            self._db.execute(
                "UPDATE documents SET size = ?, mtime_ns = ? WHERE name = ?", (doc.size, mtime_ns, doc.name)
            )
            return False
        self._remove(doc.name)
        title, passages = split(doc.name, text)
        row = self._db.execute(
            "INSERT INTO documents (name, title, size, mtime_ns, sha256) VALUES (?, ?, ?, ?, ?)",
            (doc.name, title, doc.size, mtime_ns, sha256),
        )
        for passage in passages:
            body = list(tokens(passage.body))
            new = self._db.execute(
                "INSERT INTO passages (document_id, title, body, words, lead) VALUES (?, ?, ?, ?, ?)",
                (row.lastrowid, passage.title, passage.body, len(body), passage.lead),
            )
            heads = " ".join(TITLE_MARK + term for term in tokens(passage.title))
            self._db.execute(
                "INSERT INTO words (rowid, title, body) VALUES (?, ?, ?)", (new.lastrowid, heads, " ".join(body))
            )
        return True

    def _remove(self, name: str) -> None:
        for (identity,) in self._rows("SELECT id FROM documents WHERE name = ?", name):
            self._db.execute(
                "DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE document_id = ?)", (identity,)
            )
            self._db.execute("DELETE FROM passages WHERE document_id = ?", (identity,))
            self._db.execute("DELETE FROM documents WHERE id = ?", (identity,))

    def _reopen(self, path: Path | None, *, damaged: bool = False) -> None:
        self._db.close()
        if path is not None and damaged:
            set_aside(path)
        self._db, self.persistent = open_store(path)
        self._vocabulary()

    # Asking it.

    def _vocabulary(self) -> None:
        self._db.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab (main, words, row)")

    def _weigh(self, terms: list[str]) -> dict[str, tuple[int, float]]:
        """For each term: in how many passages it stands, and its weight.

        A pair of Hangul syllables weighs half: a Korean word makes several, and its particle makes one of them. In a
        tiny corpus every word is in "half of the passages", so a few unknown words would outweigh all that is known.
        """
        corpus = max(self._size.passages, SMALLEST_CORPUS)
        weighed = {}
        for term in terms:
            n = next((row[0] for row in self._rows("SELECT doc FROM vocabulary WHERE term = ?", term)), 0)
            weight = math.log(1 + max(0.0, corpus - n + 0.5) / (n + 0.5))
            weighed[term] = (n, weight / 2 if is_korean(term) else weight)
        return weighed

    def _candidates(self, terms: list[str]) -> Iterator[tuple[str, str, str, int, str, str]]:
        if not terms:
            return iter(())
        match = " OR ".join(f'"{term}"' for term in terms)  # letters, digits and our mark only: see text.tokens
        return self._rows(
            "SELECT documents.name, passages.title, passages.body, passages.lead, found.title, found.body FROM"
            " (SELECT rowid, title, body FROM words WHERE words MATCH ? ORDER BY bm25(words, 2.0, 1.0) LIMIT ?)"
            " AS found"
            " JOIN passages ON passages.id = found.rowid JOIN documents ON documents.id = passages.document_id",
            match,
            CANDIDATES,
        )

    def _measure(self) -> None:
        documents = next(self._rows("SELECT count(*) FROM documents"))[0]
        passages, mean = next(self._rows("SELECT count(*), avg(words) FROM passages"))
        self._size = Size(documents, passages)
        self._mean_words = mean or 1.0

    def _rows(self, query: str, *values: object) -> Iterator[Any]:
        with closing(self._db.execute(query, values)) as cursor:
            return iter(cursor.fetchall())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _rank(hit: Hit) -> tuple[float, int, str, str]:
    return (-hit.score, len(hit.title), hit.document, hit.title)
