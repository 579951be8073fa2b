"""One client: reads its commands, follows the session's log, writes; and the Transport port it does that over.

The reader always drains, also in mid-stream, so a close or a cancel is noticed at once. Writing is synchronous: an
append pokes the follower, which hands everything that is ready to the transport in one batch; only a full transport
wakes the writer task. Whatever a client sends, and however it breaks, ends here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Protocol, assert_never

import trio

from trialogue.admission import Budget
from trialogue.alarms import Alarm
from trialogue.core.dialects import SUBPROTOCOL, Dialect, Muted
from trialogue.core.errors import CloseCode, Fault
from trialogue.core.events import CancelResult, Failed, Goaway, Pong, Ready, Replay, Reply
from trialogue.core.machine import Cancel, Policy, Submit, Turn
from trialogue.core.protocol import (
    ClientAck,
    ClientAuth,
    ClientCancel,
    ClientMessage,
    ClientPing,
    ClientTyping,
    Command,
    Invalid,
    parse,
)
from trialogue.hub import Hub
from trialogue.log import Entry, Follower, Gap, Position
from trialogue.ownership import AnySession
from trialogue.store import StoreGone
from trialogue.tracing import session_fields

logger = logging.getLogger(__name__)

BATCH_ENTRIES = 256
"""Entries per write: bounds the memory of a replay, and is far more than a poll ever makes ready."""

CLIENTS_FAULTS = ("WS-001", "WS-004", "WS-005")
"""Refusals that a client can avoid; who goes on collecting them is abusing."""

CREDENTIAL_SECONDS = 60.0
"""How far ahead an expiry is trusted: wall clocks are set; and an alarm that is off stays in the heap till its time."""


class Disconnected(Exception):
    """The client has gone. `code`: its close code, 1005 for a close frame without one, 1006 for a lost connection."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Transport(Protocol):
    """What a connection writes to and reads from: asyncio's write/drain habit, on Trio."""

    async def receive(self) -> str | bytes:
        """The next message: text, or bytes of a binary one. Raises Disconnected. Cancelled: no message is lost.

        Always a checkpoint, also when a message is there: the sessions' inboxes are bounded by that.
        """

    def write(self, frames: Sequence[bytes]) -> bool:
        """Take text frames; never blocks, never raises. False: it is full (these are taken), `drain` before more."""

    async def drain(self) -> bool:
        """Wait until some of what was taken has left. True: there is room again. Raises Disconnected."""

    def probe(self) -> bool:
        """Has the peer given a sign of life since the last call? Asks it for one (a ping). Never blocks, never raises.

        True from a transport that cannot tell: then it is the server that has to notice.
        """

    async def close(self, code: int, reason: str) -> None:
        """Send what was taken and a close frame, as far as the peer takes it. Never raises; bounded in time."""


class Credential(Protocol):
    """What a connection was let in with, if that can expire. Both never block and never raise."""

    def remaining(self) -> float:
        """Seconds until it expires; when none are left, the connection ends."""

    def renew(self, token: str) -> bool:
        """Go on with a newer one. False: that one is not good for this principal and session."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a connection was opened with. `principal` is who passed authentication, "" for everybody.

    `client` is whose budget it uses: the principal, or else an address. `credential` is None where nothing expires.
    `turn`: the message id of the one turn that the connection is for, None where it is for the session.
    `traceparent`: the W3C trace that the client works in, "" if it told none.
    """

    session_id: str
    principal: str = ""
    client: str = ""
    after: Position | None = None
    default_policy: Policy = Policy.INTERRUPT
    heartbeat_s: float = 20.0
    credential: Credential | None = None
    turn: str | None = None
    traceparent: str = ""


_numbers = count(1)


class Connection:
    """A client's link to a session. `run` returns when it is over, whoever ended it; it raises only bugs."""

    __slots__ = (
        "_budget",
        "_dialect",
        "_dismissal",
        "_doubted",
        "_expiry",
        "_filled",
        "_follower",
        "_full",
        "_handshake",
        "_heartbeat",
        "_hub",
        "_limits",
        "_muted",
        "_nursery",
        "_replies",
        "_session",
        "_transport",
        "number",
        "start",
        "traceparent",
    )

    def __init__(self, hub: Hub, transport: Transport, dialect: Dialect, handshake: Handshake) -> None:
        self.number = next(_numbers)
        self.start = 0
        self.traceparent = handshake.traceparent
        self._hub = hub
        self._limits = hub.limits
        self._transport = transport
        self._dialect = dialect
        self._handshake = handshake
        self._session: AnySession
        self._follower: Follower
        self._nursery: trio.Nursery
        self._heartbeat: Alarm
        self._replies: list[Reply] = []
        self._doubted: list[str | None] = []  # cancels whose answer was lost with the entries that it was about
        self._muted: set[str] = set()
        self._full = False
        self._filled: trio.Event | None = None  # set for the writer, once there is one
        self._dismissal: tuple[CloseCode, str] | None = None
        self._expiry: Alarm | None = None
        self._budget: Budget

    def __repr__(self) -> str:
        return f"<Connection {self.number} to {self._handshake.session_id!r}, {self._dialect.name}>"

    def _names(self) -> dict[str, Any]:
        """For a log record's `extra`."""
        return {**session_fields(self._handshake.principal, self._handshake.session_id), "connection": self.number}

    async def run(self) -> None:
        """Attach, serve, detach. Cancelled from outside: detached as a drop, the transport is left to its owner."""
        hub, handshake = self._hub, self._handshake
        try:
            self._session = session = await hub.session(handshake.principal, handshake.session_id)
        except StoreGone:
            await self._turn_away(Fault("WS-009"))
            return
        self._budget = hub.admission.enter(handshake.client)
        after = handshake.after if self._dialect.resumes else None
        start, resumed = session.place(after, handshake.turn)
        self._follower = session.log.follow(start, self._poke)
        self.start = self._follower.position
        stop = False
        hub.attached(self, session)
        self._heartbeat = hub.alarm(handshake.heartbeat_s, self._probe)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._greet(resumed)
                self._check_credential()
                try:
                    stop = await self._read()
                finally:
                    self._full = True  # it is leaving: nothing more is written, and no writer is started
                nursery.cancel_scope.cancel()
        finally:
            self._heartbeat.cancel()
            self._follower.close()
            if self._expiry:
                self._expiry.cancel()
            hub.admission.leave(self._budget)
            hub.detached(self, self._session, stop=stop)
        if self._dismissal:
            await self._transport.close(*self._dismissal)

    async def _turn_away(self, fault: Fault) -> None:
        """There is no session to be had now."""
        self._hub.meter.refused(fault.code)
        self._transport.write(self._dialect.reply(Failed(self._handshake.turn or "unknown", fault)))
        await self._transport.close(CloseCode.OVERLOADED, "the sessions' store is not reachable")

    def _greet(self, resumed: str) -> None:
        session, limits, running = self._session, self._limits, self._session.state.running
        self._transmit(
            Ready(
                session_id=self._handshake.session_id,
                position=str(session.log.position(self._follower.position)),
                resumed=resumed,  # type: ignore[arg-type]
                running=running.message_id if running else None,
                queued=[turn.message_id for turn in session.state.queue],
                connections=session.present,
                limits={
                    "content_chars": limits.max_content_chars,
                    "frame_bytes": limits.max_frame_bytes,
                    "queue": limits.queue_size,
                },
                heartbeat_s=self._handshake.heartbeat_s,
            )
        )
        if resumed in ("attached", "gap") and self._dialect.name == SUBPROTOCOL:
            for question in session.unanswered(self.start):
                self._transmit(question)
        if not self._dialect.resumes:
            self._rejoin()
        self._catch_up()

    def _rejoin(self) -> None:
        """What a dialect that holds state has to know before it is told what runs."""
        returned = self._session.rejoin()
        if returned:
            self._dialect.rejoin(*returned)
        self._transmit(self._session.confirmed())

    # The session's side (its `Client` port).

    def reply(self, reply: Reply) -> None:
        """Send something to this client alone, after every entry that is in the log now. Never blocks or raises."""
        self._session.log.after(partial(self._reply, reply), partial(self._doubt, reply))

    def _doubt(self, reply: Reply) -> None:
        """What it tells of never came into the log. Whether a turn was stopped, the session's next owner says."""
        if isinstance(reply, CancelResult):
            self._doubted.append(reply.message_id)
        else:
            self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        if self._dismissal:
            return  # nothing follows a goodbye
        self._catch_up()
        if not self._full and not self._follower.behind:
            self._transmit(reply)
        elif len(self._replies) < self._limits.max_replies:
            self._replies.append(reply)
        else:
            self._end(CloseCode.TOO_SLOW, "too slow")

    def dismiss(self, code: CloseCode, reason: str, goaway: Goaway | None = None) -> None:
        """Close this connection after what is in the log now. Idempotent: the first reason stands."""
        end = partial(self._end, code, reason, goaway)
        self._session.log.after(end, end)

    def swap(self, session: AnySession) -> None:
        """The session is that object from now on, with the same log."""
        self._session = session
        doubted, self._doubted = self._doubted, []
        for message_id in doubted:
            session.tell(Cancel(message_id, self.number))

    def cut_off(self, message_ids: Iterable[str]) -> None:
        """Tell by replies that these turns are lost with the store, and then no entry of them, up to their ends."""
        untold = [message_id for message_id in message_ids if message_id not in self._muted]
        self._muted.update(untold)
        if self._muted and not isinstance(self._dialect, Muted):
            self._dialect = Muted(self._dialect, self._muted)
        for message_id in untold:
            self.reply(Failed(message_id, Fault("WS-009")))

    def _end(self, code: CloseCode, reason: str, goaway: Goaway | None = None) -> None:
        """Close this connection after what it has been handed."""
        if self._dismissal is None:
            if goaway:
                self._reply(goaway)
            self._dismissal = (code, reason)
            self._hub.meter.dismissed(code)
            if not self._full:
                self._nursery.cancel_scope.cancel()

    # Its credential.

    def _check_credential(self) -> None:
        """Say goodbye if it has expired, else look again when it may have. So renewing it sets no alarm."""
        credential = self._handshake.credential
        if credential is None:
            return
        left = credential.remaining()
        if left <= 0:
            self._end(CloseCode.POLICY, "the credential has expired", Goaway("expired", 0))
        else:
            self._expiry = self._hub.alarm(min(left, CREDENTIAL_SECONDS), self._check_credential)

    def _renew(self, token: str) -> None:
        credential = self._handshake.credential
        if credential is not None and not credential.renew(token):
            unfit = Invalid("unknown", "token", "unfit", {}, "it is not good for this connection")
            self._refuse("unknown", Fault("WS-001", unfit.describe(self._dialect.lang)))

    # Writing.

    def _poke(self, fresh: Sequence[Entry]) -> bool:
        """Hand the transport what has just been appended (or, if that is not all, what we lack). Hot: every append."""
        if self._full or self._dismissal is not None:
            return False
        if not fresh:
            self._catch_up()
            return False
        try:
            if len(fresh) == 1:
                frames = self._dialect.feed(*fresh[0])
            else:
                frames = [frame for entry in fresh for frame in self._dialect.feed(*entry)]
            if frames and not self._transport.write(frames):
                self._mark_full()
            if self._dialect.over:
                self._finish()
        except Exception:
            logger.exception("failed to write", extra=self._names())
            self._end(CloseCode.CRASHED, "internal error")
        return True

    def _catch_up(self) -> None:
        """Everything after our position, in bounded pieces, until the transport is full."""
        if self._full or self._dismissal is not None:
            return
        try:
            while self._follower.behind and not self._full:
                entries = self._follower.take(BATCH_ENTRIES)
                self._hand_over([frame for entry in entries for frame in self._dialect.feed(*entry)])
        except Gap:
            self._end(CloseCode.TOO_SLOW, "too slow: what it has not read is gone")
        except Exception:
            logger.exception("failed to write", extra=self._names())
            self._end(CloseCode.CRASHED, "internal error")

    def _transmit(self, reply: Reply) -> None:
        try:
            self._hand_over(self._dialect.reply(reply))
        except Exception:
            logger.exception("failed to write", extra=self._names())
            self._end(CloseCode.CRASHED, "internal error")

    def _hand_over(self, frames: Sequence[bytes]) -> None:
        """To the transport; when the dialect has nothing more to tell, they were the last."""
        if frames and not self._transport.write(frames):
            self._mark_full()
        if self._dialect.over:
            self._finish()

    def _finish(self) -> None:
        self._end(CloseCode.NORMAL, "all is told")

    def _mark_full(self) -> None:
        """From now on the writer waits for room; most connections never need one (3 KB each)."""
        self._full = True
        if self._filled is None:
            self._filled = trio.Event()
            self._nursery.start_soon(self._write)
        self._filled.set()

    async def _write(self) -> None:
        """Wait for room whenever the transport is full, and give up on a client that makes none."""
        while True:
            assert self._filled is not None
            await self._filled.wait()
            self._filled = trio.Event()
            while self._full:
                with trio.move_on_after(self._limits.stall_timeout) as patience:
                    try:
                        self._full = not await self._transport.drain()
                    except Disconnected:
                        return  # the reader hears of it, and knows the code
                if patience.cancelled_caught:
                    self._full = False
                    self._end(CloseCode.TOO_SLOW, "too slow")
            self._resume()
            if self._dismissal and not self._full:
                self._nursery.cancel_scope.cancel()

    def _resume(self) -> None:
        """There is room again: what the log has for us, then the replies that had to wait behind it."""
        self._catch_up()
        while self._replies and not self._full and not self._follower.behind:
            reply = self._replies.pop(0)
            if isinstance(reply, Replay) and not self._session.state.idle:
                self._session.postpone(reply.events[0].message_id, self)
            else:
                self._transmit(reply)

    # Reading.

    def _probe(self) -> None:
        """Every heartbeat: a peer of which nothing was heard since the last one, not even a pong, is lost."""
        if self._transport.probe():
            if not self._full:
                self._hand_over(self._dialect.heartbeat)
            self._heartbeat = self._hub.alarm(self._handshake.heartbeat_s, self._probe)
        else:
            logger.info("a peer is silent", extra=self._names())
            self._nursery.cancel_scope.cancel()

    async def _read(self) -> bool:
        """Until the client has gone; True if it left on purpose (which stops its turns), False if it was lost."""
        while True:
            try:
                message = await self._transport.receive()
            except Disconnected as gone:
                return gone.code in (1000, 1005)
            if isinstance(message, bytes):
                self._end(CloseCode.BINARY, "binary frames are not understood")
            elif self._too_big(message):
                self._end(CloseCode.TOO_BIG, f"more than {self._limits.max_frame_bytes} bytes")
            elif self._dismissal is None:
                self._obey(message)
            # With the one in `receive`, a second checkpoint: the session has acted on this frame before the next is
            # read, so a client is answered in the order in which it asked, and its pong comes after its refusal.
            await trio.lowlevel.checkpoint()

    def _too_big(self, message: str) -> bool:
        limit = self._limits.max_frame_bytes
        return len(message) > limit or (4 * len(message) > limit and len(message.encode()) > limit)

    def _obey(self, message: str) -> None:
        command = parse(message)
        message_id = getattr(command, "message_id", None) or "unknown"
        if not self._budget.frames.take(trio.current_time()):
            self._refuse(message_id, Fault("WS-005"), self._budget.frames.wait_ms())
        elif isinstance(command, Invalid):
            fault = Fault("WS-001", command.describe(self._dialect.lang), unreadable=command.kind == "json_invalid")
            self._refuse(message_id, fault)
        elif command.session_id is not None and not self._session.owns(command.session_id):
            self._refuse(message_id, Fault("WS-004"))
        else:
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case ClientMessage():
                self._submit(command)
            case ClientCancel(message_id=message_id):
                known = self._dialect.original(message_id) if message_id else None
                self._session.tell(Cancel(known, self.number))
            case ClientAck(message_id=message_id, index=index):
                self._session.ack(self._dialect.original(message_id), index)
            case ClientTyping(active=active):
                self._session.relay_typing(self, active)
            case ClientPing(id=ping_id):
                self.reply(Pong(ping_id))
            case ClientAuth(token=token):
                self._renew(token)
            case _:
                assert_never(command)

    def _submit(self, message: ClientMessage) -> None:
        self._muted.discard(message.message_id)
        known = message.message_id in self._session.state.ledger
        fault = None if known else self._hub.refusal()
        if fault:
            self._refuse(message.message_id, fault)
        elif not known and not self._budget.turns.take(trio.current_time()):
            self._refuse(message.message_id, Fault("WS-005"), self._budget.turns.wait_ms())
        else:
            policy = message.on_busy or self._handshake.default_policy
            turn = Turn(message.message_id, message.content, policy, message.options or {})
            self._session.tell(Submit(turn, self.number))

    def _refuse(self, message_id: str, fault: Fault, retry_after_ms: int | None = None) -> None:
        self._hub.meter.refused(fault.code)
        self.reply(Failed(message_id, fault, retry_after_ms))
        if fault.code in CLIENTS_FAULTS and not self._budget.refusals.take(trio.current_time()):
            self.dismiss(CloseCode.POLICY, "too many frames were refused")
