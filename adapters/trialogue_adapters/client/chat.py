"""A session as a program holds it: `async with connect(url) as chat`. Thin IO around `Conversation`.

One task, the link, keeps a connection and comes back after a drop; it folds what comes into turns, and never waits for
whoever uses them. Leaving the block well closes with 1000, which means "stop what is running, if nobody else is here".
Leaving it by an exception, or cancelled, is a drop (4001): the turn goes on for the server's linger, and whoever comes
back with `after=chat.position` finds it.
"""

from __future__ import annotations

import json
import random
import ssl
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast
from weakref import WeakSet, WeakValueDictionary

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from trialogue.core.dialects import SUBPROTOCOL
from trialogue_adapters.client.address import Address, read_address
from trialogue_adapters.client.conversation import Changes, Conversation, OnBusy
from trialogue_adapters.client.credential import Credential, TokenSource
from trialogue_adapters.client.errors import ClosedByServer, Left, LinkError, Refused, Unreachable
from trialogue_adapters.client.events import Asked, Connected, Disconnected, Event, Notice, Presence, Resumed, Typing
from trialogue_adapters.client.feed import Feed
from trialogue_adapters.client.fold import TurnState
from trialogue_adapters.client.returning import Closed, Returning
from trialogue_adapters.client.turn import Turn
from trialogue_adapters.client.websocket import LOST, WebSocket, open_websocket

HANDSHAKE_SECONDS = 15.0
IDLE_SECONDS = 20.0
PONG_SECONDS = 10.0
ACK_SECONDS = 0.5
GOODBYE_SECONDS = 2.0
"""To say goodbye and hear the answer, also when cancelled."""
UNSPOKEN = frozenset(
    {"session_ready", "goaway", "pong", "cancel_result", "stream_end", "stream_receipt", "stream_status"}
)
"""Frames that tell nothing to whoever reads events, when no turn of ours has taken them."""
LAST_WORDS_SECONDS = 1.0
"""For the answer to a close frame to leave."""
CODE_STOP = 1000
CODE_BACK_SOON = 4001
"""Our own code for "I may be back": any code but 1000 lets the turn go on."""


class Chat:
    """Made by `connect`. Every method may be called from any task of the event loop that it was made in."""

    def __init__(self, address: Address, credential: Credential, tls: ssl.SSLContext | None, after: str | None) -> None:
        self.error: LinkError | None = None
        """Why there will be no further connection; None while there is one, or will be."""
        self.resumed: Resumed = "new"
        """What the latest connection began with."""
        self._address = address
        self._credential = credential
        self._tls = tls
        self._conversation = Conversation(address.session_id, after)
        self._returning = Returning()
        self._socket: WebSocket | None = None
        self._turns: WeakValueDictionary[str, Turn] = WeakValueDictionary()
        self._feeds: WeakSet[Feed] = WeakSet()
        self._hurry = anyio.Event()
        self._ended = anyio.Event()
        self._acks_due = anyio.Event()
        self._leaving = False

    def __repr__(self) -> str:
        how = "ended" if self.error else "connected" if self.connected else "away"
        return f"<Chat {self.session_id!r} at {self._address}, {how}, position {self.position}>"

    # What is so.

    @property
    def address(self) -> str:
        """Where it is, without what the query says."""
        return str(self._address)

    @property
    def session_id(self) -> str:
        return self._address.session_id

    @property
    def position(self) -> str | None:
        """`epoch:offset` of the last entry that has come: what `connect(…, after=)` goes on from."""
        return self._conversation.position

    @property
    def connected(self) -> bool:
        return self._conversation.ready

    @property
    def connections(self) -> int:
        """How many the session has, this one included, as of the last that we heard."""
        return self._conversation.connections

    @property
    def turns(self) -> list[Turn]:
        """The turns that are known here, in the order in which they came; at most the last 200."""
        return [self._turn(state) for state in self._conversation.turns.values()]

    # What to do.

    async def send(
        self, content: str, *, on_busy: OnBusy | None = None, options: Mapping[str, Any] | None = None
    ) -> Turn:
        """Ask something. Returns at once: the turn tells whether it was accepted, and how it goes on.

        While the connection is away the message is kept, and sent after the return. Cancelled: it was not sent.

        Args:
            on_busy: what it does to a running turn; None: what the server's policy says.
            options: handed to the service as they are.

        Raises:
            TooMuch: 32 messages have no ending yet, or this one is larger than a frame may be.
            LinkError: the chat has ended.
        """
        await checkpoint()
        if self.error is not None:
            raise self.error
        turn = self._turn(self._conversation.submit(str(uuid.uuid4()), content, on_busy, options))
        self._flush()
        return turn

    async def cancel(self) -> None:
        """Stop all turns of this session, running or queued, whosoever asked. Cancelled: it may have been said."""
        await checkpoint()
        if self.error is not None:
            raise self.error
        self._poke(self._conversation.cancel())
        self._flush()

    async def typing(self, *, active: bool) -> None:
        """Tell the session's other connections that the user types, or has stopped; lost while away."""
        await checkpoint()
        if self._conversation.ready:
            self._conversation.outgoing.append({"type": "typing", "active": active})
            self._flush()

    def events(self) -> Feed:
        """All that happens from now on beside own turns: iterate it. It keeps the last 1,000; see `Missed`."""
        feed = Feed(lambda: self.error)
        self._feeds.add(feed)
        return feed

    def retry_now(self) -> None:
        """Come back at once instead of after the back-off: the network is there again, or the user asks."""
        self._hurry.set()

    async def close(self) -> None:
        """Leave for good. If nobody else is attached, what runs is stopped; while away nobody can be told.

        Turns without an ending raise Left from now on. Cancelled: as if the connection had been dropped.
        """
        await self._leave(CODE_STOP)

    # For turns: see `turn.Owner`.

    def stop_turn(self, message_id: str) -> None:
        self._poke(self._conversation.cancel(message_id))
        self._flush()

    def shown(self, message_id: str, index: int) -> None:
        self._conversation.shown(message_id, index)
        self._acks_due.set()

    # The link.

    async def open(self) -> WebSocket:
        """The first connection, with its `session_ready`; there is no second try. Raises LinkError."""
        return await self._dial()

    async def keep(self, socket: WebSocket | None) -> None:
        """Serve this connection, come back, until there is no coming back. Cancelled: no connection is left open."""
        failure: LinkError | None = None
        try:
            while True:
                closed = await self._serve(socket) if socket else Closed(LOST, str(failure))
                wait = self._wait(closed, failure.retry_after if failure else None)
                if self._leaving or wait is None:
                    self._end(Left() if self._leaving else ClosedByServer(closed.code, closed.reason))
                    return
                self._publish(Disconnected(closed.code, closed.reason, wait))
                with anyio.move_on_after(wait):
                    await self._hurry.wait()
                self._hurry = anyio.Event()
                socket = failure = None
                try:
                    socket = await self._dial()
                except LinkError as error:
                    if not error.retryable:
                        self._end(error)
                        return
                    failure = error
        finally:
            self._ended.set()

    def _wait(self, closed: Closed, told: float | None) -> float | None:
        dice = random.random()  # noqa: S311 - spreads the clients of a server that went away
        renewable = self._credential.renewable
        return self._returning.wait(closed, anyio.current_time(), dice, renewable=renewable, told=told)

    async def _dial(self) -> WebSocket:
        try:
            with anyio.fail_after(HANDSHAKE_SECONDS):
                token = await self._credential.take()
                headers = [("Authorization", f"Bearer {token}")] if token is not None else []
                after = f"&after={self.position}" if self.position else ""
                socket = await open_websocket(
                    self._address, f"{self._address.target}{after}", SUBPROTOCOL, headers, self._tls
                )
                try:
                    await self._hear_ready(socket)
                except BaseException:
                    await socket.give_up("no session_ready")
                    raise
        except TimeoutError:
            raise Unreachable(f"{self._address} did not answer within {HANDSHAKE_SECONDS:g} s") from None
        return socket

    async def _hear_ready(self, socket: WebSocket) -> None:
        text = await socket.receive()
        if text is None:
            closed = socket.closed or Closed(LOST)
            again = self._returning.wait(closed, 0.0, 0.0, renewable=False) is not None
            raise Unreachable(closed.reason) if again else ClosedByServer(closed.code, closed.reason)
        frame = read_frame(text)
        if frame is None or frame.get("type") != "session_ready":
            raise Refused(101, f"{self._address} speaks another protocol", code="wrong-protocol")
        self._returning.ready(anyio.current_time())
        self.resumed = cast(Resumed, frame.get("resumed", "new"))
        self._take(self._conversation.receive(frame))
        self._socket = socket
        self._flush()
        self._publish(Connected(self.resumed))

    async def _serve(self, socket: WebSocket) -> Closed:
        """Until the connection has ended."""
        try:
            async with anyio.create_task_group() as group:
                for task in (self._watch, self._pump, self._renew, self._acknowledge):
                    group.start_soon(task, socket)
                while (text := await socket.receive()) is not None:
                    self._hear(text)
                with anyio.move_on_after(LAST_WORDS_SECONDS):
                    await socket.pumped.wait()
                group.cancel_scope.cancel()
        finally:
            self._socket = None
            self._conversation.drop()
            with anyio.CancelScope(shield=True):
                await socket.give_up("we have left")
        return socket.closed or Closed(LOST)

    def _hear(self, text: str) -> None:
        frame = read_frame(text)
        if frame is None:
            return
        if frame.get("type") == "goaway":
            later = frame.get("retry_after_ms")
            self._returning.goaway(later / 1000 if isinstance(later, int | float) else 0.0, str(frame.get("reason")))
        self._take(self._conversation.receive(frame))
        self._flush()

    def _take(self, changes: Changes) -> None:
        for state in changes.foreign:
            self._publish(Asked(self._turn(state)))
        self._poke(changes.turns)
        aside = changes.aside or {}
        match aside.get("type"):
            case "presence":
                self._publish(Presence(self.connections))
            case "typing":
                self._publish(Typing(aside.get("active") is True))
            case str(kind) if kind not in UNSPOKEN:
                self._publish(Notice(aside))

    async def _pump(self, socket: WebSocket) -> None:
        await socket.pump()

    async def _watch(self, socket: WebSocket) -> None:
        """Idle for long: ask. Anything that comes is a sign of life, the pong is merely the one we can count on."""
        while True:
            idle = anyio.current_time() - socket.heard_at
            if idle < IDLE_SECONDS:
                await anyio.sleep(IDLE_SECONDS - idle)
                continue
            asked = anyio.current_time()
            socket.write(json.dumps({"type": "ping", "id": str(uuid.uuid4())}))
            await anyio.sleep(PONG_SECONDS)
            if socket.heard_at < asked:
                await socket.give_up("no pong")
                return

    async def _renew(self, socket: WebSocket) -> None:
        async for token in self._credential.renewals():
            socket.write(json.dumps({"type": "auth", "token": token}))

    async def _acknowledge(self, socket: WebSocket) -> None:
        """What was seen, joined: at most two frames a second for each turn."""
        while True:
            await self._acks_due.wait()
            await anyio.sleep(ACK_SECONDS)
            self._acks_due = anyio.Event()
            self._conversation.flush_acks()
            self._flush()

    def _flush(self) -> None:
        """Hand to the connection what is to be said; without one it stays to be said."""
        if self._socket is not None:
            for frame in self._conversation.outgoing:
                self._socket.write(json.dumps(frame, ensure_ascii=False))
            self._conversation.outgoing.clear()

    # Leaving.

    async def leave(self, *, well: bool) -> None:
        """Say goodbye, with a deadline, whether cancelled or not."""
        with anyio.CancelScope(shield=True):
            await self._leave(CODE_STOP if well else CODE_BACK_SOON)

    async def _leave(self, code: int) -> None:
        self._leaving = True
        self._hurry.set()
        if self._socket is not None:
            self._conversation.flush_acks()
            self._flush()
            self._socket.say_goodbye(code)
            with anyio.move_on_after(GOODBYE_SECONDS):
                await self._ended.wait()
        self._end(Left())

    def _end(self, error: LinkError) -> None:
        if self.error is None:
            self.error = error
        for turn in list(self._turns.values()):
            turn.poke()
        for feed in list(self._feeds):
            feed.poke()

    # Handles.

    def _turn(self, state: TurnState) -> Turn:
        turn = self._turns.get(state.message_id)
        if turn is None:
            turn = self._turns[state.message_id] = Turn(self, state)
        return turn

    def _poke(self, states: Iterable[TurnState]) -> None:
        for state in states:
            if (turn := self._turns.get(state.message_id)) is not None:
                turn.poke()

    def _publish(self, event: Event) -> None:
        for feed in list(self._feeds):
            feed.put(event)


def read_frame(text: str) -> dict[str, Any] | None:
    """A frame, or None if it is no JSON object."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None


@asynccontextmanager
async def connect(
    url: str,
    *,
    session_id: str | None = None,
    token: TokenSource = None,
    lang: str | None = None,
    after: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[Chat]:
    """Open a chat, and keep it connected until the end of the block. Runs on Trio and on asyncio.

    Args:
        url: `ws`, `wss`, `http` or `https`, with or without `/chat-ws`, with or without a query.
        session_id: which session; else the URL's, else a new one.
        token: a credential, or a function (async or not) that fetches one before every connect.
        lang: "ko" or "en", of the error texts.
        after: a stored position to go on from.
        tls: for `wss`; None: the system's authorities.

    Raises:
        ValueError: the URL, the session id or the token cannot be used.
        LinkError: the first connection failed. After it, drops are come back from for as long as the block lasts; one
            that there is no coming back from is raised by `send`, by turns and by events.
    """
    address = read_address(url, session_id, lang)
    chat = Chat(address, Credential(token), tls, after)
    socket = await chat.open()
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(chat.keep, socket)
            try:
                yield chat
            except BaseException as error:
                failure = error
                raise
            finally:
                await chat.leave(well=failure is None)
                group.cancel_scope.cancel()
    except BaseExceptionGroup:
        if isinstance(failure, Exception):
            raise failure from failure.__cause__  # as it was raised in the block, without the group around it
        raise
