"""The names of a store's keys. Those of one session share a hash tag, so a cluster keeps them in one slot.

Principals and session ids are percent-encoded: no text of a user's can end a hash tag, or be taken for another key.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from trialogue.store import Key


class SessionNames(NamedTuple):
    """The keys of one session: its stream, its owner's name, the greatest epoch that it ever had."""

    log: bytes
    owner: bytes
    floor: bytes


class Names:
    """`prefix`: what all keys begin with; deployments that share a store have different ones."""

    def __init__(self, prefix: str) -> None:
        self._prefix = _quoted(prefix)
        self._sessions: dict[Key, SessionNames] = {}

    def session(self, key: Key) -> SessionNames:
        """Hot: once per append. Remembered until `forget`."""
        names = self._sessions.get(key)
        if names is None:
            principal, session_id = key
            tag = f"{self._prefix}:{{{_quoted(principal)}/{_quoted(session_id)}}}"
            names = SessionNames(*(f"{tag}:{what}".encode() for what in SessionNames._fields))
            self._sessions[key] = names
        return names

    def forget(self, key: Key) -> None:
        self._sessions.pop(key, None)

    def lease(self, node: str) -> bytes:
        return f"{self._prefix}:node:{{{node}}}".encode()

    def inbox(self, node: str) -> bytes:
        return f"{self._prefix}:node:{{{node}}}:inbox".encode()


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")
