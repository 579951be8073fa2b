"""Server-sent events from the client's side: the standard's parser, and a raw HTTP/1.1 client that streams.

`EventReader` reads as the HTML standard says (9.2.6): lines end with LF, CR or CRLF, and with nothing else. `Stream` is
one POST and its response; `ended` is True once the server has ended the response itself, False while it has not.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from support.raw_client import PATIENCE, Refused, Wire, fresh, open_wire


@dataclass(frozen=True)
class Sse:
    """One event as a browser hands it on; `id` is the last one seen, as browsers keep it."""

    name: str
    id: str
    text: str

    @property
    def body(self) -> dict[str, Any]:
        body = json.loads(self.text)
        assert isinstance(body, dict)
        return body

    @property
    def offset(self) -> int:
        return int(self.id.partition(":")[2])


class EventReader:
    """Bytes in, events out; comments are collected beside them."""

    def __init__(self) -> None:
        self.comments: list[str] = []
        self.raw = b""
        self._id = ""

    def feed(self, data: bytes) -> list[Sse]:
        self.raw += data
        events = []
        while (end := re.search(rb"\n\n|\r\r|\r\n\r\n", self.raw)) is not None:
            block, self.raw = self.raw[: end.start()], self.raw[end.end() :]
            events += self._dispatch(re.split(r"\r\n|\n|\r", block.decode()))
        return events

    def _dispatch(self, lines: list[str]) -> list[Sse]:
        name, data = "message", []
        for line in lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "":
                    self.comments.append(value)
                case "id":
                    self._id = value
                case "event":
                    name = value
                case "data":
                    data.append(value)
        return [Sse(name, self._id, "\n".join(data))] if data else []


def parse_events(data: bytes) -> list[Sse]:
    reader = EventReader()
    events = reader.feed(data)
    assert reader.raw == b"", "frames are whole"
    return events


def post(path: str, body: bytes, headers: Mapping[str, str | None] | None = None, method: str = "POST") -> bytes:
    """A request. `headers` replace or add; None removes."""
    fields: dict[str, str | None] = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Accept-Language": "en",
        **(headers or {}),
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Stream:
    """An open response of `/chat/stream`."""

    def __init__(self, wire: Wire, headers: Mapping[str, str]) -> None:
        self.wire = wire
        self.headers = headers
        self.reader = EventReader()
        self.pieces = 0
        self.ended = False
        self._ready: list[Sse] = []

    async def piece(self) -> bytes:
        """The next chunk of the response's body; b"" at its end."""
        size = int(await self.wire.until(b"\r\n"), 16)
        data = await self.wire.exactly(size)
        assert await self.wire.exactly(2) == b"\r\n"
        self.pieces += 1
        self.ended = size == 0
        return data

    async def next(self) -> Sse | None:
        """The next event; None when the server has ended the response. Raises Closed if it was cut."""
        with trio.fail_after(PATIENCE):
            while not self._ready:
                data = await self.piece()
                if not data:
                    return None
                self._ready += self.reader.feed(data)
        return self._ready.pop(0)

    async def until(self, name: str) -> list[Sse]:
        """All events up to the first with that name."""
        events = []
        while True:
            event = await self.next()
            assert event, f"the response has ended before a {name}"
            events.append(event)
            if event.name == name:
                return events

    async def rest(self) -> list[Sse]:
        """All events up to the response's end."""
        events = []
        while event := await self.next():
            events.append(event)
        return events


def text_of(events: list[Sse]) -> str:
    return "".join(event.body["data"] for event in events if event.name == "chunk")


def fields_of(session_id: str | None = None, message_id: str | None = None, **more: Any) -> dict[str, Any]:
    """What a client posts: a message whose content is its id, so that the service's record tells them apart."""
    message_id = message_id or fresh("m")
    session = {"session_id": session_id} if session_id else {}
    return {"message": message_id, "message_id": message_id, **session, **more}


@asynccontextmanager
async def open_stream(
    server: Any, fields: Mapping[str, Any], *, last: str | None = None, headers: Mapping[str, str | None] | None = None
) -> AsyncGenerator[Stream]:
    """Post and stream; the connection is closed, without a word, at the end of the block. Raises Refused."""
    resume = {"Last-Event-ID": last} if last else {}
    async with open_wire(server) as wire:
        await wire.send(post("/chat/stream", json.dumps(fields).encode(), {**resume, **(headers or {})}))
        status, answered = await wire.head()
        if status != 200:
            with trio.fail_after(PATIENCE):
                raise Refused(status, answered, await wire.exactly(int(answered.get("content-length", "0"))))
        yield Stream(wire, answered)


async def whole(server: Any, fields: Mapping[str, Any], last: str | None = None) -> list[Sse]:
    """A whole response."""
    async with open_stream(server, fields, last=last) as stream:
        return await stream.rest()


async def ask(
    server: Any, path: str, fields: Mapping[str, Any], headers: Mapping[str, str | None] | None = None
) -> Refused:
    """Post and take the whole answer, whatever its status."""
    async with open_wire(server) as wire:
        await wire.send(post(path, json.dumps(fields).encode(), headers))
        return await wire.answer()
