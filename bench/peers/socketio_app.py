"""python-socketio on uvicorn, WebSocket transport only: an `emit` per token, the events as dicts.

Its handlers are tasks of their own, so a second message is read at once; nothing stops the first answer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import Any

import socketio
from bench.common.services import AsyncioService

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])
app = socketio.ASGIApp(server)
service = AsyncioService()


@server.event
async def message(sid: str, data: dict[str, Any]) -> None:
    if data.get("type", "message") != "message":
        return
    message_id, begun, tokens = data["message_id"], monotonic(), 0

    async def tell(kind: str, **fields: Any) -> None:
        await server.emit("event", {"type": kind, "message_id": message_id, **fields}, to=sid)

    await tell("stream_start", session_id=data["session_id"], timestamp=datetime.now(UTC).isoformat())
    async for event in service.stream_rag_pipeline(data["content"], data["session_id"]):
        if event["event"] == "chunk":
            await tell("stream_token", token=event["data"], index=tokens)
            tokens += 1
        elif event["event"] == "done":
            await tell("stream_sources", sources=event["data"]["sources"])
    await tell("stream_end", total_tokens=tokens, processing_time_ms=int((monotonic() - begun) * 1000))
