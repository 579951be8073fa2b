"""Names of sessions, messages and principals as logs and spans show them: plain, or hashed with a key.

Hashed, the same name has the same hash everywhere, so that a session's lines can be found; without the key nobody can
tell whose they are, nor try out names until one fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from hashlib import blake2b
from typing import Any

NAMES = ("session_id", "message_id", "principal")
"""The fields of a log record that hold one. Span attributes are these, with `trialogue.` in front."""

HASH_BYTES = 8
"""Enough to tell a billion names apart (1 in 30 that any two of them share a hash), short enough to read."""

MAX_KEY = 64
"""What BLAKE2b takes as a key; a longer secret is hashed down to it first."""

Hide = Callable[[str], str]


def plain(name: str) -> str:
    """As it is."""
    return name


def hashing(key: bytes) -> Hide:
    """Names become 16 hexadecimal digits. Raises ValueError when there is no key."""
    if not key:
        raise ValueError("a key is needed")
    return partial(_hashed, key if len(key) <= MAX_KEY else blake2b(key).digest())


def _hashed(key: bytes, name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogatepass"), key=key, digest_size=HASH_BYTES).hexdigest()


def hide_names(hide: Hide, fields: MutableMapping[str, Any]) -> None:
    """In place, whatever else is in there."""
    for name in NAMES:
        if isinstance(fields.get(name), str):
            fields[name] = hide(fields[name])


def as_attributes(hide: Hide, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A span's attributes."""
    shown = dict(fields)
    hide_names(hide, shown)
    return {f"trialogue.{name}": value for name, value in shown.items()}
