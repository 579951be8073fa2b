"""`POST /chat/stream`: one turn as server-sent events; `POST /chat/cancel`: stop one from outside.

A response is a connection of the engine like any other, with its own dialect and transport: policies, repeats, resume,
backpressure, linger and budgets are the engine's. What can be refused is refused with HTTP before the response begins.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import trio

from trialogue import Connection, Disconnected, Handshake, Position, SseDialect, StoreGone, Turn
from trialogue.core.dialects import dump
from trialogue.core.errors import Fault, Lang
from trialogue_adapters.auth import Caller, Denied
from trialogue_adapters.servers.answers import PRIVATE_JSON, refusal, send_answer
from trialogue_adapters.servers.handshake import (
    RETRY_SOON,
    Reception,
    Rejected,
    caller_of,
    read_lang,
    read_position,
    read_query,
)
from trialogue_adapters.servers.posts import CancelPost, Receive, StreamPost, check_post, read_body, read_post

logger = logging.getLogger(__name__)

STREAM_PATH = "/chat/stream"
CANCEL_PATH = "/chat/cancel"

CLOSE_SECONDS = 5.0

PIECE_BYTES = 16 * 1024
"""What a stalled peer may hold up together: a connection's patience is measured over it."""

HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

STATUSES = {"WS-001": 400, "WS-003": 409, "WS-005": 429}
"""Of refusals; any other means that the server cannot, for now: 503."""

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class SseTransport:
    """A request whose body is the one message, and whose response is a stream of events."""

    __slots__ = ("_message", "_parked", "_receive", "_send")

    def __init__(self, receive: Receive, send: Send, message: str) -> None:
        self._receive = receive
        self._send = send
        self._message: str | None = message
        self._parked = b""

    def __repr__(self) -> str:
        return f"<SseTransport {'read' if self._message is None else 'unread'}, {len(self._parked)} bytes parked>"

    async def receive(self) -> str | bytes:
        if self._message is not None:
            await trio.lowlevel.checkpoint()
            message, self._message = self._message, None
            return message
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise Disconnected(1006)

    def write(self, frames: Sequence[bytes]) -> bool:
        self._parked += b"".join(frames)
        return False

    async def drain(self) -> bool:
        piece, self._parked = self._parked[:PIECE_BYTES], self._parked[PIECE_BYTES:]
        if piece:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        return not self._parked

    def probe(self) -> bool:
        return True  # HTTP has no pings: who has gone does not take what is sent

    async def close(self, code: int, reason: str) -> None:
        """The end of the response; whoever has not had a `done` or an `error` before it knows that there is more."""
        with trio.move_on_after(CLOSE_SECONDS):
            try:
                while not await self.drain():
                    pass
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            except Exception as error:  # noqa: BLE001 - servers differ in what they raise for a peer that has gone
                logger.debug("closing a response: %r", error)


async def stream(reception: Reception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request for `/chat/stream`, until its turn has ended or its client has gone."""
    try:
        handshake, dialect, message = await _open(reception, scope, receive)
    except Rejected as rejected:
        await send_answer(send, scope["method"], *refusal(rejected))
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await Connection(reception.hub, SseTransport(receive, send, message), dialect, handshake).run()


async def cancel(reception: Reception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request for `/chat/cancel`. Also while the server drains: it takes nothing new."""
    try:
        caller, address, body = await _read(reception, scope, receive)
        post = read_post(CancelPost, body)
        handshake = reception.admit(caller, address, post.session_id)
        wait_ms = reception.hub.admission.take_frame(handshake.client)
        if wait_ms is not None:
            raise _rejection(Fault("WS-005"), "en")
        results = await reception.hub.cancel(handshake.principal, post.session_id, post.message_id)
        if not results:
            raise _rejection(Fault("WS-007"), "en")
    except StoreGone:
        await send_answer(send, scope["method"], *refusal(Rejected.store_gone()))
        return
    except Rejected as rejected:
        await send_answer(send, scope["method"], *refusal(rejected))
        return
    told = [{"message_id": result.message_id, "outcome": result.outcome} for result in results]
    body = json.dumps({"type": "cancel_result", **told[0], "results": told}).encode()
    await send_answer(send, scope["method"], 200, body, PRIVATE_JSON)


async def _open(reception: Reception, scope: Scope, receive: Receive) -> tuple[Handshake, SseDialect, str]:
    """Who wants what: all that a connection needs. Raises Rejected; what costs least comes first."""
    reception.check_room()
    caller, address, body = await _read(reception, scope, receive)
    post = read_post(StreamPost, body)
    session_id, message_id = post.session_id or uuid4().hex, post.message_id or uuid4().hex
    after, lang = _after(post, caller), read_lang(read_query(scope.get("query_string", b"")), caller)
    message = _message(post, session_id, message_id)
    if len(message) > reception.hub.limits.max_frame_bytes:
        raise Rejected(413, f"more than {reception.hub.limits.max_frame_bytes} bytes")
    handshake = reception.admit(caller, address, session_id, after=after, turn=message_id)
    turn = Turn(message_id, post.message, post.on_busy or handshake.default_policy)
    fault = await reception.hub.foresee(handshake.principal, session_id, turn)
    if fault:
        reception.hub.meter.refused(fault.code)
        raise _rejection(fault, lang)
    return handshake, SseDialect(message_id, lang), message.decode()


async def _read(reception: Reception, scope: Scope, receive: Receive) -> tuple[Caller, str, bytes]:
    """The caller, its address, and the body. Whoever sends it is judged before, as far as that is possible."""
    caller = caller_of(scope)
    check_post(scope["method"], caller)
    address = reception.knock(caller)
    try:
        reception.gate.screen(caller)
    except Denied as denied:
        raise Rejected.denied(denied) from None
    with reception.seat(address):
        return caller, address, await read_body(receive, reception.hub.limits.max_frame_bytes)


def _after(post: StreamPost, caller: Caller) -> Position | None:
    """From where it is to be resumed, if it is: a header that EventSource libraries send, or a field."""
    header = caller.first("last-event-id")
    text, name = (header, "Last-Event-ID") if header else (post.after, "after")
    if not text:
        return None
    if not (post.session_id and post.message_id):
        raise Rejected(400, f"{name}: what is resumed must be named by session_id and message_id", code="WS-001")
    return read_position(text, name)


def _message(post: StreamPost, session_id: str, message_id: str) -> bytes:
    """The post as the frame that a WebSocket would have carried."""
    frame = {"type": "message", "message_id": message_id, "content": post.message, "session_id": session_id}
    wishes = {"on_busy": post.on_busy, "options": post.options}
    return dump({**frame, **{name: value for name, value in wishes.items() if value is not None}})


def _rejection(fault: Fault, lang: Lang) -> Rejected:
    status = STATUSES.get(fault.code, HTTPStatus.SERVICE_UNAVAILABLE)
    retry = () if status == HTTPStatus.BAD_REQUEST else RETRY_SOON
    return Rejected(int(status), fault.render(lang)[0], retry, fault.code)
