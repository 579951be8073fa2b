"""`/chat-ws` in an application that you have. The service runs on the application's own loop, with its pools.

    $ uvicorn --ws-max-size 65536 --ws-per-message-deflate false fastapi_mount:app

docs/mounting.md tells what this costs on which server.
"""

import asyncio

from fastapi import FastAPI

from trialogue_adapters.servers.asgi import create_app


async def answer(message, session_id):
    for word in f"FastAPI heard: {message}".split():
        await asyncio.sleep(0.05)
        yield word + " "


chat = create_app(answer)
app = FastAPI(lifespan=chat.lifespan)
app.router.add_websocket_route("/chat-ws", chat)


@app.get("/connected/{session_id}")
async def connected(session_id: str):
    return {"connected": await chat.everywhere.is_connected(session_id)}
