"""A good client of many nodes: it comes back to a random one, goes on where it was, and asks again what is unanswered.

It keeps every entry that it was sent, so that what it has seen can be held against what the store holds in the end.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import trio

from support.cluster import Cluster, Node
from support.raw_client import CLOSE, Client, Closed, Refused, close_payload, fresh, is_end, open_wire, upgraded

PATIENCE = 40.0
"""Seconds without a frame: more than a take-over, a frozen node, or a silent store may cost."""

PAUSE = 0.05
"""Between two attempts to connect, at the most."""


class Wanderer:
    """One client on one session. `run` is its life; `ask` is a turn, whatever happens in the middle of it."""

    def __init__(self, cluster: Cluster, session_id: str | None = None, home: Node | None = None) -> None:
        self.session_id = session_id or fresh("s")
        self.node: Node | None = None
        self.position: str | None = None
        self.entries: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        """Each `stream_error`, an entry or not."""
        self.ends: dict[str, dict[str, Any]] = {}
        self.ended_at: dict[str, float] = {}
        self.resumed: list[str] = []
        self.closes: Counter[int] = Counter()
        self._cluster = cluster
        self._home = home
        self._client: Client | None = None
        self._open: dict[str, tuple[dict[str, Any], trio.Event]] = {}
        self._accepted: set[str] = set()
        self.attached = trio.Event()

    def __repr__(self) -> str:
        return f"<Wanderer {self.session_id} on {self.node} at {self.position}, {len(self._open)} open>"

    # What it wants.

    async def ask(self, message_id: str | None = None, **options: Any) -> dict[str, Any]:
        """Submit a message, as often as it takes to be accepted. Returns what ended its turn."""
        message_id = message_id or fresh("m")
        over = trio.Event()
        self._open[message_id] = (options, over)
        if self._client:
            with suppress(Closed, trio.BrokenResourceError, trio.ClosedResourceError):
                await self._client.say(message_id, **options)
        await over.wait()
        return self.ends[message_id]

    async def cancel(self) -> None:
        assert self._client
        await self._client.cancel()

    async def seen(self, kind: str, message_id: str) -> None:
        """Until an entry of that kind and turn has come."""
        while not any(body["type"] == kind and body["message_id"] == message_id for body in self.entries):
            await trio.sleep(0.01)

    def move(self, node: Node | None = None) -> None:
        """Break the connection; the next one is to that node, or to any."""
        self._home = node
        if self._client:
            self._client.wire.reset()

    async def moved(self, node: Node | None = None) -> None:
        """Move, and until it is attached again."""
        visits = len(self.resumed)
        self.move(node)
        while len(self.resumed) == visits:
            await trio.sleep(0.01)

    @property
    def asked(self) -> set[str]:
        """Messages that have no end yet."""
        return set(self._open)

    @property
    def offsets(self) -> list[int]:
        return [body["offset"] for body in self.entries]

    def tokens(self, message_id: str) -> list[str]:
        return [
            body["token"]
            for body in self.entries
            if body["type"] == "stream_token" and body["message_id"] == message_id
        ]

    # Its life.

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Come, read, and come back, until it is cancelled."""
        while True:
            node = self._home or self._cluster.any_node()
            with suppress(Refused, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                try:
                    await self._visit(node, task_status)
                except Closed as closed:
                    self.closes[closed.code] += 1
            self._client = None
            await trio.sleep(self._cluster.random.random() * PAUSE)

    async def _visit(self, node: Node, task_status: trio.TaskStatus[None]) -> None:
        query = {"lang": "en", **({"after": self.position} if self.position else {})}
        async with open_wire(node) as wire:
            client = await upgraded(wire, self.session_id, v1=True, query=query, patience=PATIENCE)
            if client.ready["type"] != "session_ready":
                return  # turned away: its node cannot reach the store now
            self._greet(client.ready)
            self.node, self._client = node, client
            if not self.attached.is_set():
                self.attached.set()
                task_status.started()
            for message_id, (options, _) in tuple(self._open.items()):
                if message_id not in self._accepted:
                    await client.say(message_id, **options)
            try:
                while True:
                    self._hear(await client.next())
            except trio.Cancelled:
                await _say_goodbye(client)
                raise

    def _greet(self, ready: dict[str, Any]) -> None:
        self.resumed.append(ready["resumed"])
        if ready["resumed"] == "gap":
            self._accepted.clear()  # it knows no more what of it has arrived
        elif self.position:  # at a fence, the same place has a name in either epoch
            assert _place(ready["position"])[1] == _place(self.position)[1], (self, ready)
            assert _place(ready["position"]) >= _place(self.position), (self, ready)
        self.position = ready["position"]

    def _hear(self, body: dict[str, Any]) -> None:
        message_id = body.get("message_id", "")
        if "offset" in body:
            assert self.position
            epoch, offset = _place(self.position)
            assert body["offset"] > offset, (self, body)
            self.position = f"{body.pop('epoch', epoch)}:{body['offset']}"
            self.entries.append(body)
            if body["type"] == "user_message":
                self._accepted.add(message_id)
        if body["type"] == "stream_error":
            self.errors.append(body)
        if is_end(body) and message_id in self._open:
            self.ends[message_id] = body
            self.ended_at[message_id] = trio.current_time()
            self._open.pop(message_id)[1].set()


async def _say_goodbye(client: Client) -> None:
    """It will not come back: without it, what runs would go on for as long as a lost client is waited for."""
    with trio.move_on_after(1, shield=True), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await client.send_frame(close_payload(1000), CLOSE)


def _place(position: str) -> tuple[int, int]:
    epoch, _, offset = position.partition(":")
    return int(epoch), int(offset)
