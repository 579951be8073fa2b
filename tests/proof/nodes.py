"""Random schedules over several nodes that share a store: clients come and go anywhere, nodes and stores fail.

`play(seed)` returns what was wrong. What must hold is read from what the store is told (`Annals`), from what each
client is sent (`Device`), from what the service is asked to generate (`Pipeline`), and from the end: when all is
healed and time has passed, every message is ended, and every client is level with the stream.
"""

from __future__ import annotations

from random import Random
from typing import Literal

import trio
import trio.testing

from proof.annals import V1, Annals
from proof.rehearsal import _heard, _same_order_always
from proof.visitors import Device
from support.memory import settle
from support.memory_store import MemoryStore
from trialogue import Connection, Done, Emit, Handshake, Hub, Limits, Turn
from trialogue.remote_session import RemoteSession
from trialogue.session import Session

NAMES = "abc"
DEVICES = 4
KEY = ("", "s")
LINGER, TTL = 20.0, 500.0

VERBS: dict[str, float] = {
    "connect": 10,
    "leave": 4,
    "hop": 4,
    "send": 10,
    "repeat": 3,
    "storm": 1,
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
    "wipe": 0.7,
    "restart": 0.4,
    "evict_lease": 0.4,
    "evict_stream": 0.2,
    "heal": 3,
}


class Run:
    """One call of the service. Its tokens carry its number."""

    def __init__(self, name: str, number: int, emit: Emit) -> None:
        self.name = name
        self.over = trio.Event()
        self._number = number
        self._emit = emit
        self._count = 0

    def tell(self, count: int) -> None:
        self._emit([f"{self.name}/{self._number}/{self._count + n} " for n in range(count)])
        self._count += count

    def finish(self) -> None:
        self._emit((Done(),))
        self.over.set()


class Pipeline:
    """The service as one node calls it: never for a turn of which the store knows that it has told something."""

    def __init__(self, play: Play, name: str) -> None:
        self._play = play
        self._name = name

    async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
        play, name = self._play, turn.message_id
        age = play.annals.now
        owns = play.annals.owners.get(KEY) == play.nodes[self._name].store.node
        if age and owns and name in age.spoken | age.ended.keys():
            play.complain(f"{self._name} generates {name} again")
        run = Run(name, len(play.runs), emit)
        play.runs.append(run)
        await run.over.wait()


class Node:
    """One incarnation: a hub and its way to the store."""

    def __init__(self, hub: Hub, store: MemoryStore) -> None:
        self.hub = hub
        self.store = store
        self.scope = trio.CancelScope()

    @property
    def owns(self) -> bool:
        return isinstance(self.hub.sessions.get(KEY), Session)


class Play:
    def __init__(self, seed: int, wrong: list[str], nursery: trio.Nursery) -> None:
        self.random = Random(seed)
        self.wrong = wrong
        self.runs: list[Run] = []
        self.nodes: dict[str, Node] = {}
        self._durability: Literal["ahead", "behind"] = self.random.choice(("ahead", "ahead", "behind"))
        behind, latency = self._durability == "behind", self.random.choice((0.001, 0.02, 0.1))
        self.annals = Annals(KEY, latency, behind, self.complain)
        self.devices = [Device(number, KEY, behind, self.annals, self.complain) for number in range(DEVICES)]
        self._log_bytes = self.random.choice((1 << 20, 1 << 20, 3_000))
        self._sent: list[str] = []
        self._nursery = nursery

    def complain(self, what: str) -> None:
        self.wrong.append(what)

    async def start(self, name: str) -> None:
        limits = Limits(
            linger=LINGER,
            session_ttl=TTL,
            queue_size=3,
            log_bytes=self._log_bytes,
            messages_per_minute=0,
            turns_per_minute=0,
            refusals_per_minute=0,
            first_token_timeout=0,
            token_timeout=0,
            turn_timeout=0,
        )
        store = MemoryStore(self.annals, name, trusting=self.random.random() < 0.3)
        service, now_ms = Pipeline(self, name), lambda: int(trio.current_time() * 1000)
        hub = Hub(service, limits, store=store, durability=self._durability, now_ms=now_ms)
        node = self.nodes[name] = Node(hub, store)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with node.scope:
                async with hub.open():
                    task_status.started()
                    await trio.sleep_forever()

        await self._nursery.start(run)

    async def play(self) -> None:
        await trio.sleep(100)  # epochs begin at the clock's milliseconds, and grow no faster
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

    # Clients.

    def device(self) -> Device:
        return self.random.choice(self.devices)

    def present(self) -> list[Device]:
        return [device for device in self.devices if device.transport]

    async def connect(self) -> None:
        self._connect(self.device(), self.random.random() < 0.7)

    def _connect(self, device: Device, resume: bool = True) -> None:
        """To any node, from where it was, or as if it knew nothing."""
        name = self.random.choice(NAMES)
        node = self.nodes[name]
        if device.transport or node.hub.draining or not node.store.reachable:
            return
        opened = Handshake("s", after=device.position if resume else None)
        transport = device.attach(name, node.hub)
        connection, scope = Connection(node.hub, transport, V1(), opened), device.scope

        async def serve() -> None:
            with scope:
                await connection.run()
            if device.transport is transport:
                device.transport = None

        self._nursery.start_soon(serve)

    def _leave(self, device: Device, code: int) -> None:
        if device.transport:
            device.transport.leave(code)
            device.transport = None

    async def leave(self) -> None:
        self._leave(self.device(), self.random.choice((1006, 1006, 1006, 1001, 1000)))

    async def hop(self) -> None:
        """It breaks off, and is at another node at once."""
        device = self.device()
        self._leave(device, 1006)
        self._connect(device)

    async def send(self) -> None:
        device = self.device()
        if device.transport:
            self._sent.append(f"m{len(self._sent)}")
            device.say(self._sent[-1], self.random.choice(("interrupt", "enqueue", "enqueue", "rollback", "reject")))

    async def repeat(self) -> None:
        device = self.device()
        if device.transport and self._sent:
            device.say(self.random.choice(self._sent[-4:]), "interrupt")

    async def storm(self) -> None:
        """The same message from everybody, everywhere, more than once; a new one, now and then."""
        new = not self._sent or self.random.random() < 0.5
        if new:
            self._sent.append(f"m{len(self._sent)}")
        name, policy = self.random.choice(self._sent[-1 if new else -3 :]), self.random.choice(("interrupt", "enqueue"))
        for _ in range(2):
            for device in self.present():
                device.say(name, policy)
            await trio.sleep(self.random.choice((0, 0.01, 0.1)))

    async def cancel(self) -> None:
        device = self.device()
        if device.transport:
            name = self.random.choice([None, *self._sent[-3:]])
            device.transport.say(type="cancel", **({"message_id": name} if name else {}))

    # The service.

    async def emit(self) -> None:
        for run in self.runs:  # also those that are nobody's any more: a fence holds
            if not run.over.is_set():
                run.tell(self.random.choice((1, 1, 5)))

    async def done(self) -> None:
        if self.runs and not self.runs[-1].over.is_set():
            self.runs[-1].finish()

    # Time, nodes, and the store.

    async def wait(self) -> None:
        await trio.sleep(self.random.choice((0.05, 0.5, 2.5, 6.0, 12.0)))

    def any(self) -> str:
        return self.random.choice(NAMES)

    async def kill(self) -> None:
        await self._kill(self.any())

    async def lose(self) -> None:
        """The owner is lost in mid-answer (killed, or still for longer than its lease), while somebody is elsewhere."""
        for _ in range(2):
            await self.connect()
        await trio.sleep(0.1)
        await self.send()
        await trio.sleep(self.random.choice((0.01, 0.1)))
        await self.emit()
        await trio.sleep(self.random.choice((0, 0.1)))
        for name, node in self.nodes.items():
            if node.owns:
                if self.random.random() < 0.3:
                    node.store.frozen = True
                else:
                    await self._kill(name)
                await trio.sleep(7)
                await self.emit()
                return

    async def _kill(self, name: str) -> None:
        self.nodes[name].store.kill()
        await self._replace(name)

    async def _replace(self, name: str) -> None:
        """Another process in its place; its clients' connections are cut."""
        self.nodes[name].scope.cancel()
        for device in self.devices:
            if device.node == name:
                device.transport = None
                device.scope.cancel()
        await settle()
        await self.start(name)

    async def drain(self) -> None:
        name = self.any()
        node = self.nodes[name]
        if node.store.reachable and self.annals.up and not node.store.cut and not node.store.frozen:
            await node.hub.drain(3)
            await self._replace(name)

    async def freeze(self) -> None:
        self.nodes[self.any()].store.frozen = True

    async def cut(self) -> None:
        self.nodes[self.any()].store.cut = True

    async def down(self) -> None:
        self.annals.up = False

    async def wipe(self) -> None:
        """FLUSHALL. (Epochs are the clock's milliseconds: within one of them, a store that has forgotten all of them
        could give the same one out again.)"""
        await trio.sleep(0.005)
        self.annals.wipe()
        await trio.sleep(0.005)

    async def restart(self) -> None:
        """The store is killed, and is back empty."""
        self.annals.up = False
        await trio.sleep(self.random.choice((0.05, 1.0, 3.0, 8.0)))
        self.annals.wipe()
        self.annals.up = True

    async def evict_lease(self) -> None:
        self.annals.leases.pop(self.nodes[self.any()].store.node, None)

    async def evict_stream(self) -> None:
        self.annals.streams.pop(KEY, None)

    async def heal(self) -> None:
        self.annals.up = True
        for node in self.nodes.values():
            node.store.cut = node.store.frozen = False

    # The end.

    async def finale(self) -> None:
        await self.heal()
        await trio.sleep(12)
        known = self.annals.ages[-1].open if self.annals.ages else set()  # a stream that is gone is noticed in writing
        for device in self.present():
            if unheard := device.unanswered - known:
                self.complain(f"{device} waits for an answer to {unheard}")
        for _ in range(20):
            for device in self.devices:
                self._connect(device)
            for run in self.runs:
                if not run.over.is_set():
                    run.finish()
            await trio.sleep(0.5)
        await trio.sleep(LINGER + 20)
        self._judge()

    def _judge(self) -> None:
        owners = [name for name, node in self.nodes.items() if node.owns]
        if len(owners) > 1:
            self.complain(f"{owners} own it at once")
        if not self.present():
            self.complain("nobody can attach")
        if (age := self.annals.now) and age.open:
            self.complain(f"{age.open} have no ending")
        for device in self.devices:
            device.judge()
        for name, node in self.nodes.items():
            session = node.hub.sessions.get(KEY)
            if isinstance(session, RemoteSession) and session.owner is None:
                self.complain(f"{name} still seeks the owner")
            if node.hub.census.open:
                self.complain(f"{name}: {node.hub.census}")


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
