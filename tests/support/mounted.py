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


@app.get("/connected/{session_id}")
async def connected(session_id: str):
    return {"connected": await chat.everywhere.is_connected(session_id)}


@app.post("/send/{session_id}")
async def send(session_id: str, body: dict):
    return {"told": await chat.everywhere.send_json(session_id, body)}


@app.post("/broadcast")
async def broadcast(body: dict):
    await chat.everywhere.broadcast(body)
    return {}


@app.delete("/session/{session_id}")
async def delete(session_id: str):
    return {"deleted": await chat.everywhere.delete("", session_id)}


@app.get("/health")
async def health():
    """What the host serves itself; and how many tasks there are, of Trio's and, where that is the guest, asyncio's."""
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:
        tasks = 0
    return {"pid": os.getpid(), "tasks": tasks + trio.lowlevel.current_statistics().tasks_living}
