"""picows and uvloop, no engine: a template, a task per answer, one write per token. The ceiling for one Python thread.

A newer message cancels the running answer, and so does a `cancel`; no log, no limits, no resume, no slow readers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import monotonic

import uvloop
from bench.common.services import AsyncioService
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

service = AsyncioService()


class Session(WSListener):
    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type is WSMsgType.TEXT:
            if self.task:
                self.task.cancel()
            body = json.loads(frame.get_payload_as_bytes())
            if body.get("type", "message") == "message":
                self.task = asyncio.create_task(self.answer(transport, body["message_id"], body["content"]))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.task:
            self.task.cancel()

    async def answer(self, transport: WSTransport, message_id: str, content: str) -> None:
        def tell(kind: str, **fields: object) -> None:
            body = {"type": kind, "message_id": message_id, **fields}
            transport.send(WSMsgType.TEXT, json.dumps(body, separators=(",", ":")).encode())

        prefix = f'{{"type":"stream_token","message_id":"{message_id}","token":'
        tokens, begun, reason = 0, monotonic(), "stop"
        tell("stream_start", session_id="", timestamp="")
        stream = service.stream_rag_pipeline(content, "")
        try:
            async for event in stream:
                if event["event"] == "chunk":
                    frame = f'{prefix}{json.dumps(event["data"])},"index":{tokens}}}'
                    transport.send(WSMsgType.TEXT, frame.encode())
                    tokens += 1
        except asyncio.CancelledError:
            reason = "interrupted"
        await stream.aclose()  # type: ignore[attr-defined]
        elapsed = int((monotonic() - begun) * 1000)
        tell("stream_end", total_tokens=tokens, processing_time_ms=elapsed, finish_reason=reason)


async def main(port: int) -> None:
    def accept(_: WSUpgradeRequest) -> Session:
        return Session()

    server = await ws_create_server(accept, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
