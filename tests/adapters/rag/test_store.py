from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from trialogue_adapters.rag import IndexFileError
from trialogue_adapters.rag.store import SCHEMA_VERSION, default_path, open_store


def test_the_default_lies_in_the_users_cache_and_differs_by_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = default_path(tmp_path)
    assert path.parent == tmp_path / "cache" / "trialogue"
    assert path.suffix == ".sqlite"
    assert path != default_path(None) != default_path(tmp_path / "x")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path(tmp_path).parent == tmp_path / "home" / ".cache" / "trialogue"


def test_a_place_that_cannot_be_written_means_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    db, persistent = open_store(tmp_path / "file" / "x.sqlite")
    with closing(db):
        assert not persistent
        assert db.execute("SELECT count(*) FROM passages").fetchone() == (0,)


def test_garbage_is_moved_aside_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"this is no database" * 100)
    db, persistent = open_store(path)
    with closing(db):
        assert persistent
    assert path.with_name("x.sqlite.corrupt").read_bytes().startswith(b"this is no database")


def test_a_healthy_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE precious (x)")
        db.commit()
    with pytest.raises(IndexFileError, match="something else"):
        open_store(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]


def test_another_version_of_the_schema_is_built_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    db, _ = open_store(path)
    with closing(db):
        db.execute("INSERT INTO documents VALUES (1, 'a', 'a', 1, 1, 'x')")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db, _ = open_store(path)
    with closing(db):
        assert db.execute("SELECT count(*) FROM documents").fetchone() == (0,)
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
