"""API keys from a file. The file may change at any time: it is looked at (one stat, 2 µs) whenever a key is shown.

A line is `name:key`, parted at the first colon; the name is the principal. Two lines with one name are how a key is
rotated: add the new one, move the clients, take the old one out. A line without a colon is a key without a name: it is
a principal of its own. Empty lines, and lines that begin with `#`, say nothing.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

from trialogue_adapters.auth.port import Caller, Denied, Grant, Misconfigured, is_principal
from trialogue_adapters.auth.ws_tokens import PREFIX

logger = logging.getLogger(__name__)


class ApiKeys:
    """Whoever shows a key of the file. A file that has become unreadable leaves the keys as they were, and is logged.

    A key that was taken out opens nothing any more; connections that it has opened before stay.
    """

    challenges: Sequence[str] = ('Bearer realm="trialogue"', 'ApiKey realm="trialogue", header="X-API-Key"')

    def __init__(self, path: Path) -> None:
        """Raises Misconfigured when the file cannot be read or holds no key."""
        self._path = path
        self._stamp = _stamp(path)
        self._keys = read_keys(path)

    def __repr__(self) -> str:
        return f"<ApiKeys {len(self._keys)} of {self._path.name}>"

    def identify(self, caller: Caller) -> Grant:
        self._refresh()
        token = caller.token
        if token is None:
            raise Denied(401, "an API key is needed")
        shown = sha256(token.encode()).digest()
        principal = None
        for digest, name in self._keys:  # to the end, and digests: the time tells nothing about any key
            if hmac.compare_digest(digest, shown):
                principal = name
        if principal is None:
            raise Denied(401, "the API key is not known")
        return Grant(principal)

    def principals(self) -> Collection[str]:
        self._refresh()
        return {name for _, name in self._keys}

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
            logger.info("%r were read again", self)
        except Misconfigured as error:
            logger.error("%s; the keys that were known before still count", error)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs when the file is written, or another takes its place (as mounted secrets do)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_keys(path: Path) -> list[tuple[bytes, str]]:
    """(SHA-256 of the key, principal) of each line. Raises Misconfigured: names the line, never its text."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Misconfigured(f"the API key file {path}: {reason}") from None
    keys: list[tuple[bytes, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, key = (part.strip() for part in line.partition(":"))
        key = key if colon else name
        digest = sha256(key.encode()).digest()
        name = name if colon else f"key-{digest.hex()[:12]}"
        wrong = "the key stands above already" if digest in dict(keys) else _wrong(name, key)
        if wrong:
            raise Misconfigured(f"the API key file {path}, line {number}: {wrong}")
        keys.append((digest, name))
    if not keys:
        raise Misconfigured(f"the API key file {path} holds no key")
    return keys


def _wrong(name: str, key: str) -> str | None:
    if not is_principal(name):
        return "the name must be 1 to 256 printable characters"
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        return "the key must be printable ASCII without spaces"
    if key.startswith(PREFIX):
        return f"a key must not begin with {PREFIX!r}, as ws_tokens do"
    return None
