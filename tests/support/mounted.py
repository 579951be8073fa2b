"""A host application with ours in it, as docs/mounting.md shows it; the settings are those of `trialogue serve`."""

import asyncio
import os

import trio
from fastapi import FastAPI

from trialogue_adapters.deployment import make_app
from trialogue_adapters.settings import Settings

chat = make_app(Settings())
app = FastAPI(lifespan=chat.lifespan)
app.router.add_websocket_route("/chat-ws", chat)


@app.get("/health")
async def health():
    """What the host serves itself; and how many tasks there are, of Trio's and, where that is the guest, asyncio's."""
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:
        tasks = 0
    return {"pid": os.getpid(), "tasks": tasks + trio.lowlevel.current_statistics().tasks_living}
