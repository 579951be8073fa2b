"""What may be posted to `/chat/stream` and `/chat/cancel`: read within bounds, checked, and refused with HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any, TypeVar

import trio
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from trialogue import Policy
from trialogue.core.protocol import SESSION_ID_PATTERN, Content, MessageId
from trialogue_adapters.auth import Caller
from trialogue_adapters.servers.handshake import Rejected

BODY_SECONDS = 10.0
JSON_TYPE = "application/json"

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
SessionId = Annotated[str, StringConstraints(pattern=SESSION_ID_PATTERN)]


class _Post(BaseModel):
    """As clients' frames: strict types, unknown keys ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class StreamPost(_Post):
    """Submit a turn and follow it. What is absent is minted."""

    message: Content
    session_id: SessionId | None = None
    message_id: MessageId | None = None
    on_busy: Annotated[Policy | None, Field(strict=False)] = None
    options: dict[str, Any] | None = None
    after: str | None = None


class CancelPost(_Post):
    """Stop that turn, running or queued; without an id, all of the session's."""

    session_id: SessionId
    message_id: MessageId | None = None


PostType = TypeVar("PostType", bound=_Post)


async def read_body(receive: Receive, most: int) -> bytes:
    """The whole body, of at most so many bytes. Raises Rejected for one that is too long or too slow."""
    body = bytearray()
    with trio.move_on_after(BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                break
            body += message.get("body", b"")
            if len(body) > most:
                raise Rejected(413, f"more than {most} bytes")
            if not message.get("more_body"):
                return bytes(body)
    raise Rejected(408, "the body did not come")


def check_post(method: str, caller: Caller) -> None:
    """Is it a POST of JSON? A page of another origin cannot send that unasked. Raises Rejected."""
    if method != "POST":
        raise Rejected(405, "POST only", [(b"allow", b"POST")])
    if caller.first("content-type").partition(";")[0].strip().lower() != JSON_TYPE:
        raise Rejected(415, f"Content-Type: {JSON_TYPE} only")


def read_post(model: type[PostType], body: bytes) -> PostType:
    """Raises Rejected naming the field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    if first["type"] == "json_invalid":
        raise Rejected(400, "the body is not JSON", code="WS-001")
    raise Rejected(400, f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}", code="WS-001")
