"""A client that believes nothing: every frame that it is sent is judged when it is read.

It is as small as a client can be, and has nothing to do with the clients that people install: a mistake that it shared
with them it would not notice.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import trio
from pydantic import BaseModel, ValidationError
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from trialogue import SUBPROTOCOL
from trialogue.core.frames import SEED_FRAMES, V1_FRAMES
from trialogue_adapters.conformance.report import Failed, demand

Frame = dict[str, Any]

ENDS = ("stream_end", "stream_error")
BACK_SOON = 4001
"""A close code that is no farewell: the turn goes on."""

_numbers = count(1)
_BLANKS = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')


def _by_type(models: Sequence[type[BaseModel]]) -> Mapping[str, type[BaseModel]]:
    return {model.model_json_schema()["properties"]["type"]["const"]: model for model in models}


_KNOWN = {False: _by_type(SEED_FRAMES), True: _by_type(V1_FRAMES)}
_ORDER = {kind: list(model.model_fields) for kind, model in _KNOWN[False].items()}


def judge(text: str, *, v1: bool) -> Frame:
    """Read a server's frame. Raises Failed: not JSON, not compact, keys out of order, or not what its type has."""
    try:
        body = json.loads(text)
    except ValueError:
        raise Failed(f"a frame that is not JSON: {text[:200]!r}") from None
    if not isinstance(body, dict):
        raise Failed(f"a frame that is no object: {text[:200]!r}")
    demand(_BLANKS.sub(r"\1", text) == text, f"a frame that is not compact: {text[:200]!r}")
    demand(next(iter(body), "") == "type", f"the first key is not `type`: {text[:200]!r}")
    kind = body["type"]
    model = _KNOWN[v1].get(kind)
    if model is None:
        raise Failed(f"{kind!r} is sent unasked{'' if v1 else ' to a client without the subprotocol'}")
    try:
        model.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Failed(f"{kind}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    given = [name for name in _ORDER.get(kind, ()) if name in body]
    demand(list(body)[: len(given)] == given, f"{kind}: its keys are not in the protocol's order: {list(body)}")
    return body


class Link:
    """One open connection to a server. Everything that waits raises Failed after `patience` seconds."""

    def __init__(self, socket: WebSocketConnection, session_id: str, patience: float, *, v1: bool) -> None:
        self.session_id = session_id
        self.ready: Frame = {}
        self.position = (0, 0)
        self._socket = socket
        self._patience = patience
        self._v1 = v1

    def __repr__(self) -> str:
        return f"<Link to {self.session_id!r}>"

    # Saying.

    async def send(self, **fields: Any) -> None:
        await self.send_raw(json.dumps(fields, ensure_ascii=False))

    async def send_raw(self, message: str | bytes) -> None:
        """Whatever it is. Raises Failed if nobody takes it."""
        with self._waiting("nobody reads what we send"):
            await self._socket.send_message(message)

    async def ask(self, content: str, message_id: str | None = None, on_busy: str | None = None) -> str:
        """Submit a message. Returns its id."""
        message_id = message_id or f"m-{next(_numbers)}"
        policy = {"on_busy": on_busy} if on_busy else {}
        await self.send(type="message", message_id=message_id, content=content, session_id=self.session_id, **policy)
        return message_id

    # Hearing.

    async def next(self) -> Frame:
        """The next frame, judged; of an entry the position is noted. Raises Failed, also when the connection ends."""
        with self._waiting("nothing came"):
            try:
                message = await self._socket.get_message()
            except ConnectionClosed as closed:
                raise Failed(f"the connection ended: {closed.reason.code if closed.reason else 1006}") from None
        if isinstance(message, bytes):
            raise Failed("a binary frame")
        frame = judge(message, v1=self._v1)
        if "offset" in frame:
            after = (frame.get("epoch", self.position[0]), frame["offset"])
            demand(after > self.position, f"{frame['type']}: the offset {after} comes after {self.position}")
            self.position = after
        return frame

    async def until(self, kind: str, message_id: str | None = None) -> list[Frame]:
        """All frames up to the first of that type (and turn)."""
        frames = []
        with self._waiting(f"no {kind} came"):
            frames.append(await self.next())
            while frames[-1]["type"] != kind or message_id not in (None, frames[-1].get("message_id")):
                frames.append(await self.next())
        return frames

    async def turn(self, message_id: str) -> list[Frame]:
        """All frames up to that turn's end."""
        frames = []
        with self._waiting(f"no end of {message_id} came"):
            frames.append(await self.next())
            while frames[-1]["type"] not in ENDS or frames[-1]["message_id"] != message_id:
                frames.append(await self.next())
        return frames

    async def until_pong(self) -> list[Frame]:
        """What has come until now: all frames up to the answer to a ping."""
        ping = f"p-{next(_numbers)}"
        await self.send(type="ping", id=ping)
        *frames, pong = await self.until("pong")
        demand(pong["id"] == ping, f"a pong for {pong['id']!r}, not for {ping!r}")
        return frames

    async def closed(self) -> int:
        """Read to the connection's end. Returns its close code, 1006 without one."""
        code = 0
        with self._waiting("the connection was not closed"):
            while not code:
                try:
                    await self._socket.get_message()
                except ConnectionClosed as closed:
                    code = int(closed.reason.code) if closed.reason else 1006
        return code

    async def leave(self, code: int) -> None:
        """Close with that code, and wait for the answer."""
        with trio.move_on_after(self._patience):
            await self._socket.aclose(code)

    def _waiting(self, otherwise: str) -> _Patience:
        return _Patience(self._patience, otherwise)


class _Patience:
    """At most so many seconds, then Failed."""

    def __init__(self, seconds: float, otherwise: str) -> None:
        self._scope = trio.move_on_after(seconds)
        self._otherwise = f"{otherwise} for {seconds:g} s"

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, *error: Any) -> bool:
        swallowed = bool(self._scope.__exit__(*error))
        if self._scope.cancelled_caught:
            raise Failed(self._otherwise)
        return swallowed


@dataclass(frozen=True, slots=True)
class Target:
    """The server under test. `url`: of its `/chat-ws`, without a query; `headers`: what it wants to be shown."""

    url: str
    patience: float = 5.0
    headers: Sequence[tuple[bytes, bytes]] = field(default=())

    @classmethod
    def at(cls, address: str, patience: float, headers: Sequence[tuple[bytes, bytes]] = ()) -> Target:
        """`http` and a missing path are mended. Raises ValueError if it is no address of a server."""
        parts = urlsplit(address)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        if scheme not in ("ws", "wss") or not parts.hostname or parts.query:
            raise ValueError(f"{address}: must be ws://HOST:PORT/PATH or wss://…, without a query")
        path = parts.path if parts.path not in ("", "/") else "/chat-ws"
        return cls(f"{scheme}://{parts.netloc}{path}", patience, headers)

    @asynccontextmanager
    async def open(
        self, session_id: str | None = None, *, v1: bool = True, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Link]:
        """Connect, and read the first frame into `ready` if there is one; leave without a farewell, as if by accident.

        Raises ConnectionRejected as trio-websocket does, in a group.
        """
        session_id = session_id or f"conformance-{uuid4().hex}"
        async with self.socket(urlencode({"session_id": session_id, **(query or {})}), v1=v1) as socket:
            demand(socket.subprotocol == (SUBPROTOCOL if v1 else None), f"the subprotocol is {socket.subprotocol!r}")
            link = Link(socket, session_id, self.patience, v1=v1)
            if v1:
                link.ready = await link.next()
                demand(link.ready["type"] == "session_ready", f"the first frame is {link.ready['type']!r}")
                epoch, _, offset = link.ready["position"].partition(":")
                link.position = (int(epoch), int(offset))
            yield link

    @asynccontextmanager
    async def socket(self, query: str, *, v1: bool) -> AsyncGenerator[WebSocketConnection]:
        """A WebSocket with that query; its TCP connection is simply closed in the end."""
        parts = urlsplit(self.url)
        host, secure = str(parts.hostname), parts.scheme == "wss"
        port = parts.port or (443 if secure else 80)
        with trio.fail_after(self.patience):
            stream: Any = await trio.open_tcp_stream(host, port)
            if secure:
                stream = trio.SSLStream(stream, ssl.create_default_context(), server_hostname=host)
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(self.patience):
                    socket = await wrap_client_stream(
                        nursery,
                        stream,
                        parts.netloc,
                        f"{parts.path}?{query}",
                        subprotocols=[SUBPROTOCOL] if v1 else None,
                        extra_headers=list(self.headers),
                    )
                yield socket
                await trio.aclose_forcefully(stream)
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(stream)
