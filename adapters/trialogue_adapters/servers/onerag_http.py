"""What a page of the deployed OneRAG server asks over HTTP: a session, its history, facts about it, and its end.

    POST   /api/chat/session                        a new session's id, and a ws_token where clients are authenticated
    GET    /api/chat/history/{id}?limit&offset      its messages, oldest first
    GET    /api/chat/session/{id}/info              how much has been said
    DELETE /api/chat/session/{id}                   forget it

Callers are judged as at every other door: the same Authenticator, the same origins, sessions of their own principal
only. Such a page often comes from another server than ours: an allowed origin is told so, as CORS wants it.
"""

from __future__ import annotations

import json
import re
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from trialogue import Everywhere, Hub, StoreGone
from trialogue.core.dialects import dump
from trialogue.core.events import Ended
from trialogue.ownership import AnySession
from trialogue_adapters.auth import Caller, Denied, Grant
from trialogue_adapters.servers.answers import PRIVATE_JSON, Answer, refusal
from trialogue_adapters.servers.conversation import Exchange, exchanges, messages
from trialogue_adapters.servers.handshake import SESSION_ID, Reception, Rejected, caller_of, read_query
from trialogue_adapters.servers.posts import Receive, read_body

PREFIX = "/api/chat/"
ROUTE = re.compile(r"/api/chat/(?:(?P<new>session)|history/(?P<history>[^/]+)|session/(?P<one>[^/]+)(?P<info>/info)?)")
MAX_BODY_BYTES = 16 * 1024
DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
MAX_OFFSET = 10**9

Headers = Sequence[tuple[bytes, bytes]]
VARY = ((b"vary", b"origin"),)
PREFLIGHT: Headers = (
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"content-type, x-api-key, authorization"),
    (b"access-control-max-age", b"600"),
)


async def answer(reception: Reception, scope: MutableMapping[str, Any], path: str, receive: Receive) -> Answer:
    """Answer a request below `/api/chat/`: status, body, headers. The caller is judged before its body is read."""
    caller = caller_of(scope)
    cors = _cors(reception, caller)
    try:
        if scope["method"] == "OPTIONS":
            return (200 if cors else 403), b"", (*VARY, *cors, *(PREFLIGHT if cors else ()))
        reception.knock(caller)
        status, body = await _perform(reception, reception.gate.enter(caller), scope, path, receive)
    except Denied as denied:
        return refusal(Rejected.denied(denied), (*VARY, *cors))
    except Rejected as rejected:
        return refusal(rejected, (*VARY, *cors))
    except StoreGone:
        return refusal(Rejected.store_gone(), (*VARY, *cors))
    return status, dump(body), (*PRIVATE_JSON, *VARY, *cors)


async def _perform(
    reception: Reception, grant: Grant, scope: MutableMapping[str, Any], path: str, receive: Receive
) -> tuple[int, dict[str, Any]]:
    route = ROUTE.fullmatch(path)
    if route is None:
        raise Rejected(404, "not found")
    hub, method, wanted = reception.hub, scope["method"], _methods(route)
    if method not in wanted:
        raise Rejected(405, f"{' and '.join(wanted)} only", [(b"allow", ", ".join(wanted).encode())])
    if route["new"]:
        reception.check_room()
        _check_metadata(await read_body(receive, MAX_BODY_BYTES))
        return 200, await _create(reception, grant)
    session_id = _checked(route["history"] or route["one"])
    if route["history"]:
        return 200, _history(await _find(hub, grant, session_id), scope.get("query_string", b""))
    if route["info"]:
        return 200, _info(await _find(hub, grant, session_id))
    if not await Everywhere(hub).delete(grant.principal, session_id):
        raise _unknown()
    return 200, {"message": "Session deleted", "session_id": session_id, "timestamp": _now()}


def _methods(route: re.Match[str]) -> Sequence[str]:
    if route["new"]:
        return ("POST",)
    return ("DELETE",) if route["one"] and not route["info"] else ("GET", "HEAD")


async def _create(reception: Reception, grant: Grant) -> dict[str, Any]:
    session_id = str(uuid4())
    (await reception.hub.session(grant.principal, session_id)).reserve()
    told = {"session_id": session_id, "message": "Session created", "timestamp": _now()}
    return told if reception.gate.open else {**told, "ws_token": reception.gate.mint(grant, session_id)[0]}


def _history(session: AnySession, query: bytes) -> dict[str, Any]:
    limit, offset = _page(query)
    said = messages(_conversation(session), session.log.sent_up_to)
    return {
        "session_id": session.key[1],
        "messages": said[offset : offset + limit],
        "total_messages": len(said),
        "limit": limit,
        "offset": offset,
        "has_more": offset + limit < len(said),
    }


def _info(session: AnySession) -> dict[str, Any]:
    """The deployed server's keys. `tokensUsed` counts token events; `modelInfo` is what the last answer told of it."""
    conversation = _conversation(session)
    ends = [exchange.end for exchange in conversation if isinstance(exchange.end, Ended)]
    models = [end.meta["model_info"] for end in ends if "model_info" in end.meta]
    return {
        "session_id": session.key[1],
        "messageCount": len(messages(conversation, session.log.sent_up_to)),
        "tokensUsed": sum(end.total_tokens for end in ends),
        "processingTime": sum(end.processing_time_ms for end in ends) / 1000,
        "modelInfo": models[-1] if models else None,
        "timestamp": _now(),
    }


def _conversation(session: AnySession) -> list[Exchange]:
    return exchanges(session.log.read(session.log.start, session.log.end))


async def _find(hub: Hub, grant: Grant, session_id: str) -> AnySession:
    session = await hub.find(grant.principal, session_id)
    if session is None:
        raise _unknown()
    return session


def _unknown() -> Rejected:
    return Rejected(404, "session_id: there is no such session; it may have expired")


# Reading what was sent. All raise Rejected, naming the field.


def _checked(session_id: str) -> str:
    if not SESSION_ID.fullmatch(session_id):
        raise Rejected(400, "session_id: 1 to 128 of A-Z a-z 0-9 . _ ~ : -")
    return session_id


def _check_metadata(body: bytes) -> None:
    """A page may send `{}`, nothing, or `metadata`, which says nothing to us."""
    try:
        fields = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise Rejected(400, "the body is not JSON") from None
    if not isinstance(fields, dict):
        raise Rejected(400, "the body must be a JSON object")
    if not isinstance(fields.get("metadata", {}), dict | None):
        raise Rejected(400, "metadata: must be an object")


def _page(query: bytes) -> tuple[int, int]:
    fields = read_query(query)
    return _number(fields, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT), _number(fields, "offset", 0, 0, MAX_OFFSET)


def _number(fields: dict[str, list[str]], name: str, default: int, least: int, most: int) -> int:
    match fields.get(name):
        case None:
            return default
        case [text] if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
            return int(text)
        case _:
            raise Rejected(400, f"{name}: one whole number from {least} to {most}")


# Answering.


def _cors(reception: Reception, caller: Caller) -> Headers:
    """For a page that may call: that its script may read the answer."""
    origin = caller.first("origin")
    if not origin or not reception.gate.allows(caller):
        return ()
    return ((b"access-control-allow-origin", origin.encode("latin-1")),)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
