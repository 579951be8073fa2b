"""A host application with ours in it, as docs/mounting.md shows it; the settings are those of `trialogue serve`."""

import asyncio
import os

from fastapi import FastAPI

from trialogue_adapters.deployment import make_app
from trialogue_adapters.settings import Settings

chat = make_app(Settings())
app = FastAPI(lifespan=chat.lifespan)
app.router.add_websocket_route("/chat-ws", chat)


@app.get("/health")
async def health():
    """What the host serves itself, and how much is going on in its loop (none of it on Trio)."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return {"pid": os.getpid()}
    return {"pid": os.getpid(), "tasks": len(asyncio.all_tasks(loop))}
