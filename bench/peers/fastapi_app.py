"""The design that Trialogue replaces: FastAPI, one receive loop per connection, pydantic models, a send per token.

It reads the next message only when the answer has ended: nothing can interrupt it. `app` is for uvicorn with the
asyncio service, `app_on_trio` the same code for hypercorn's Trio worker with the Trio service.
"""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import Any

from bench.common.services import AsyncioService, TrioService
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ValidationError


class ClientMessage(BaseModel):
    type: str = "message"
    message_id: str
    content: str
    session_id: str


class StreamStartEvent(BaseModel):
    type: str = "stream_start"
    message_id: str
    session_id: str
    timestamp: str


class StreamTokenEvent(BaseModel):
    type: str = "stream_token"
    message_id: str
    token: str
    index: int


class StreamSourcesEvent(BaseModel):
    type: str = "stream_sources"
    message_id: str
    sources: list[dict[str, Any]]


class StreamEndEvent(BaseModel):
    type: str = "stream_end"
    message_id: str
    total_tokens: int
    processing_time_ms: int


class ConnectionManager:
    def __init__(self) -> None:
        self.connections: dict[str, WebSocket] = {}

    async def connect(self, websocket: WebSocket, session_id: str) -> None:
        await websocket.accept()
        self.connections[session_id] = websocket

    def disconnect(self, session_id: str) -> None:
        self.connections.pop(session_id, None)

    async def send(self, session_id: str, event: BaseModel) -> None:
        websocket = self.connections.get(session_id)
        if websocket:
            await websocket.send_json(event.model_dump())


def make_app(service: AsyncioService | TrioService) -> FastAPI:
    app = FastAPI()
    manager = ConnectionManager()

    @app.websocket("/chat-ws")
    async def chat(websocket: WebSocket, session_id: str) -> None:
        await manager.connect(websocket, session_id)
        try:
            while True:
                body = await websocket.receive_json()
                try:
                    message = ClientMessage.model_validate(body)
                except ValidationError:
                    continue
                await answer(message, session_id)
        except WebSocketDisconnect:
            pass
        finally:
            manager.disconnect(session_id)

    async def answer(message: ClientMessage, session_id: str) -> None:
        begun, tokens, sources = monotonic(), 0, []
        now = datetime.now(UTC).isoformat()
        await manager.send(
            session_id, StreamStartEvent(message_id=message.message_id, session_id=session_id, timestamp=now)
        )
        async for event in service.stream_rag_pipeline(message.content, session_id):
            if event["event"] == "chunk":
                await manager.send(
                    session_id, StreamTokenEvent(message_id=message.message_id, token=event["data"], index=tokens)
                )
                tokens += 1
            elif event["event"] == "done":
                sources = event["data"]["sources"]
        await manager.send(session_id, StreamSourcesEvent(message_id=message.message_id, sources=sources))
        elapsed = int((monotonic() - begun) * 1000)
        await manager.send(
            session_id,
            StreamEndEvent(message_id=message.message_id, total_tokens=tokens, processing_time_ms=elapsed),
        )

    return app


app = make_app(AsyncioService())
app_on_trio = make_app(TrioService())
