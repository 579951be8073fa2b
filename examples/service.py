"""A service of your own: an async generator method that yields what it has, as it gets it. It runs on asyncio.

    $ trialogue serve --service service:ChatService

Then open the address that it prints, or talk to it with one of the clients beside this file.
"""

import asyncio


class ChatService:
    async def stream_rag_pipeline(self, message, session_id, options=None):
        source = {"title": "handbook.md", "score": 0.9, "content_preview": "Echoes are friendly."}
        yield {"event": "metadata", "data": {"sources": [source]}}
        words = f"You said: {message}".split()
        for word in words:
            await asyncio.sleep(0.05)  # your model thinks here; an interrupt or a cancel ends this line
            yield {"event": "chunk", "data": word + " "}
        yield {"event": "done", "data": {"usage": {"completion_tokens": len(words)}}}
