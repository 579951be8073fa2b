"""A ChatService over somebody's SSE endpoint that speaks `metadata | chunk | done | error`: a OneRAG server's
`/chat/stream`, or another Trialogue's.

Each turn is one POST. Its connection is closed the moment the turn is cancelled; another Trialogue, for which hanging
up is no stop, is also told to cancel. An answer that the other side cut short (`interrupted` there, say) is a
failure here, and one that stops without `done` or `error` has broken off. It runs on Trio.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar
from uuid import uuid4

import trio

from trialogue_adapters.bridges.event_stream import StreamedEvent
from trialogue_adapters.bridges.upstream import TurnFailed, Upstream, broke_off, garbled

NAME = "the upstream server"
CANCEL_SECONDS = 1.0
STREAM_PATH, CANCEL_PATH = "/chat/stream", "/chat/cancel"

SESSION_ID = re.compile(r"[A-Za-z0-9._~:-]{1,128}")
OWN_FIELDS = ("event", "message_id", "resumed")
"""What the other side says about its own turn, which is not ours."""

CUT = ("cancelled", "interrupted", "retracted")
"""Reasons for which the other side has ended an answer before its end: somebody else is in that session too."""


class SseService:
    """Serve it with `--service-runtime trio`, or without a module as `--service sse:URL`.

    Args:
        url: of the endpoint. Raises ValueError.
        headers: sent with each request, such as `{"X-API-Key": …}`.
    """

    runtime: ClassVar[str] = "trio"

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None) -> None:
        self._upstream = Upstream(url, name=NAME, headers=headers, key_hint="the headers that we send")
        self._is_trialogue = False

    def __repr__(self) -> str:
        return f"<SseService {self._upstream.shown}>"

    async def aclose(self) -> None:
        await self._upstream.aclose()

    async def stream_rag_pipeline(
        self, message: str, session_id: str, options: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Any, None]:
        """The events of the other side, as they come."""
        sent_id, message_id = _foreign_id(session_id), uuid4().hex
        body = {"message": message, "session_id": sent_id, "message_id": message_id}
        ended = False
        try:
            async with aclosing(self._ask({**body, **({"options": options} if options else {})})) as events:
                async for event in events:
                    ended = event["event"] in ("done", "error")
                    yield _confirmed(event, sent_id)
        except TurnFailed as failure:
            ended = True
            yield failure.event()
        finally:
            if not ended and self._is_trialogue:
                await self._cancel(sent_id, message_id)

    async def _ask(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Up to the first `done` or `error`. Raises TurnFailed."""
        async with self._upstream.post(body) as reply:
            if not reply.streams:
                raise garbled(NAME, "its response is JSON, not text/event-stream")
            async with aclosing(reply.events()) as events:
                async for streamed in events:
                    event = _read(streamed)
                    if event is None:
                        continue
                    self._is_trialogue = self._is_trialogue or "resumed" in event
                    yield event
                    if event["event"] in ("done", "error"):
                        return
            raise broke_off(NAME)

    async def _cancel(self, session_id: str, message_id: str) -> None:
        """Tell another Trialogue; shielded, because the turn's own scope is cancelled by now."""
        url = self._upstream.url.removesuffix(STREAM_PATH) + CANCEL_PATH
        with trio.CancelScope(shield=True):
            await self._upstream.tell(url, {"session_id": session_id, "message_id": message_id}, CANCEL_SECONDS)


def _foreign_id(session_id: str) -> str:
    """An id that any server takes. Ours hold the principal and a slash where clients authenticate."""
    if SESSION_ID.fullmatch(session_id):
        return session_id
    return hashlib.blake2b(session_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _read(streamed: StreamedEvent) -> dict[str, Any] | None:
    """An event of the stream; None for one that is an application's own. Raises TurnFailed.

    Its name stands in the `event:` line, or in the data, or in both.
    """
    try:
        told = json.loads(streamed.data)
    except ValueError:
        told = streamed.data  # bare text, as some send their chunks
    name = streamed.name if streamed.name != "message" else told.get("event") if isinstance(told, dict) else None
    if not isinstance(name, str):
        return None
    if name == "chunk":
        return {"event": "chunk", "data": told["data"] if isinstance(told, dict) and "data" in told else told}
    if not isinstance(told, dict):
        if name == "error":
            return {"event": "error", "message": str(told)}
        raise garbled(NAME, streamed.data)
    if name == "done":
        _check_whole(told)
    return {**told, "event": name}


def _check_whole(told: Mapping[str, Any]) -> None:
    data = told.get("data")
    reason = told.get("finish_reason") or (data.get("finish_reason") if isinstance(data, dict) else None)
    if reason in CUT:
        raise TurnFailed("UPSTREAM-409", f"{NAME} ended its answer early: {reason}")


def _confirmed(event: dict[str, Any], sent_id: str) -> dict[str, Any]:
    """Without what is the other side's own, and without the session id if it is only ours again."""
    if event["event"] not in ("metadata", "done"):
        return event
    fields = {key: value for key, value in event.items() if key not in ("event", "data")}
    fields |= event["data"] if isinstance(event.get("data"), dict) else {}
    for name in OWN_FIELDS:
        fields.pop(name, None)
    if fields.get("session_id") == sent_id or event["event"] == "done":
        fields.pop("session_id", None)
    return {"event": event["event"], "data": fields}
