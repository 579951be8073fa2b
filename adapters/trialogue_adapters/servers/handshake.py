"""Reading a WebSocket handshake: one reading for every listener, before any actor starts.

What is wrong with it is an HTTP answer with a JSON body; the listener sends it in its own way.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import parse_qs, unquote_to_bytes

from trialogue import SUBPROTOCOL, Handshake, Hub, Policy, Position
from trialogue.core.choice import dialect_for
from trialogue.core.dialects import Dialect, DialectName
from trialogue.core.errors import Fault, Lang
from trialogue.core.protocol import SESSION_ID_PATTERN
from trialogue_adapters.auth import Caller, Denied, Gate
from trialogue_adapters.servers.address import client_address

SESSION_ID = re.compile(SESSION_ID_PATTERN)
PATH = "/chat-ws"
RETRY_SOON = ((b"retry-after", b"1"),)

MAX_TARGET_BYTES = 8 * 1024
MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 100
EARLY = "nothing may follow a WebSocket handshake before it is answered"
HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(slots=True)
class Rejected(Exception):
    """A request is refused. `status` and `reason` make the HTTP answer; `headers` are added to it.

    `code`: what the same refusal is called on an open connection, "" where there is none.
    """

    status: int
    reason: str
    headers: Sequence[tuple[bytes, bytes]] = ()
    code: str = ""

    @classmethod
    def denied(cls, denied: Denied) -> Rejected:
        return cls(
            denied.status, denied.reason, [(b"www-authenticate", wanted.encode()) for wanted in denied.challenges]
        )

    @classmethod
    def store_gone(cls) -> Rejected:
        """Whose session it is, or what it holds, cannot be known now."""
        return cls(503, Fault("WS-009").render("en")[0], RETRY_SOON, "WS-009")

    @property
    def body(self) -> bytes:
        code = {"code": self.code} if self.code else {}
        return json.dumps(
            {"error": {"status": self.status, "message": self.reason, **code}}, ensure_ascii=False
        ).encode()


@dataclass(frozen=True, slots=True)
class Welcome:
    """Who comes, speaking what; `subprotocol` is to be accepted if the client offered one of ours."""

    handshake: Handshake
    dialect: Dialect
    subprotocol: str | None


@dataclass(frozen=True, slots=True)
class Reception:
    """What is the same for every handshake of an application. `proxies`: see `client_address`.

    `dialect` is spoken with clients that offer none of our subprotocols.
    """

    hub: Hub
    gate: Gate
    policy: Policy = Policy.INTERRUPT
    heartbeat: float = 20.0
    proxies: int = 0
    dialect: DialectName = "seed"

    def welcome(self, query: bytes, caller: Caller) -> Welcome:
        """Check a request for `/chat-ws`; what costs least comes first. Raises Rejected."""
        self.check_room()
        address = self.knock(caller)
        fields = read_query(query)
        session_id = _once(fields, "session_id")
        if session_id is None or not SESSION_ID.fullmatch(session_id):
            raise Rejected(400, "session_id: 1 to 128 of A-Z a-z 0-9 . _ ~ : - exactly once in the query")
        after, lang = _after(fields), read_lang(fields, caller)
        handshake = self.admit(caller, address, session_id, _once(fields, "ws_token"), after)
        speaks_v1 = SUBPROTOCOL in caller.subprotocols
        dialect = dialect_for("trialogue.v1" if speaks_v1 else self.dialect, lang)
        return Welcome(handshake, dialect, SUBPROTOCOL if speaks_v1 else None)

    def check_room(self) -> None:
        """Can there be one more connection? Raises Rejected."""
        hub = self.hub
        if not hub.running or hub.draining:
            raise Rejected(503, "the server is about to restart", RETRY_SOON, "WS-006")
        if hub.limits.max_connections and hub.connections >= hub.limits.max_connections:
            raise Rejected(503, "the server is at capacity", RETRY_SOON, "WS-010")

    def knock(self, caller: Caller) -> str:
        """The address that a request comes from. Raises Rejected if too many do."""
        address = client_address(caller.peer, caller.all("x-forwarded-for"), self.proxies)
        if not self.hub.admission.knock(address):
            raise Rejected(429, "too many handshakes from this address", RETRY_SOON, "WS-005")
        return address

    @contextmanager
    def seat(self, address: str) -> Generator[None]:
        """Count as one of an address's connections while it is not known yet whose it is. Raises Rejected."""
        client = f"address {address}"
        if not self.hub.admission.has_room(client):
            raise Rejected(429, "this client has too many connections", RETRY_SOON, "WS-005")
        budget = self.hub.admission.enter(client)
        try:
            yield
        finally:
            self.hub.admission.leave(budget)

    def admit(
        self,
        caller: Caller,
        address: str,
        session_id: str,
        ws_token: str | None = None,
        after: Position | None = None,
        turn: str | None = None,
    ) -> Handshake:
        """Who it is, and that there is room for one more connection of theirs. Raises Rejected."""
        try:
            grant = self.gate.admit(caller, session_id, ws_token)
        except Denied as denied:
            raise Rejected.denied(denied) from None
        client = f"principal {grant.principal}" if grant.principal else f"address {address}"
        if not self.hub.admission.has_room(client):
            raise Rejected(429, "this client has too many connections", RETRY_SOON, "WS-005")
        return Handshake(
            session_id,
            principal=grant.principal,
            client=client,
            after=after,
            default_policy=self.policy,
            heartbeat_s=self.heartbeat,
            credential=self.gate.lease(grant, session_id),
            turn=turn,
            traceparent=caller.first("traceparent"),
        )


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Who sends the request of an ASGI scope, of HTTP or WebSocket."""
    secure, peer = scope.get("scheme") in ("https", "wss"), (scope.get("client") or ("",))[0]
    return Caller(scope["headers"], scope.get("subprotocols", ()), secure, peer)


def without_token(query: bytes) -> bytes:
    """The query as it may be logged."""
    fields = query.split(b"&")
    return b"&".join(b"ws_token=***" if unquote_to_bytes(f.partition(b"=")[0]) == b"ws_token" else f for f in fields)


def check_head(target: bytes, headers: Headers) -> None:
    """Bounds of every request, of HTTP or WebSocket. Raises Rejected: 414, 431, or 400 for a Host that is none.

    The servers' own bound holds only while a head is incomplete: one that comes in a single read passes them.
    """
    if len(target) > MAX_TARGET_BYTES:
        raise Rejected(414, f"the URL is longer than {MAX_TARGET_BYTES} bytes")
    sizes = [len(name) + len(value) for name, value in headers]
    if len(sizes) > MAX_HEADERS or sum(sizes) > MAX_HEAD_BYTES:
        raise Rejected(431, f"more than {MAX_HEADERS} headers, or than {MAX_HEAD_BYTES} bytes of them")
    hosts = _all(headers, b"host")
    if len(hosts) > 1 or not all(HOST.fullmatch(host) for host in hosts):
        raise Rejected(400, "Host: one name, with or without a port")


def is_upgrade(headers: Headers) -> bool:
    """Does it want to become a WebSocket? If not, it is plain HTTP."""
    tokens = b",".join(_all(headers, b"connection")).lower().split(b",")
    upgrade = b",".join(_all(headers, b"upgrade")).lower()
    return upgrade == b"websocket" and any(token.strip() == b"upgrade" for token in tokens)


def check_upgrade(headers: Headers) -> None:
    """Is it a whole handshake, of RFC 6455 over HTTP/1.1? Raises Rejected: 426 for another version of it, else 400."""
    if _all(headers, b"sec-websocket-version") != [b"13"]:
        raise Rejected(426, "Sec-WebSocket-Version: 13 only")
    keys = _all(headers, b"sec-websocket-key")
    if len(keys) != 1 or not is_key(keys[0]):
        raise Rejected(400, "Sec-WebSocket-Key: 16 bytes in base64, once")
    if any(size != b"0" for size in _all(headers, b"content-length")) or _all(headers, b"transfer-encoding"):
        raise Rejected(400, "a WebSocket handshake has no body")


def _all(headers: Headers, name: bytes) -> list[bytes]:
    return [value.strip() for key, value in headers if key.lower() == name]


def is_key(value: bytes) -> bool:
    """Is it a Sec-WebSocket-Key: 16 bytes in base64 (RFC 6455, 4.2.1)? Neither server library looks."""
    try:
        return len(b64decode(value.strip(), validate=True)) == 16
    except ValueError:
        return False


def _once(fields: dict[str, list[str]], name: str) -> str | None:
    values = fields.get(name, [])
    if len(values) > 1:
        raise Rejected(400, f"{name}: given {len(values)} times")
    return values[0] if values else None


def _after(fields: dict[str, list[str]]) -> Position | None:
    after = _once(fields, "after")
    return None if after is None else read_position(after, "after")


def read_position(text: str, name: str) -> Position:
    """The position that a client resumes from. Raises Rejected naming where it stood."""
    try:
        return Position.parse(text)
    except ValueError as error:
        raise Rejected(400, f"{name}: {error}") from None


def read_query(query: bytes) -> dict[str, list[str]]:
    """Raises Rejected."""
    try:
        return parse_qs(query.decode("ascii"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise Rejected(400, "the query cannot be read") from None


def read_lang(fields: dict[str, list[str]], caller: Caller) -> Lang:
    """`lang` in the query, else the first of Accept-Language that we speak, else Korean."""
    asked = _once(fields, "lang")
    if asked is not None:
        if asked not in get_args(Lang):
            raise Rejected(400, "lang: ko or en")
        return "en" if asked == "en" else "ko"
    weighted: list[tuple[float, Lang]] = []
    for part in ",".join(caller.all("accept-language")).split(","):
        tag, _, parameters = part.strip().partition(";")
        primary = tag.split("-")[0].lower()
        if primary in get_args(Lang):
            quality = re.search(r"q=([01](?:\.\d{0,3})?)", parameters)
            weighted.append((float(quality[1]) if quality else 1.0, "en" if primary == "en" else "ko"))
    return max(weighted, key=lambda item: item[0])[1] if weighted else "ko"
