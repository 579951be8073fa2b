"""The index file: where it lies, how it is opened, and what is done when it is broken or somebody else's.

It is a cache, so a corrupt one is moved aside and built again, one that cannot be written becomes a database in
memory, and neither ever stops a server. But a file that is healthy and not ours is never touched: that is an error.
Processes may share a file: WAL lets them read while one writes, and writers wait for each other.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

from .errors import IndexFileError

APPLICATION_ID = 0x7472_6961
SCHEMA_VERSION = 1
BUSY_SECONDS = 60.0

_SCHEMA = """
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, title TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL
);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY, document_id INTEGER NOT NULL REFERENCES documents (id),
    title TEXT NOT NULL, body TEXT NOT NULL, words INTEGER NOT NULL, lead INTEGER NOT NULL
);
CREATE INDEX passages_by_document ON passages (document_id);
CREATE VIRTUAL TABLE words USING fts5 (title, body, tokenize = 'unicode61 remove_diacritics 0');
"""
_TABLES = ("words", "passages", "documents")


def default_path(docs: Path | None) -> Path:
    """One file per documents folder; Python's own topics differ between versions, so the default has one for each."""
    version = ".".join(map(str, sys.version_info[:2]))
    key = str(docs.resolve()) if docs is not None else f"{Path(__file__).resolve().parent}\0{version}"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if Path(cache).is_absolute() else Path("~").expanduser() / ".cache"
    return root / "trialogue" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.sqlite"


def open_store(path: Path | None) -> tuple[sqlite3.Connection, bool]:
    """(a connection with the schema in place, whether it is a file): without a path or a way to write, in memory.

    Any thread may use it, one at a time: Trio's worker threads come and go.
    """
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return _open_file(path), True
        except OSError:
            pass
        except sqlite3.OperationalError:  # cannot be opened or written: also what a read-only folder says
            pass
        except sqlite3.DatabaseError:  # "file is not a database", "database disk image is malformed"
            set_aside(path)
            with suppress(OSError, sqlite3.Error):
                return _open_file(path), True
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _ensure_schema(connection)
    return connection, False


def set_aside(path: Path) -> None:
    """Make room for a new file; the broken one is kept once, in case it was somebody's."""
    with suppress(OSError):
        path.replace(path.with_name(path.name + ".corrupt"))
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink()


def clear(connection: sqlite3.Connection) -> None:
    """Drop whatever of our tables there is; inside the caller's transaction."""
    for table in _TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {table}")


def _open_file(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # a cache: after a power cut it may be a little old, not broken
        _ensure_schema(connection, path)
        _check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _ensure_schema(connection: sqlite3.Connection, path: Path | None = None) -> None:
    connection.execute("BEGIN IMMEDIATE")  # two processes that start together must not both create the tables
    try:
        application = _pragma(connection, "application_id")
        with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as cursor:
            empty = cursor.fetchone()[0] == 0
        if application != APPLICATION_ID and not empty:
            raise IndexFileError(f"{path} is a SQLite database of something else: choose another index path")
        if empty or _pragma(connection, "user_version") != SCHEMA_VERSION:
            clear(connection)
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection) -> None:
    with closing(connection.execute("PRAGMA quick_check(1)")) as cursor:
        verdict = cursor.fetchone()
    if verdict is None or verdict[0] != "ok":
        raise sqlite3.DatabaseError(f"quick_check: {verdict}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    with closing(connection.execute(f"PRAGMA {name}")) as cursor:
        return int(cursor.fetchone()[0])
