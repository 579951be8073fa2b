"""Which web pages may talk to us. Only browsers send `Origin`, and they send the truth: everybody else is let pass.

Without this, any page that a user visits could open a WebSocket to a server that this user's machine can reach.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from trialogue_adapters.auth.port import Caller, Misconfigured

ANY = "*"
DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """RFC 6454: what makes two pages the same party."""

    scheme: str
    host: str
    port: int | None


class Origins:
    """The page's own server (by the request's `Host`) and those that are listed; `*` lists all, `null` included.

    Behind a proxy that ends TLS we see plain HTTP: so a page's scheme is only looked at where TLS ends here, and a
    `Host` without a port means the default port of the page's scheme. The proxy must pass `Host` on.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Raises Misconfigured for an entry that is neither `*` nor `scheme://host[:port]`."""
        entries = tuple(allowed)
        self._any = ANY in entries
        self._listed: set[Origin] = set()
        for entry in entries:
            origin = parse_origin(entry)
            if origin is not None:
                self._listed.add(origin)
            elif entry != ANY:
                raise Misconfigured(f"allowed origin {entry!r}: neither scheme://host[:port] nor {ANY}")

    def __repr__(self) -> str:
        return f"<Origins {'all' if self._any else f'same and {len(self._listed)}'}>"

    def allow(self, caller: Caller) -> bool:
        """May the page that calls? True if no page does."""
        return self._any or all(self._is_allowed(sent, caller) for sent in caller.all("origin"))

    def _is_allowed(self, sent: str, caller: Caller) -> bool:
        origin = parse_origin(sent)
        if origin is None:
            return False
        if origin in self._listed:
            return True
        if caller.secure and origin.scheme != "https":
            return False
        return origin == parse_origin(f"{origin.scheme}://{caller.first('host')}")


def parse_origin(text: str) -> Origin | None:
    """`scheme://host[:port]`, with the scheme's default port filled in; None if it is anything else."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if not (parts.scheme and parts.hostname) or parts.username is not None:
        return None
    if parts.path or parts.query or parts.fragment or text.endswith(("?", "#")):
        return None
    return Origin(parts.scheme, parts.hostname, DEFAULT_PORTS.get(parts.scheme) if port is None else port)
