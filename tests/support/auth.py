"""A server's keys and secret, and tokens as it mints them."""

from __future__ import annotations

from pathlib import Path

from trialogue_adapters.auth import Grant, WsTokens

SECRET = "a-secret-of-the-tests-0123456789abcdef"
ALICE, BOB = {"X-API-Key": "key-of-alice"}, {"Authorization": "Bearer key-of-bob"}
KEYS = "# the tests' clients\nalice:key-of-alice\nbob:key-of-bob\n"
LISTED = "https://app.example"


def write_files(folder: Path) -> tuple[str, ...]:
    """The files of a server with API keys, and the flags that name them."""
    (folder / "keys").write_text(KEYS)
    (folder / "secret").write_text(SECRET + "\n")
    return ("--api-key-file", "keys", "--ws-token-secret-file", "secret", "--allow-origin", LISTED)


def token(session_id: str, principal: str = "alice", lifetime: float = 60.0) -> str:
    """As the server mints them; it knows the same secret."""
    return WsTokens(SECRET.encode(), lifetime=lifetime).mint(Grant(principal), session_id, named=False)[0]


def damaged(whole: str) -> str:
    return whole[:-1] + ("A" if whole[-1] != "A" else "B")
