"""Tokens for the query of a WebSocket: `v1.<exp>.<base64url HMAC-SHA256>`, good for one principal's one session.

The MAC is over expiry, session id and principal, but the token does not say whose it is. Where the principals are a
short list (API keys, or everybody), it is the one under whose name the MAC is right. Where they are not (JWT), a
fourth part, the name in base64url, tells whom to check. So a principal that has been taken off the list takes its
tokens along, and two principals with tokens for the same session id still do not meet.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection

from trialogue_adapters.auth.port import Denied, Grant, Misconfigured

PREFIX = "v1."
MIN_SECRET_BYTES = 32
"""As long as the hash's output (RFC 2104, section 3)."""
MAX_TOKEN = 1024
LIFETIME_SECONDS = 900.0


class WsTokens:
    """Mints and checks. Without a secret it makes one that dies with the process: tokens then do too."""

    def __init__(
        self,
        secret: bytes | None = None,
        *,
        lifetime: float = LIFETIME_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Raises Misconfigured for a secret that is too short."""
        if secret is not None and len(secret) < MIN_SECRET_BYTES:
            raise Misconfigured(f"the ws_token secret must have at least {MIN_SECRET_BYTES} bytes")
        self._secret = secret or secrets.token_bytes(MIN_SECRET_BYTES)
        self._lifetime = lifetime
        self._now = now

    def mint(self, grant: Grant, session_id: str, *, named: bool) -> tuple[str, int]:
        """A token for this principal's session, and the second in which it expires: not after the grant itself.

        Args:
            session_id: a valid one; what it is bound to.
            named: write the principal into the token, for a checker that cannot list the principals.
        """
        expires_at = int(min(self._now() + self._lifetime, grant.expires_at))
        return self._token(str(expires_at), session_id, grant.principal, named=named), expires_at

    def check(self, token: str, session_id: str, principals: Collection[str] | None) -> Grant:
        """Whose token it is. Raises Denied, and does not say whether it is forged or another session's."""
        parts = token.split(".")
        if len(token) > MAX_TOKEN or not token.isascii() or len(parts) not in (3, 4):
            raise Denied(401, "the ws_token is not valid")
        named = len(parts) == 4
        candidates: Collection[str]
        if named:
            name = _decode(parts[3])
            candidates = [name] if name is not None and (principals is None or name in principals) else []
        else:
            candidates = principals or []
        whose = None
        for principal in candidates:
            # The whole text is made anew and compared: no second spelling of a token is a token.
            made = self._token(parts[1], session_id, principal, named=named)
            if hmac.compare_digest(made.encode(), token.encode()):
                whose = principal
        if whose is None:
            raise Denied(401, "the ws_token is not valid")
        expires_at = int(parts[1])  # ours, for the MAC is
        if expires_at <= self._now():
            raise Denied(401, "the ws_token has expired")
        return Grant(whose, expires_at)

    def _token(self, expires: str, session_id: str, principal: str, *, named: bool) -> str:
        text = f"ws_token v1\n{expires}\n{session_id}\n{principal}"  # no valid session id has a line break
        mac = hmac.digest(self._secret, text.encode(), "sha256")
        token = f"{PREFIX}{expires}.{_encode(mac)}"
        return f"{token}.{_encode(principal.encode())}" if named else token


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> str | None:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return None
