"""Nodes on one store: real server processes, killed, frozen, drained and started again; and what their store holds.

A node's name in the store is learned when it starts, from the lease that was not there before. Each node keeps its
folder over a restart, so what its service was asked for stays on record.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import trio

from support.server import Server, running
from support.valkey import StoreServer
from trialogue.core.dialects import V1Dialect
from trialogue.core.events import Ended, Event, Failed, Fenced
from trialogue.store import Stored

OPEN = ("--messages-per-minute", "0", "--turns-per-minute", "0", "--handshakes-per-second", "0")
"""Flags for tests that come and go more often than anybody would."""

OPEN_LOOPBACK = ""
"""The principal of whoever comes to a node without authentication."""


class Node:
    """One place in the cluster; `server` is the process that has it now."""

    def __init__(self, cluster: Cluster, number: int, folder: Path, url: str) -> None:
        self.number = number
        self.url = url
        self.folder = folder
        self._name = ""
        self.server: Server | None = None
        self._cluster = cluster
        self._stack = ExitStack()

    def __repr__(self) -> str:
        return f"<Node {self.number} {self.name!r}, {'up' if self.server else 'down'}>"

    @property
    def name(self) -> str:
        """Another one after each lost lease: its log says which."""
        renamed = re.findall(r"this node is (\w+)", self.server.log()) if self.server else ()
        return renamed[-1] if renamed else self._name

    # As clients see it.

    tls = None

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self.server.port if self.server else 1  # nobody listens there

    # What is done to it.

    def start(self) -> None:
        """Returns when it listens."""
        before = self._cluster.leases()
        with (self.folder / "log").open("a") as log:
            if (self.folder / "server.log").exists():
                log.write((self.folder / "server.log").read_text())
        self.server = self._stack.enter_context(
            running(self.folder, "hypercorn", [*OPEN, "--redis-url", self.url, *self._cluster.flags])
        )
        others = {node.name for node in self._cluster.nodes if node is not self}  # one may have lost its lease just now
        (self._name,) = self._cluster.leases() - before - others

    def kill(self) -> None:
        """SIGKILL."""
        assert self.server
        self.server.process.kill()
        self.server.process.wait()
        self._gone()

    def _gone(self) -> None:
        self.server = None
        self._stack.close()
        self._stack = ExitStack()

    async def drain(self) -> None:
        """SIGTERM, and until it has left. Clients find it draining meanwhile. Cancelled: it is ended at once."""
        assert self.server
        self.server.signal(signal.SIGTERM)
        try:
            assert await self.server.exit_code(within=40) == 0
        finally:
            self._gone()

    def freeze(self) -> None:
        assert self.server
        self.server.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.server and self.server.alive:
            self.server.signal(signal.SIGCONT)

    def stop(self) -> None:
        self.thaw()
        self._gone()

    def log(self) -> str:
        return "".join((self.folder / name).read_text() for name in ("log", "server.log"))


class Cluster:
    """Nodes, their store, and what is to be said of all of them."""

    def __init__(self, store: StoreServer, folder: Path, flags: Sequence[str]) -> None:
        self.store = store
        self.flags = flags
        self.random = Random(1)
        self.nodes: list[Node] = []
        self._folder = folder

    def add(self, url: str | None = None) -> Node:
        """One more place, still empty. `url`: where its node finds the store, if not where that is."""
        number = len(self.nodes)
        (self._folder / str(number)).mkdir()
        self.nodes.append(Node(self, number, self._folder / str(number), url or self.store.url))
        return self.nodes[-1]

    def any_node(self) -> Node:
        return self.random.choice(self.nodes)

    def leases(self) -> set[str]:
        keys: list[bytes] = self.store.ask("KEYS", "trialogue:node:{*}")
        return {key.decode().rpartition("{")[2].rstrip("}") for key in keys}

    def owner(self, session_id: str) -> Node | None:
        """The node that the store says owns it, if that is one that was started here and is up."""
        owner = self.store.ask("GET", f"{_tag(session_id)}:owner")
        name = owner.decode() if owner else None
        return next((node for node in self.nodes if node.server and node.name == name), None)

    def stream(self, session_id: str) -> Stream:
        return Stream(self.store, session_id)

    def opened(self) -> Counter[str]:
        """How often the services of all nodes were asked for each message."""
        counts: Counter[str] = Counter()
        for node in self.nodes:
            with suppress(FileNotFoundError):
                for line in (node.folder / "record.jsonl").read_text(encoding="utf-8").splitlines():
                    with suppress(json.JSONDecodeError):  # half a line of one that was killed
                        entry = json.loads(line)
                        counts[entry["message"]] += entry["what"] == "opened"
        return counts

    def crashes(self) -> list[str]:
        """Tracebacks in the nodes' logs: nothing that a network or a store does is a reason for one."""
        return [f"node {node.number}: {node.log()[-4000:]}" for node in self.nodes if "Traceback" in node.log()]


def _tag(session_id: str) -> str:
    return f"trialogue:{{{OPEN_LOOPBACK}/{session_id}}}"


class Stream:
    """What the store holds of a session: entries in order, and the frames that a v1 client is told of them."""

    def __init__(self, store: StoreServer, session_id: str) -> None:
        from trialogue_adapters.valkey.entries import unpacked

        self.ids: list[tuple[int, int]] = []
        self.entries: list[Stored] = []
        for entry_id, fields in store.ask("XRANGE", f"{_tag(session_id)}:log", "-", "+"):
            epoch, _, offset = entry_id.decode().partition("-")
            self.ids.append((int(epoch), int(offset)))
            self.entries += unpacked((entry_id, fields))

    def __iter__(self) -> Iterator[Event]:
        return (one.event for one in self.entries)

    @property
    def fences(self) -> list[Fenced]:
        return [event for event in self if isinstance(event, Fenced)]

    @property
    def ends(self) -> dict[str, list[str]]:
        """All endings of each message: the finish reason, or the code."""
        found: dict[str, list[str]] = {}
        for event in self:
            if isinstance(event, Ended | Failed):
                reason = event.finish_reason if isinstance(event, Ended) else event.fault.code
                found.setdefault(event.message_id, []).append(str(reason))
        return found

    def frames(self) -> dict[int, dict[str, Any]]:
        """By their offset. `epoch` is left out: it depends on where a client began."""
        dialect, frames = V1Dialect("en"), {}
        for one in self.entries:
            for frame in dialect.feed(one.offset, one.event):
                body = json.loads(frame)
                body.pop("epoch", None)
                frames[body["offset"]] = body
        return frames


@contextmanager
def cluster(store: StoreServer, number: int = 3, flags: Sequence[str] = ()) -> Generator[Cluster]:
    """Running nodes on a store, for the length of the block."""
    folder = Path(mkdtemp(prefix="nodes-"))
    made = Cluster(store, folder, flags)
    try:
        for _ in range(number):
            made.add().start()
        yield made
    finally:
        for node in made.nodes:
            node.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def until(ready: Callable[[], object], within: float = 10.0) -> None:
    with trio.fail_after(within):
        while not ready():
            await trio.sleep(0.02)
