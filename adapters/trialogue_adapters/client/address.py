"""Where a chat is: read from what people type, `host:8000` as well as a whole `wss://…/chat-ws?session_id=…`.

A URL without a path, or with the page's, means the endpoint beside it. What its query says is kept, so a deployment's
own fields and a `ws_token` pass through; `session_id` and `lang` may stand there or be given apart.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from trialogue.core.protocol import SESSION_ID_PATTERN

ENDPOINT = "/chat-ws"
PAGES = ("", "/", "/bot")
SECURE = {"ws": False, "http": False, "wss": True, "https": True}


@dataclass(frozen=True, slots=True)
class Address:
    """`target` is the request's, without `after`; `host` is as for a socket, without brackets."""

    host: str
    port: int
    secure: bool
    target: str
    session_id: str

    @property
    def authority(self) -> str:
        """The Host header's value: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.target.partition('?')[0]}"


def read_address(url: str, session_id: str | None = None, lang: str | None = None) -> Address:
    """Read a URL. Without a session id one is made up.

    Raises:
        ValueError: it is no address of a chat; the text says why.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in SECURE:
        raise ValueError(f"{parts.scheme}: is no scheme of a chat (ws, wss, http, https)")
    if not parts.hostname:
        raise ValueError(f"{url!r}: no host")
    secure = SECURE[parts.scheme]
    fields = [(name, value) for name, value in parse_qsl(parts.query) if name != "after"]
    given = [value for name, value in fields if name == "session_id"]
    chosen = session_id or (given[0] if given else str(uuid.uuid4()))
    if not re.match(SESSION_ID_PATTERN, chosen):
        raise ValueError(f"session_id {chosen!r}: 1 to 128 of A-Z a-z 0-9 . _ ~ : -")
    replaced = {"session_id"} | ({"lang"} if lang else set())
    query = [("session_id", chosen), *([("lang", lang)] if lang else [])]
    query += [(name, value) for name, value in fields if name not in replaced]
    path = ENDPOINT if parts.path in PAGES else parts.path
    port = parts.port or (443 if secure else 80)
    return Address(parts.hostname, port, secure, f"{path}?{urlencode(query, safe=':~')}", chosen)
