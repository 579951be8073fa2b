"""What operators and their tools ask: is it alive, is it ready, what has it counted.

The application answers it among its other paths; `--ops-port` serves it alone, on a port that clients need not reach.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trialogue import Hub
from trialogue_adapters.metrics import PrometheusMeter
from trialogue_adapters.servers.answers import Answer, error_answer, json_answer, send_answer


class Operations:
    """The paths of operators; by itself an ASGI application."""

    def __init__(self, hub: Hub, meter: PrometheusMeter) -> None:
        self._hub = hub
        self._meter = meter

    def __repr__(self) -> str:
        return f"<Operations of {self._hub!r}>"

    def resource(self, path: str) -> Answer | None:
        """The answer at that path; None if it is none of ours."""
        hub = self._hub
        match path:
            case "/livez":
                return json_answer(200, {"status": "alive"})
            case "/readyz":
                return json_answer(200 if hub.ready else 503, {"status": "ready" if hub.ready else self._reason()})
            case "/healthz":
                state = {
                    "status": "ready" if hub.ready else "not ready",
                    "sessions": len(hub.sessions),
                    "connections": hub.connections,
                    "generations": hub.census.working,
                    "abandoned": hub.census.abandoned,
                }
                return json_answer(200 if hub.ready else 503, state)
            case "/metrics":
                return 200, self._meter.exposition(), ((b"content-type", self._meter.content_type),)
            case _:
                return None

    def _reason(self) -> str:
        """Why it is not ready."""
        if self._hub.draining:
            return "draining"
        store = self._hub.store
        return "store not reachable" if store and not store.reachable else "service not ready"

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        match scope["type"]:
            case "lifespan":
                for step in ("startup", "shutdown"):
                    await receive()
                    await send({"type": f"lifespan.{step}.complete"})
            case "http" if scope["method"] in ("GET", "HEAD"):
                answer = self.resource(scope["path"]) or error_answer(404, "not found")
                await send_answer(send, scope["method"], *answer)
            case "http":
                await send_answer(send, scope["method"], *error_answer(405, "GET and HEAD only"))
            case _:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": "there is no WebSocket here"})
