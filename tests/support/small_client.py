"""The smallest client that survives every scene of `trialogue conformance --serve`, and ways to get each of them wrong.

`python small_client.py URL [FAULT …]`: a fault is the name of one of its habits, which it then has not.
"""

from __future__ import annotations

import json
import sys
from itertools import count
from typing import Any, NoReturn
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from trialogue_adapters.servers.guard import first_cause

HABITS = {
    "comes-back",
    "tells-its-position",
    "skips-what-it-has",
    "starts-anew",
    "asks-again",
    "keeps-the-id",
    "waits-as-told",
    "stays-away",
    "tells-turns-apart",
    "ignores-the-unknown",
    "knows-errors",
    "forgets-refusals",
    "speaks-v1",
    "acks-what-it-has",
}


class Gone(Exception):
    """For good."""


class SmallClient:
    def __init__(self, url: str, faults: set[str]) -> None:
        assert faults <= HABITS, f"no such habit: {faults - HABITS}"
        self.url = url
        self.faults = faults
        self.position: list[int] | None = None
        self.pause = 0.05
        self.visits = 0
        self.numbers = count(1)
        self.mid, self.content, self.accepted = "", "start", False
        self.text, self.next, self.started = "", 0, ""

    def has(self, habit: str) -> bool:
        return habit not in self.faults

    async def run(self) -> None:
        self.ask("start")
        while True:
            after = f"&after={self.position[0]}:{self.position[1]}" if self.position else ""
            address = self.url + (after if self.has("tells-its-position") else "")
            closed = await self.visit(address)
            code = closed.reason.code if closed.reason else 1006
            if not self.has("comes-back") or (code in (1000, 1003, 1008, 1009) and self.has("stays-away")):
                return
            await trio.sleep(self.pause)
            self.pause = 0.05

    async def visit(self, address: str) -> ConnectionClosed:
        """One connection, to its end. Raises Gone where nobody listens any more."""
        parts = urlsplit(address)
        stream = await trio.open_tcp_stream(str(parts.hostname), parts.port or 80)
        offer = ["trialogue.v1"] if self.has("speaks-v1") else None
        try:
            async with trio.open_nursery() as nursery:
                resource = f"{parts.path}?{parts.query}"
                await self.converse(
                    await wrap_client_stream(nursery, stream, parts.netloc, resource, subprotocols=offer)
                )
        except* (ConnectionClosed, HandshakeError) as group:
            cause = first_cause(group)
        finally:
            await trio.aclose_forcefully(stream)
        if isinstance(cause, ConnectionClosed):
            return cause
        raise Gone(cause)

    async def converse(self, socket: WebSocketConnection) -> NoReturn:
        while True:
            heard = await socket.get_message()
            try:
                frame = json.loads(heard)
            except ValueError:
                frame = None
            if isinstance(frame, dict):
                answer = self.hear(frame)
                if answer:
                    await socket.send_message(json.dumps(answer))
            elif not self.has("ignores-the-unknown"):
                raise Gone(heard)

    def ask(self, content: str) -> dict[str, Any]:
        self.mid, self.content, self.accepted = f"m{next(self.numbers)}", content, False
        self.text, self.next, self.started = "", 0, ""
        return self.message()

    def message(self) -> dict[str, Any]:
        return {"message_id": self.mid, "content": self.content, "session_id": "conformance"}

    def hear(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        kind = frame.get("type")
        if isinstance(frame.get("offset"), int) and self.position:
            self.position[1] = frame["offset"]
        if kind == "session_ready":
            return self.ready(frame)
        if kind == "goaway" and self.has("waits-as-told"):
            self.pause = frame["retry_after_ms"] / 1000
        if frame.get("message_id") != self.mid and self.has("tells-turns-apart"):
            return None
        return self.turn(kind, frame)

    def ready(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        self.position = [int(part) for part in frame["position"].split(":")]
        lost = frame["resumed"] == "gap" and self.mid not in (frame["running"], *frame["queued"])
        first, self.visits = self.visits == 0, self.visits + 1
        if (self.accepted and not lost) or not (first or self.has("asks-again")):
            return None
        if not (first or self.has("keeps-the-id")):
            self.mid = f"m{next(self.numbers)}"
        return self.message()

    def turn(self, kind: object, frame: dict[str, Any]) -> dict[str, Any] | None:
        match kind:
            case "user_message":
                self.accepted = True
            case "stream_start":
                if self.started not in ("", frame["timestamp"]) and self.has("starts-anew"):
                    self.text, self.next = "", 0
                self.started = frame["timestamp"]
            case "stream_token":
                return self.token(frame)
            case "stream_end":
                return self.report(frame["finish_reason"])
            case "stream_error":
                told = self.report(frame["error_code"] if self.has("knows-errors") else "stop")
                return told if self.has("forgets-refusals") or self.text else self.message()
        return None

    def token(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        if frame["index"] < self.next and self.has("skips-what-it-has"):
            return None
        self.text += frame["token"]
        self.next = frame["index"] + 1
        ahead = 0 if self.has("acks-what-it-has") else 5
        return {"type": "ack", "message_id": self.mid, "index": frame["index"] + ahead}

    def report(self, ending: str) -> dict[str, Any]:
        told = json.dumps({"text": self.text, "ending": ending})
        if ending == "WS-003" and not self.has("forgets-refusals"):
            return {}
        return self.ask(told)


if __name__ == "__main__":
    trio.run(SmallClient(sys.argv[1], set(sys.argv[2:])).run)
