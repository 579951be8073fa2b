"""Trialogue mounted in a FastAPI application, as docs/mounting.md shows it, with the asyncio service.

`app` is for uvicorn, where the service runs on uvicorn's own loop, and for hypercorn's stock Trio worker, where it has
a thread; `hardened` makes the same for a hypercorn that our classes guard.
"""

from __future__ import annotations

from bench.common.services import AsyncioService
from fastapi import FastAPI

from trialogue import Limits
from trialogue_adapters.servers.asgi import create_app
from trialogue_adapters.servers.hypercorn import harden

HEARTBEAT = 20.0
OPEN = Limits(
    max_generations=0,
    max_abandoned=0,
    max_connections=0,
    max_connections_per_client=0,
    messages_per_minute=0,
    turns_per_minute=0,
    handshakes_per_second=0,
)
"""Limits that a load from one address would meet."""


def mounted() -> FastAPI:
    chat = create_app(AsyncioService, limits=OPEN)
    app = FastAPI(lifespan=chat.lifespan)
    app.router.add_websocket_route("/chat-ws", chat)
    return app


app = mounted()


def hardened() -> FastAPI:
    """For `hypercorn "bench.peers.mounted_app:hardened()"`: it runs in the process that is to be hardened."""
    harden(HEARTBEAT)
    return mounted()
