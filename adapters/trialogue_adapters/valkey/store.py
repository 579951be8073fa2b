"""The engine's `Store` port: letters and streams, claims and questions. How a node is there at all: `presence.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from trialogue.core.codec import Unreadable, encode_events, encode_letter
from trialogue.core.events import Fenced, width
from trialogue.core.letters import Letter
from trialogue.log import Position
from trialogue.store import Claim, Key, Lane, Stored, StoreGone
from trialogue_adapters.valkey import scripts
from trialogue_adapters.valkey.address import Address
from trialogue_adapters.valkey.entries import unpacked
from trialogue_adapters.valkey.orders import Order
from trialogue_adapters.valkey.presence import Presence

FLOOR_SECONDS = 3600.0
"""How much longer than its session the floor of its epochs lives: longer than any node can have been stopped and then
still believe that it owns something (it looks at its clock before it writes)."""

INBOX_LETTERS = 10_000
"""Where a node's inbox is cut off. It reads it within milliseconds; one that doesn't is gone after five seconds."""

READ_COUNT = 500
"""Entries per question when a whole stream is read."""


class ValkeyStore(Presence):
    """Shared by the nodes that have the same address and prefix.

    Args:
        session_ttl: seconds that a session lives before it is first touched.
        max_entries: where a stream is cut off, whatever the engine keeps: a bound for the store's memory.
    """

    def __init__(
        self,
        address: Address,
        *,
        prefix: str = "trialogue",
        session_ttl: float = 600.0,
        max_entries: int = 50_000,
    ) -> None:
        super().__init__(address, prefix, max_entries=max_entries)
        self._session_ttl = session_ttl
        self._letters = count(1)

    # Letters.

    def send(self, node: str, letter: Letter) -> None:
        self.tally.letters += 1
        number = b"%d" % next(self._letters)
        self._pipe.order(
            Order(
                *(b"XADD", self._names.inbox(node), b"NOMKSTREAM", b"MAXLEN", b"~", b"%d" % INBOX_LETTERS, b"*"),
                *(b"s", self.node.encode(), b"n", number, b"l", encode_letter(letter)),
            )
        )

    # Streams.

    def append(self, lane: Lane, within: float) -> None:
        self._pipe.append(lane, within)

    def trim(self, key: Key, before: Position) -> None:
        self._pipe.order(
            Order(b"XTRIM", self._names.session(key).log, b"MINID", b"~", b"%d-%d" % (before.epoch, before.offset))
        )

    def touch(self, key: Key, ttl: float) -> None:
        names = self._names.session(key)
        for name, seconds in ((names.log, ttl), (names.owner, ttl), (names.floor, ttl + FLOOR_SECONDS)):
            self._pipe.order(Order(b"PEXPIRE", name, b"%d" % (1000 * seconds)))

    def release(self, key: Key) -> None:
        self.tally.owned.discard(key)
        owner = self._names.session(key).owner
        self._pipe.order(Order(b"EVAL", scripts.RELEASE, b"1", owner, self.node.encode()), last=True)
        self._names.forget(key)

    def delete(self, key: Key) -> None:
        self._pipe.order(Order(b"DEL", self._names.session(key).log), last=True)
        self.release(key)

    def follow(self, key: Key, after: Position, deliver: Callable[[Sequence[Stored]], None]) -> None:
        self._reader.follow(key, after, deliver)

    def unfollow(self, key: Key) -> None:
        self._reader.unfollow(key)

    # Questions.

    async def owner(self, key: Key) -> str | None:
        name = await self._ask(b"GET", self._names.session(key).owner)
        return name.decode() if name else None

    async def alive(self, node: str) -> bool:
        return bool(await self._ask(b"EXISTS", self._names.lease(node)))

    async def claim(self, key: Key, expected: str | None, known: Position) -> Claim:
        node, names = self.node, self._names.session(key)
        reply = await self._ask(
            *(b"EVAL", scripts.CLAIM, b"3", *names, node.encode(), (expected or "").encode()),
            *(b"%d" % known.epoch, b"%d" % known.offset, b"%d" % (time.time_ns() // 1_000_000)),
            *(encode_events([Fenced(0, node, fresh)]) for fresh in (False, True)),
            *(b"%d" % (1000 * self._session_ttl), b"%d" % (1000 * (self._session_ttl + FLOOR_SECONDS))),
        )
        if len(reply) == 1:
            return Claim(reply[0].decode())
        if node != self.node:
            raise StoreGone("the lease was lost meanwhile")
        self.tally.owned.add(key)
        self.tally.takeovers += expected not in (None, node)
        return Claim(node, Position(int(reply[1]), int(reply[2])), made=bool(reply[3]))

    async def read(self, key: Key, after: Position | None = None) -> list[Stored]:
        log, start = self._names.session(key).log, b"-"
        if after is not None:
            start = b"%d-%d" % after
            holding = await self._ask(b"XREVRANGE", log, start, b"%d-0" % after.epoch, b"COUNT", b"1")
            start = holding[0][0] if holding else start
        found: list[Stored] = []
        while True:
            entries = await self._ask(b"XRANGE", log, start, b"+", b"COUNT", b"%d" % READ_COUNT)
            try:
                for entry in entries:
                    found += unpacked(entry)
            except Unreadable as error:
                raise StoreGone(f"a stream holds what cannot be read: {error}") from None
            if len(entries) < READ_COUNT:
                break
            start = b"(" + entries[-1][0]
        if after is None:
            return found
        return [stored for stored in found if (stored.epoch, stored.offset + width(stored.event) - 1) >= after]

    async def _ask(self, *words: bytes) -> Any:
        if not self.reachable:
            raise StoreGone("the store is not reachable")
        return await self._asker.ask(*words)
