"""Random schedules over several nodes that share a store: clients come and go anywhere, nodes and stores fail.

`play(seed)` returns what was wrong. What must hold is read from the store's stream (each message accepted once and
ended once, tokens without a hole, ids that grow, one generation's tokens only), from what each client was sent (every
entry is in the stream, as it stands there, each once and in order), and from the end: when all is healed and time has
passed, every message is ended and every client is level with the stream.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

import trio
import trio.testing

from proof.rehearsal import _heard, _same_order_always
from support.memory import MemoryTransport, settle
from support.memory_store import MemoryStore, Server
from trialogue import Connection, Done, Emit, Handshake, Hub, Limits, Position, Turn
from trialogue.core.dialects import V1Dialect
from trialogue.core.events import Ended, Event, Failed, Fenced, Receipt, Started, Tokens, UserMessage
from trialogue.remote_session import RemoteSession
from trialogue.session import Session

NAMES = "abc"
DEVICES = 4
KEY = ("", "s")
LINGER, TTL = 20.0, 500.0

VERBS: dict[str, float] = {
    "connect": 10,
    "leave": 5,
    "send": 10,
    "repeat": 3,
    "cancel": 4,
    "emit": 14,
    "done": 5,
    "wait": 8,
    "kill": 1,
    "lose": 2,
    "drain": 1,
    "freeze": 1,
    "cut": 1,
    "down": 0.7,
    "heal": 3,
}


class Device:
    """A good client: keeps its position, and checks each frame as it comes."""

    def __init__(self, number: int, play: Play) -> None:
        self.number = number
        self.transport: MemoryTransport | None = None
        self.position: Position | None = None
        self.told: dict[str, str] = {}  # turns that it was told the end of, by an entry or a reply
        self.heard: list[tuple[Position, dict[str, Any]]] = []
        self.node = ""
        self.asked: set[str] = set()
        self.seen: set[str] = set()  # messages that it was told as entries
        self._play = play

    def attach(self, node: str) -> MemoryTransport:
        self.node = node
        self.told, self.asked, self.seen = {}, set(), set()
        transport = self.transport = Ear(self)
        return transport

    def hear(self, frame: dict[str, Any]) -> None:
        kind, name = frame["type"], frame.get("message_id")
        if kind == "session_ready":
            ready = Position.parse(frame["position"])
            if frame["resumed"] == "replayed" and self.position and ready.offset != self.position.offset:
                self._play.complain(f"device {self.number} resumed at {self.position} and is told {ready}")
            self.position = ready
        elif "offset" in frame:
            assert self.position
            epoch = frame.get("epoch", self.position.epoch)
            if not self.position.offset < frame["offset"]:
                self._play.complain(f"device {self.number} at {self.position} is told {frame}")
            if kind == "user_message" and name not in self.seen:
                self.told.pop(name or "", None)  # it was refused before; and somebody has tried again
            self.seen.add(name or "")
            if name in self.told and kind != "stream_receipt":
                self._play.complain(f"device {self.number} was told the end of {name}, and now {frame}")
            self.heard.append((self.position, frame))
            self.position = Position(epoch, frame["offset"])
        if kind in ("stream_end", "stream_error") and name:
            self.told[name] = frame.get("finish_reason") or frame["error_code"]
        if kind == "stream_status" and frame["phase"] == "duplicate":
            self.told.pop(name or "", None)
            self.asked.discard(name or "")


class Ear(MemoryTransport):
    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device

    def write(self, frames: Sequence[bytes]) -> bool:
        if self._device.transport is self:
            for frame in frames:
                self._device.hear(json.loads(frame))
        return True


class Pipeline:
    """The service of all nodes. Each call of it marks its tokens with its own number."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int, Emit, trio.Event, list[int]]] = []

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        run = (turn.message_id, len(self.runs), emit, trio.Event(), [0])
        self.runs.append(run)
        await run[3].wait()

    def current(self) -> tuple[str, int, Emit, trio.Event, list[int]] | None:
        return self.runs[-1] if self.runs and not self.runs[-1][3].is_set() else None


class Play:
    def __init__(self, seed: int, wrong: list[str], nursery: trio.Nursery) -> None:
        self.random = Random(seed)
        self.wrong = wrong
        self.server = Server(self.random.choice((0.001, 0.02)))
        self.service = Pipeline()
        self.nodes: dict[str, tuple[Hub, MemoryStore, trio.CancelScope]] = {}
        self.devices = [Device(number, self) for number in range(DEVICES)]
        self.sent: list[str] = []
        self._nursery = nursery

    def complain(self, what: str) -> None:
        self.wrong.append(what)

    async def start(self, name: str) -> None:
        store = MemoryStore(self.server, name, trusting=self.random.random() < 0.3)
        limits = Limits(
            linger=LINGER,
            session_ttl=TTL,
            queue_size=3,
            log_bytes=1 << 20,
            messages_per_minute=0,
            turns_per_minute=0,
            refusals_per_minute=0,
            first_token_timeout=0,
            token_timeout=0,
            turn_timeout=0,
        )
        hub = Hub(self.service, limits, store=store, now_ms=lambda: int(trio.current_time() * 1000))
        scope = trio.CancelScope()
        self.nodes[name] = (hub, store, scope)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                async with hub.open():
                    task_status.started()
                    await trio.sleep_forever()

        await self._nursery.start(run)

    async def play(self) -> None:
        for name in NAMES:
            await self.start(name)
        verbs, weights = tuple(VERBS), tuple(VERBS.values())
        await self.connect()
        for verb in self.random.choices(verbs, weights, k=self.random.randint(15, 45)):
            await getattr(self, verb)()
            await trio.sleep(self.random.choice((0, 0, 0.0005, 0.05, 0.3)))
            if self.wrong:
                return
        await self.finale()

    # Verbs.

    def device(self) -> Device:
        return self.random.choice(self.devices)

    async def connect(self) -> None:
        device = self.device()
        name = self.random.choice(NAMES)
        hub, store, _ = self.nodes[name]
        if device.transport or hub.draining or not store.reachable:
            return
        after = device.position if self.random.random() < 0.7 else None
        transport = device.attach(name)
        opened = Handshake("s", after=after)
        self._nursery.start_soon(self._serve, device, transport, Connection(hub, transport, V1(), opened), name)

    async def _serve(self, device: Device, transport: MemoryTransport, connection: Connection, name: str) -> None:
        with self.nodes[name][2].__class__() as scope:
            self._scopes[name].append(scope)
            await connection.run()
        if device.transport is transport:
            device.transport = None

    @property
    def _scopes(self) -> defaultdict[str, list[trio.CancelScope]]:
        if not hasattr(self, "_all_scopes"):
            self._all_scopes: defaultdict[str, list[trio.CancelScope]] = defaultdict(list)
        return self._all_scopes

    async def leave(self) -> None:
        device = self.device()
        if device.transport:
            device.transport.leave(self.random.choice((1006, 1006, 1006, 1001, 1000)))
            device.transport = None

    async def send(self) -> None:
        device = self.device()
        if device.transport:
            self.sent.append(f"m{len(self.sent)}")
            policy = self.random.choice(("interrupt", "enqueue", "enqueue", "rollback", "reject"))
            self._say(device, self.sent[-1], policy)

    async def repeat(self) -> None:
        device = self.device()
        if device.transport and self.sent:
            self._say(device, self.random.choice(self.sent[-4:]), "interrupt")

    def _say(self, device: Device, name: str, policy: str) -> None:
        assert device.transport
        device.told.pop(name, None)
        device.asked.add(name)
        device.transport.say(message_id=name, content=name, session_id="s", on_busy=policy)

    async def cancel(self) -> None:
        device = self.device()
        if device.transport:
            name = self.random.choice([None, *self.sent[-3:]])
            device.transport.say(type="cancel", **({"message_id": name} if name else {}))

    async def emit(self) -> None:
        for run in self.service.runs:  # also those that are nobody's any more: a fence holds
            name, number, emit, over, count = run
            if not over.is_set():
                texts = [f"{name}/{number}/{count[0] + n} " for n in range(self.random.choice((1, 1, 5)))]
                count[0] += len(texts)
                emit(texts)

    async def done(self) -> None:
        if run := self.service.current():
            run[2]((Done(),))
            run[3].set()

    async def wait(self) -> None:
        await trio.sleep(self.random.choice((0.05, 0.5, 2.5, 6.0, 12.0)))

    async def kill(self) -> None:
        name = self.random.choice(NAMES)
        _, store, scope = self.nodes[name]
        await self._kill(name, store, scope)

    async def lose(self) -> None:
        """The owner is lost in mid-answer, while somebody is at another node."""
        for _ in range(2):
            await self.connect()
        await trio.sleep(0.1)
        await self.send()
        await trio.sleep(0.1)
        await self.emit()
        await trio.sleep(self.random.choice((0, 0.1)))
        for name, (hub, store, scope) in tuple(self.nodes.items()):
            if isinstance(hub.sessions.get(KEY), Session):
                if self.random.random() < 0.3:
                    store.frozen = True
                else:
                    await self._kill(name, store, scope)
                await trio.sleep(7)
                await self.emit()
                return

    async def _kill(self, name: str, store: MemoryStore, scope: trio.CancelScope) -> None:
        store.kill()
        scope.cancel()
        await self._gone(name)
        await self.start(name)

    async def _gone(self, name: str) -> None:
        for device in self.devices:
            if device.node == name:
                device.transport = None
        scopes, self._scopes[name] = self._scopes[name], []
        for scope in scopes:
            scope.cancel()
        await settle()

    async def drain(self) -> None:
        name = self.random.choice(NAMES)
        hub, store, scope = self.nodes[name]
        if store.reachable and self.server.up and not store.cut and not store.frozen:
            await hub.drain(3)
            scope.cancel()
            await self._gone(name)
            await self.start(name)

    async def freeze(self) -> None:
        self.nodes[self.random.choice(NAMES)][1].frozen = True

    async def cut(self) -> None:
        self.nodes[self.random.choice(NAMES)][1].cut = True

    async def down(self) -> None:
        self.server.up = False

    async def heal(self) -> None:
        self.server.up = True
        for _, store, _ in self.nodes.values():
            store.cut = store.frozen = False

    # The end.

    async def finale(self) -> None:
        await self.heal()
        await trio.sleep(12)
        for _ in range(20):
            for run in self.service.runs:
                if not run[3].is_set():
                    run[2]((Done(),))
                    run[3].set()
            await trio.sleep(0.5)
        await trio.sleep(LINGER + 20)
        self._judge()

    def _judge(self) -> None:
        stream = self.server.streams.get(KEY, [])
        reading = Reading(self)
        for one in stream:
            reading.take(one.epoch, one.offset, one.event)
        owners = [name for name, (hub, _, _) in self.nodes.items() if isinstance(hub.sessions.get(KEY), Session)]
        if len(owners) > 1:
            self.complain(f"{owners} own it at once")
        here = any(KEY in hub.sessions for hub, _, _ in self.nodes.values())
        if here or any(device.transport for device in self.devices):
            reading.over()
        for device in self.devices:
            self._judge_device(device, reading)
        for name, (hub, _, _) in self.nodes.items():
            session = hub.sessions.get(KEY)
            if isinstance(session, RemoteSession) and session.owner is None:
                self.complain(f"{name} still seeks the owner")
            if hub.census.open:
                self.complain(f"{name}: {hub.census}")

    def _judge_device(self, device: Device, reading: Reading) -> None:
        for position, frame in device.heard:
            if reading.frames.get(frame["offset"]) != {key: frame[key] for key in frame if key != "epoch"}:
                now = reading.frames.get(frame["offset"])
                self.complain(f"device {device.number} was told {frame} at {position}; the stream has {now}")
                return
        if device.transport and device.position and device.transport.closed is None:
            frames = reading.frames.items()
            last = max((offset for offset, frame in frames if frame["message_id"] not in device.told), default=0)
            if device.position.offset < last:
                self.complain(f"device {device.number} at {device.node} is at {device.position} of {last}")
            for name in device.asked:
                if name not in device.told:
                    self.complain(f"device {device.number} at {device.node} never hears of {name}")


class V1(V1Dialect):
    def __init__(self) -> None:
        super().__init__("en")


class Reading:
    """What the stream says."""

    def __init__(self, play: Play) -> None:
        self.frames: dict[int, dict[str, Any]] = {}
        self._play = play
        self._accepted: set[str] = set()
        self._ended: dict[str, Event] = {}
        self._running: str | None = None
        self._index: defaultdict[str, int] = defaultdict(int)
        self._runs: dict[str, str] = {}
        self._last = (0, -1)
        self._dialect = V1()

    def take(self, epoch: int, offset: int, event: Event) -> None:
        play = self._play
        if (epoch, offset) <= self._last or offset <= self._last[1]:
            play.complain(f"the stream has {epoch}:{offset} after {self._last}")
        self._last = (epoch, offset + (len(event.texts) if isinstance(event, Tokens) else 1) - 1)
        for frame in self._dialect.feed(offset, event):
            body = json.loads(frame)
            body.pop("epoch", None)
            self.frames[body["offset"]] = body
        name = event.message_id
        if isinstance(event, Fenced) or not name:
            return
        if name in self._ended and not isinstance(event, Receipt):
            play.complain(f"{event} after its end")
        if isinstance(event, UserMessage):
            if name in self._accepted:
                play.complain(f"{name} was accepted twice")
            self._accepted.add(name)
        elif name not in self._accepted:
            play.complain(f"{event} of a turn that was never accepted")
        elif isinstance(event, Started):
            if self._running:
                play.complain(f"{name} starts while {self._running} runs")
            self._running = name
        elif isinstance(event, Tokens):
            self._tokens(event)
        elif isinstance(event, Ended | Failed):
            self._ended[name] = event
            self._running = None if self._running == name else self._running

    def _tokens(self, event: Tokens) -> None:
        name = event.message_id
        if name != self._running or event.index != self._index[name]:
            self._play.complain(f"{event} after {self._index[name]} while {self._running} runs")
        for text in event.texts:
            of, number, index = text.split("/")
            first = self._runs.setdefault(name, number)
            if (of, number, int(index)) != (name, first, self._index[name]):
                self._play.complain(f"{text} of generation {first} of {name} at {self._index[name]}")
            self._index[name] += 1

    def over(self) -> None:
        if missing := self._accepted - self._ended.keys():
            self._play.complain(f"{missing} have no ending")


def play(seed: int) -> list[str]:
    """What was wrong."""
    wrong: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(3_600):
                await Play(seed, wrong, nursery).play()
            nursery.cancel_scope.cancel()

    with _heard(wrong), _same_order_always(seed):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return wrong
