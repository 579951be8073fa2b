"""`calls.py`: a host's handlers call the engine, on either loop, with and without a store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import trio
from fastapi import FastAPI
from starlette.testclient import TestClient

from support.memory_store import MemoryStore, Server
from trialogue import StoreGone
from trialogue_adapters.mounting import EngineEnded
from trialogue_adapters.servers.asgi import App

BACKENDS = ["asyncio", "trio"]
NEWS = {"type": "news"}


class Words:
    async def stream_rag_pipeline(self, message: str, session_id: str) -> Any:
        yield message


def host(store: Any = None) -> tuple[FastAPI, App]:
    """An application whose handlers call us."""
    chat = App(Words, store=store)
    app = FastAPI(lifespan=chat.lifespan)
    app.router.add_websocket_route("/chat-ws", chat)

    @app.get("/connected/{session_id}")
    async def connected(session_id: str) -> bool:
        return await chat.everywhere.is_connected(session_id)

    @app.get("/send/{session_id}")
    async def send(session_id: str) -> int:
        return await chat.everywhere.send_json(session_id, NEWS)

    @app.get("/broadcast")
    async def broadcast() -> None:
        await chat.everywhere.broadcast(NEWS)

    @app.get("/delete/{session_id}")
    async def delete(session_id: str) -> bool:
        return await chat.everywhere.delete("", session_id)

    return app, chat


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
def test_a_hosts_handler_asks_the_engine(backend: Any, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialogue_adapters.store_metrics.StoreMetrics.collect", lambda self: [])
    app, _ = host(MemoryStore(Server()) if shared else None)
    with TestClient(app, backend=backend) as client:
        assert client.get("/connected/s").json() is False
        with client.websocket_connect("/chat-ws?session_id=s") as ws:
            assert client.get("/connected/s").json() is True
            assert client.get("/send/s").json() == 1
            assert client.get("/broadcast").status_code == 200
            assert [ws.receive_json() for _ in range(2)] == [NEWS, NEWS]
            assert client.get("/delete/s").json() is True
            assert ws.receive()["code"] == 1000
        assert client.get("/send/s").json() == 0


def test_what_it_raises_is_raised_in_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialogue_adapters.store_metrics.StoreMetrics.collect", lambda self: [])
    server = Server()
    app, _ = host(MemoryStore(server))
    with TestClient(app) as client:
        server.up = False
        with pytest.raises(StoreGone):
            client.get("/connected/s")
        server.up = True


async def test_without_an_engine_nothing_is_carried_over() -> None:
    _, chat = host()

    async def ask() -> None:
        await chat.everywhere.is_connected("s")

    with pytest.raises(EngineEnded, match="lifespan is not open"):
        await trio.to_thread.run_sync(asyncio.run, ask())
