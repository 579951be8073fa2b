"""`POST /auth/ws-token {"session_id": …}`: a token for the query of a WebSocket, to whom the Authenticator lets in."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from trialogue_adapters.auth import Denied, Gate
from trialogue_adapters.servers.answers import PRIVATE_JSON, Answer, refusal
from trialogue_adapters.servers.handshake import SESSION_ID, Rejected, caller_of
from trialogue_adapters.servers.posts import Receive, read_body

MINT_PATH = "/auth/ws-token"
MAX_BODY_BYTES = 4096


async def mint(gate: Gate, scope: MutableMapping[str, Any], receive: Receive) -> Answer:
    """Answer the request: status, body, headers. The caller is judged before its body is read."""
    caller = caller_of(scope)
    try:
        if scope["method"] != "POST":
            raise Rejected(405, "POST only", [(b"allow", b"POST")])
        grant = gate.enter(caller)
        token, expires_at = gate.mint(grant, _session_id(await read_body(receive, MAX_BODY_BYTES)))
    except Denied as denied:
        return refusal(Rejected.denied(denied))
    except Rejected as rejected:
        return refusal(rejected)
    lifetime = max(0, int(expires_at - gate.now()))
    answer = {"ws_token": token, "expires_at": expires_at, "expires_in": lifetime}
    return 200, json.dumps(answer).encode(), PRIVATE_JSON


def _session_id(body: bytes) -> str:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    session_id = fields.get("session_id") if isinstance(fields, dict) else None
    if not isinstance(session_id, str) or not SESSION_ID.fullmatch(session_id):
        raise Rejected(400, "a JSON object with session_id: 1 to 128 of A-Z a-z 0-9 . _ ~ : -")
    return session_id
