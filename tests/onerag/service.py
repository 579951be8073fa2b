"""A ChatService as the deployed one is: it replaces weak session ids, tells sources twice, and streams in chunks.

The question says what is answered: `count N` makes N chunks, ten a second, `fail` fails before metadata.
"""

import asyncio
import json
import uuid
from pathlib import Path

RECORD = Path(__file__).with_name("record.jsonl")
SOURCES = [{"document": "guide.md", "relevance": 0.95, "content_preview": "…"}]
CONFIRMED = {}


def record(what, message):
    with RECORD.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"what": what, "message": message}) + "\n")


class ChatService:
    async def stream_rag_pipeline(self, message, session_id, options=None):
        word, _, number = message.partition(" ")
        if session_id not in CONFIRMED.values():
            session_id = CONFIRMED.setdefault(session_id, str(uuid.uuid5(uuid.NAMESPACE_URL, session_id)))
        await asyncio.sleep(0.05)
        if word == "fail":
            yield {"event": "error", "error_code": "GEN-001", "message": "No model answers.", "solutions": ["Wait."]}
            return
        yield {"event": "metadata", "data": {"session_id": session_id, "search_results": 1, "sources": SOURCES}}
        try:
            for n in range(int(number)):
                yield {"event": "chunk", "data": f"{n} "}
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            record("cancelled", message)
            raise
        record("finished", message)
        yield {"event": "done", "data": {"session_id": session_id, "sources": SOURCES, "tokens_used": int(number)}}


service = ChatService
