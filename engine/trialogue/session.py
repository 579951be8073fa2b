"""The actor: an inbox (a memory channel), `step`, and the effects it asks for; nothing else is decided here.

Everything between two receives is synchronous, so the actor never waits for a client, an upstream or a store, and a
cancel is never stuck behind a token. Its inbox needs no bound of its own: a connection's receive is a checkpoint, so
at most one input per connection and three facts per generation wait in it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import assert_never

import trio

from trialogue.commons import Commons
from trialogue.core.errors import CloseCode, Fault
from trialogue.core.events import (
    CancelResult,
    Confirmed,
    Duplicate,
    Ended,
    Event,
    Failed,
    Reply,
    Snapshot,
    Started,
    Status,
    Typing,
    UserMessage,
)
from trialogue.core.machine import (
    STOPPED,
    Accept,
    Answer,
    Asker,
    Begin,
    Cancel,
    Closed,
    Drain,
    Effect,
    End,
    Ending,
    Input,
    Outcome,
    Queue,
    Refuse,
    Repeat,
    Settle,
    Start,
    State,
    Stop,
    Submit,
    Turn,
    recover,
    step,
)
from trialogue.errand import Errand
from trialogue.generation import Generation
from trialogue.history import History, Resumed
from trialogue.log import Log, Position
from trialogue.repeats import Repeats
from trialogue.stay import Client, Stay, Wake
from trialogue.tracing import NULL_TRACE, Trace, TurnNames


@dataclass(frozen=True, slots=True)
class Crash:
    """A bug of ours, found outside the actor: it is the actor that crashes."""

    error: BaseException


class Session:
    """One conversation. `key` is (principal, session id); `run` is the actor, the rest is called by its peers."""

    __slots__ = (
        "_commons",
        "_gone",
        "_in_hand",
        "_inbox",
        "_repeats",
        "_returns",
        "_stay",
        "_tell",
        "_told_at",
        "_traces",
        "clients",
        "confirmed_id",
        "cut",
        "errands",
        "generations",
        "history",
        "key",
        "log",
        "state",
    )

    def __init__(self, key: tuple[str, str], log: Log, commons: Commons) -> None:
        self.key = key
        self.log = log
        self.state = State()
        self.errands: dict[int, Errand] = {}
        self.generations: dict[str, Generation] = {}
        self.confirmed_id: str | None = None
        self.cut: Container[str] = ()  # see `resume`
        self._commons = commons
        self._tell, self._inbox = trio.open_memory_channel[tuple[float, Input | Crash | Wake]](inf)
        self._stay = Stay(log, self._tell, commons)
        self.clients = self._stay.clients  # the same object, for good
        self._told_at = 0.0  # when what is in hand was put into the inbox
        self._in_hand: Input | Crash | Wake | None = None
        self._traces: dict[str, Trace] = {}  # of turns that are not settled
        self.history = History(log, self.generations)
        self._repeats = Repeats(self.clients)
        self._returns = ("", 0)  # the turn that clients have last come back to, and how many
        self._gone: trio.Event | None = None  # it has been retired; set when nothing of it is open any more

    def __repr__(self) -> str:
        running = self.state.running.message_id if self.state.running else None
        queued = len(self.state.queue)
        return f"<Session {self.key[1]!r} {len(self.clients)} connections, running {running!r}, {queued} queued>"

    # Called by connections and by the hub.

    @property
    def session_id(self) -> str:
        """The id for clients: the one that the service confirmed, else the connections'."""
        return self.confirmed_id or self.key[1]

    @property
    def services_id(self) -> str:
        """The id for the service: the one that it confirmed, else ours. A service knows no principals, and keeps its
        history by this id alone: so a principal's name is part of it, with a sign that no session id has."""
        principal, session_id = self.key
        return self.confirmed_id or (f"{principal}/{session_id}" if principal else session_id)

    @property
    def present(self) -> int:
        """Its connections, on all nodes."""
        return len(self.clients)

    @property
    def retired(self) -> bool:
        return self._gone is not None

    @property
    def drained(self) -> bool:
        """It is leaving, and owes nothing to anybody: every turn has its end, its receipt, and its service told; or
        it waits for the next owner."""
        state = self.state
        return (state.draining or state.leaving) and state.idle and not self.generations

    def owns(self, session_id: str) -> bool:
        """Is this the session's own id, or the one that the service confirmed for it?"""
        return session_id in (self.key[1], self.confirmed_id)

    def tell(self, happened: Input | Crash | Wake) -> None:
        """Put something into the inbox. Never blocks."""
        self._tell.send_nowait((trio.current_time(), happened))

    def place(self, after: Position | None, message_id: str | None = None) -> tuple[int, Resumed]:
        """Where a new connection starts to follow, and what that is called.

        Args:
            message_id: of the one turn that it comes for, if it does: it starts inside that turn, known or to come.
        """
        return self.history.place(after, message_id)

    def unanswered(self, before: int) -> list[UserMessage]:
        """The running and the queued turns' questions, for a connection whose log begins (at `before`) after them."""
        return self.history.unanswered(before)

    def rejoin(self) -> tuple[str, int] | None:
        """The turn in whose midst a client comes back, and how many have by now; None if none runs."""
        running = self.state.running
        if running is None or running.message_id not in self.history.began:
            return None
        message_id, times = self._returns
        self._returns = (running.message_id, times + 1 if running.message_id == message_id else 1)
        return self._returns

    def confirmed(self) -> Confirmed:
        """The session's id as the service has it; and the running turn, if the pipeline has told its metadata."""
        running = self.state.running
        generation = self.generations.get(running.message_id) if running else None
        return Confirmed(generation.turn.message_id if generation and generation.informed else None, self.session_id)

    def attach(self, client: Client) -> None:
        """A connection has come. The others hear of it."""
        self._stay.attach(client)

    def detach(self, client: Client, *, stop: bool) -> None:
        """A connection has gone: on purpose (`stop`), or lost. The last one's way decides what becomes of the turns."""
        self._stay.detach(client, stop=stop)

    def reserve(self) -> None:
        """It is to be there for a client that has not come yet: it lives as long as one whose last client has left."""
        self._stay.reserve()

    def delete(self) -> None:
        """Stop what runs, take nothing more, say goodbye to everybody (1000), and go once what ran has closed."""
        self._stay.delete()
        self.tell(Cancel(None, None))
        self.tell(Drain(now=False))

    def retire(self) -> trio.Event:
        """It decides nothing any more, and appends nothing: somebody else owns the session, or nobody.

        Idempotent. Returns what is set once nothing that it has opened is open any more.
        """
        if self._gone is None:
            self._gone = trio.Event()
            self._stay.end()
            self._fence_all()
            self.tell(Wake())
        return self._gone

    def close(self) -> None:
        """The actor has ended for good: nobody waits for it any more, and its log goes, unless that has gone over to
        somebody else (see `retire`)."""
        self._stay.end()
        if self._gone is None:
            self.log.close()

    def shed(self) -> None:
        """Let go of ended turns."""
        self.log.shed()

    def errand(self) -> Errand:
        """For somebody who asks something and is not attached: to be replied to, for the length of a `with` block."""
        return Errand(self.errands)

    def relay_typing(self, origin: Client, active: bool) -> None:
        self._stay.tell_others(origin, Typing(active))

    def postpone(self, message_id: str, client: Client) -> None:
        """A replay had to wait for its client, and would go into the turn that runs by now: it comes after that."""
        self._repeats.due.append(Repeat(client.number, message_id))

    def ack(self, message_id: str, index: int) -> None:
        """A client has shown tokens up to `index`. Of a turn that is settled, it comes too late to matter."""
        if message_id in self.generations:
            self.generations[message_id].ack(index)

    # The actor.

    async def run(self) -> None:
        """Until the session has expired. An exception is a crash; the hub decides what follows (see `recover`).

        All that waits is handled at once: were there a checkpoint in between, a client whose cancel stands behind two
        facts of a generation would get its pong first.
        """
        while not self._expired():
            self._told_at, self._in_hand = await self._inbox.receive()
            while self._in_hand is not None:
                self._handle(self._in_hand)
                self._told_at, self._in_hand = self._waiting()
        if self._gone is not None:
            self._gone.set()

    def _waiting(self) -> tuple[float, Input | Crash | Wake | None]:
        try:
            return self._inbox.receive_nowait()
        except trio.WouldBlock:
            return 0.0, None

    def _expired(self) -> bool:
        if self._gone is not None:
            return not self.generations
        return not self.clients and self.state.idle and not self.generations and self._stay.over

    def _handle(self, message: Input | Crash | Wake) -> None:
        if isinstance(message, Wake):
            return
        if self._gone is not None:  # whatever is asked: only the ends of its own generations still matter to it
            if isinstance(message, Closed):
                self.generations.pop(message.message_id, None)
            return
        if isinstance(message, Crash):
            raise message.error
        self.state, effects = step(self.state, message, self._commons.limits)
        self._perform(effects)

    def _perform(self, effects: list[Effect]) -> None:
        """All effects of one step, in order; what goes into the log goes in as few appends as order allows."""
        events: list[Event] = []
        for effect in effects:
            match effect:
                case Accept(turn):
                    self._accept(turn)
                    events.append(UserMessage(turn.message_id, turn.content, turn.on_busy, turn.options, _timestamp()))
                case Queue(message_id, place):
                    self._trace(message_id).enter("queued")
                    events.append(Status(message_id, "queued", {"place": place}))
                case Begin(turn, waiting):
                    events.append(Started(turn.message_id, self.key[1], _timestamp()))
                    if waiting:
                        self._trace(turn.message_id).enter("waiting")
                        events.append(Status(turn.message_id, "waiting"))
                    self.generations[turn.message_id] = self._generation(turn)
                case Start(turn):
                    events.append(self._start(turn))
                case Stop(message_id):
                    self.generations[message_id].stop()
                case End(message_id, outcome):
                    begun = message_id in self.history.began
                    events.append(self._end(message_id, outcome))
                    if begun and self._repeats.due:
                        self._append(events)
                        self._repeats.send(self.history)
                case Settle(message_id, _):
                    self._settle(message_id, events)
                case Refuse() | Repeat() | Answer():
                    self._append(events)
                    self._reply(effect)
                case _:
                    assert_never(effect)
        self._append(events)
        self._rest()

    def _rest(self) -> None:
        """Between two steps: a drained session lets its connections go; whoever waits for a change hears of it."""
        if self.drained and self._stay.deleted:
            self._stay.dismiss(CloseCode.NORMAL, "the session was deleted")
        elif self.drained:
            self._commons.goodbye(self)
        self.log.remember(self._snapshot)
        self._commons.changed()

    def _snapshot(self) -> Snapshot:
        return self.history.snapshot(self.confirmed_id)

    def _append(self, events: list[Event]) -> None:
        """Append and clear `events`, noting where turns stand in the log."""
        if not events:
            return
        batch = events[:]
        events.clear()
        self.history.take(enumerate(batch, self.log.end))  # none of these is a Tokens: one offset each
        self.log.settle(self.history.floor)
        stopped = sum(isinstance(event, Ended) and event.finish_reason in STOPPED for event in batch)
        self.log.extend(batch)
        for _ in range(stopped):
            self._commons.meter.stopped(trio.current_time() - self._told_at)

    # Effects.

    def _accept(self, turn: Turn) -> None:
        self._commons.meter.accepted()
        asker = self._in_hand.asker if isinstance(self._in_hand, Submit) else None
        client = self.clients.get(asker) if asker is not None else None
        parent = client.traceparent if client else ""
        self._traces[turn.message_id] = self._commons.tracer.accepted(TurnNames(*self.key, turn.message_id), parent)

    def _trace(self, message_id: str) -> Trace:
        return self._traces.get(message_id, NULL_TRACE)  # none: the turn is one that a log has told of

    def _generation(self, turn: Turn) -> Generation:
        return Generation(
            turn,
            TurnNames(*self.key, turn.message_id),
            self._trace(turn.message_id),
            self.services_id,
            self.log,
            self._commons,
            tell=self.tell,
            confirm=self._confirm,
            crash=self._crash,
        )

    def _crash(self, error: BaseException) -> None:
        self.tell(Crash(error))

    def _confirm(self, message_id: str, session_id: str | None) -> None:
        self.confirmed_id = session_id or self.confirmed_id
        confirmed = Confirmed(message_id, self.session_id)
        for client in tuple(self.clients.values()):
            client.reply(confirmed)

    def _start(self, turn: Turn) -> Event:
        if turn.message_id not in self.generations:  # it has begun on another node
            self.generations[turn.message_id] = self._generation(turn)
        opened = self.generations[turn.message_id].start()
        if not opened:
            self._trace(turn.message_id).enter("waiting")
        return Status(turn.message_id, "retrieving" if opened else "waiting", {} if opened else {"for": "capacity"})

    def _end(self, message_id: str, outcome: Outcome) -> Event:
        generation = self.generations.get(message_id)
        tokens, elapsed = (generation.tokens, generation.elapsed_ms) if generation else (0, 0)
        code = outcome.fault.code if outcome.fault else ""
        self._trace(message_id).ended(outcome.ending, code)
        if generation:
            generation.ended(outcome.ending)
            if not generation.started:
                del self.generations[message_id]
        self._settle_trace(message_id)
        self._commons.meter.ended(outcome.ending, code, elapsed / 1000)
        if outcome.fault:
            return Failed(message_id, outcome.fault)
        return Ended(message_id, outcome.finish_reason, tokens, elapsed, generation.meta if generation else {})

    def _settle_trace(self, message_id: str) -> None:
        """Of a turn that has ended: at once if no generation is to tell what became of it."""
        if message_id not in self.generations:
            self._trace(message_id).settled(None)
            self._traces.pop(message_id, None)

    def _settle(self, message_id: str, events: list[Event]) -> None:
        generation = self.generations.pop(message_id)
        if generation.receipt:
            events.append(generation.receipt)
        self._traces.pop(message_id, None)
        self.history.settle(message_id, self.state.ledger)
        self.log.settle(self.history.floor)

    def _reply(self, effect: Refuse | Repeat | Answer) -> None:
        match effect:
            case Refuse(asker, message_id, fault):
                self._commons.meter.refused(fault.code)
                self._send(asker, Failed(message_id, fault))
            case Answer(asker, message_id, outcome):
                self._send(asker, CancelResult(message_id, outcome))
            case Repeat(asker, message_id):
                self._send(asker, Duplicate(message_id))
                self._repeats.ask(effect)
                if self.state.idle:
                    self._repeats.send(self.history)

    def _send(self, asker: Asker, reply: Reply) -> None:
        if asker in self.clients:
            self.clients[asker].reply(reply)
        elif asker in self.errands:
            self.log.after(partial(self.errands[asker].reply, reply))

    # Called by the hub.

    def resume(self, history: History, fault: Fault, cut: Container[str] = ()) -> None:
        """Go on with a log that another owner wrote: `history` is the fold of all that it holds.

        Args:
            fault: how the turn ends that was under way; unless nobody was told a thing of it: it is generated afresh.
            cut: turns of which clients have been told that they are lost with the store.
        """
        history.held = self.generations
        self.history, self.confirmed_id, self.cut = history, history.confirmed_id, cut
        unended, begun = history.unended
        state = State(ledger=history.ledger)
        self.state, effects = recover(state, unended, begun, None, fault=fault, afresh=history.silent, cut=cut)
        self._perform(effects)

    def recover(self) -> None:
        """After a crash: fence what runs, rebuild the state from the log, end what is lost, go on with the rest."""
        culprit, self._in_hand = self._in_hand, None
        unended, begun = self._unended()
        self._fence_all()
        slot = next(iter(self.generations), None)
        self.state, effects = recover(self.state, unended, begun, slot)
        self._perform(effects)
        if isinstance(culprit, Submit) and culprit.turn.message_id not in self.state.ledger:
            self._send(culprit.asker, Failed(culprit.turn.message_id, Fault("WS-007")))

    def _fence_all(self) -> None:
        """Stop what runs; what never started is forgotten. At most one is left: the one that holds the slot."""
        for message_id, generation in list(self.generations.items()):
            if generation.started:
                generation.stop()
                self._trace(message_id).ended(Ending.FAILED, "WS-007")
                generation.ended(Ending.FAILED)
            else:
                del self.generations[message_id]

    def _unended(self) -> tuple[tuple[Turn, ...], bool]:
        """What the log says was promised: the accepted turns without an end, the begun one first."""
        history = History(self.log)
        history.take(self.log.read(self.log.start, self.log.end))
        return history.unended

    def give_up(self) -> None:
        """It crashed too often: every unended turn gets its one ending, every connection is closed with 1011."""
        try:
            self._fence_all()
            for turn in self._unended()[0]:
                self.log.extend([Failed(turn.message_id, Fault("WS-007"))])
                self._commons.meter.ended(Ending.FAILED, "WS-007", 0)
                self._trace(turn.message_id).ended(Ending.FAILED, "WS-007")
                self._settle_trace(turn.message_id)
        finally:
            self._stay.dismiss(CloseCode.CRASHED, "session crashed repeatedly")


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
