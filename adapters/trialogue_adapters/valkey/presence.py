"""A node's presence in the store: its lease and inbox, what happens when the server fails, and whom it watches.

Whether the store is there is decided by the pipe alone: nothing acknowledged for two seconds, and it is gone, until a
new link, a lease and a write into the own inbox succeed (tried every half second).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio

from trialogue.store import Heed, StoreGone
from trialogue_adapters.valkey import scripts
from trialogue_adapters.valkey.address import Address
from trialogue_adapters.valkey.asker import Asker
from trialogue_adapters.valkey.lease import RENEW, TTL, Lease, LeaseLost, new_name
from trialogue_adapters.valkey.names import Names
from trialogue_adapters.valkey.orders import Order
from trialogue_adapters.valkey.pipe import PATIENCE, Gone, Pipe
from trialogue_adapters.valkey.reader import Reader
from trialogue_adapters.valkey.resp import ErrorReply, Link, NotAReply, Refused, Reply, pack
from trialogue_adapters.valkey.tally import Tally

logger = logging.getLogger(__name__)

PROBE_SECONDS = 0.5
WATCH_SECONDS = 0.25
FAREWELL_SECONDS = 1.0

OLDEST = (6, 2)
"""The first version with XADD NOMKSTREAM and XTRIM MINID."""


class Presence:
    """Three connections: the pipe writes, the asker asks, the reader waits."""

    def __init__(self, address: Address, prefix: str, *, max_entries: int) -> None:
        self.address = address
        self.tally = Tally()
        self._names = Names(prefix)
        self._lease = Lease()
        self._pipe = Pipe(address, self._names, self.tally, self._lease.check, maxlen=max_entries)
        self._watched: set[str] = set()
        self._reachable = False
        self._heed: Heed
        self._asker: Asker
        self._reader: Reader

    def __repr__(self) -> str:
        phase = "open" if self._reachable else "not open"
        return f"<{type(self).__name__} at {self.address}, node {self.node!r}, {phase}>"

    @property
    def node(self) -> str:
        return self._lease.node

    @property
    def reachable(self) -> bool:
        return self._reachable and self._lease.held

    # For the length of a server.

    def open(self, heed: Heed) -> AbstractAsyncContextManager[None]:
        return self._opened(heed)

    @asynccontextmanager
    async def _opened(self, heed: Heed) -> AsyncGenerator[None]:
        self._heed = heed
        async with trio.open_nursery() as nursery:
            self._asker = Asker(self.address, nursery, PATIENCE)
            self._reader = Reader(
                Asker(self.address, nursery, PATIENCE), self._names, self._wake, heed.received, self._heard_beat
            )
            await self._enter()
            nursery.start_soon(self._serve)
            nursery.start_soon(self._reader.run)
            try:
                yield
            finally:
                with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                    await self._leave()
                self._reachable = False
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await self._pipe.close()

    async def _enter(self) -> None:
        """Take (or keep) a lease, and make sure that the store takes writes. Raises StoreGone."""
        with trio.move_on_after(PATIENCE):
            try:
                link = await self._pipe.connect()
            except (OSError, NotAReply, Refused) as error:
                raise StoreGone(f"{self.address}: {error}") from None
            try:
                await self._take_lease(link)
            except (OSError, NotAReply, Refused) as error:
                await link.close()
                raise StoreGone(f"{self.address}: {error}") from None
            except BaseException:
                await link.close()
                raise
            self._reader.move_in(self.node)
            self._pipe.open(link)
            self._reachable = True
            return
        over = " over TLS" if self.address.tls else ""
        raise StoreGone(f"{self.address}: no answer{over} within {PATIENCE:.0f} s")

    async def _take_lease(self, link: Link) -> None:
        """A lease that is still ours is kept. Writing into the inbox shows that writes are taken, and makes it."""
        _check_server(await link.exchange(pack(b"HELLO", b"2"), [b""]))
        asked, former, ttl = trio.current_time(), self.node, b"%d" % (1000 * TTL)
        node = former
        if not (self._lease.held and await self._sure(link, (b"PEXPIRE", self._names.lease(former), ttl)) == [1]):
            node = new_name()
            await self._sure(link, (b"DEL", self._names.lease(former)), (b"DEL", self._names.inbox(former)))
        lease, inbox = self._names.lease(node), self._names.inbox(node)
        await self._sure(
            link,
            (b"SET", lease, b"1", b"PX", ttl),
            (b"XADD", inbox, b"*", b"w", b""),
            (b"PEXPIRE", inbox, ttl),
            *_trials(lease, inbox),
        )
        self._lease.taken(node, asked)

    async def _sure(self, link: Link, *commands: Sequence[bytes]) -> list[Reply]:
        replies = await link.exchange(b"".join(pack(*words) for words in commands), [b""] * len(commands))
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise Refused(reply)
        return replies

    async def _serve(self) -> None:
        """Write, renew and watch, for ever; after an outage or a lost lease, begin again."""
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pipe.run)
                    nursery.start_soon(self._renew)
                    nursery.start_soon(self._watch)
            except* Gone as gone:
                await self._stop(f"the store is gone: {gone.exceptions[0]}")
                self.tally.outages += 1
                self._heed.store_gone()
            except* LeaseLost:
                await self._stop("the lease is lost")
                self.tally.leases_lost += 1
                self._heed.lease_lost()
            await self._come_back()
            self._heed.store_back()

    async def _stop(self, why: str) -> None:
        logger.warning("%s: %s", self.address, why)
        self._reachable = False
        self.tally.owned.clear()
        self._asker.hang_up()  # whatever silenced the pipe may have silenced it
        await self._pipe.close()

    async def _come_back(self) -> None:
        while True:
            try:
                await self._enter()
            except StoreGone as error:
                logger.info("still not there: %s", error)
                await trio.sleep(PROBE_SECONDS)
            else:
                logger.warning("%s: it is there, this node is %s", self.address, self.node)
                return

    async def _leave(self) -> None:
        """Give the lease back, after all that is queued."""
        if not self.reachable:
            return
        left = trio.Event()
        self._pipe.hasten()
        self._pipe.order(Order(b"DEL", self._names.inbox(self.node)))
        self._pipe.order(Order(b"DEL", self._names.lease(self.node), heard=lambda _: left.set()))
        await left.wait()

    # The lease, and the nodes that are watched.

    async def _renew(self) -> None:
        while True:
            self._lease.check()
            node, asked, ttl = self.node, trio.current_time(), b"%d" % (1000 * TTL)

            def heard(reply: Reply, node: str = node, asked: float = asked) -> None:
                self._lease.renewed(node, asked, reply == 1)

            inbox = self._names.inbox(node)
            self._pipe.order(Order(b"PEXPIRE", self._names.lease(node), ttl, heard=heard))
            self._pipe.order(Order(b"PEXPIRE", inbox, ttl))
            self._pipe.order(Order(b"XTRIM", inbox, b"MINID", self._reader.inbox_last))
            self._pipe.order(Order(b"XADD", inbox, b"NOMKSTREAM", b"*", b"w", b"%.6f" % asked))
            await trio.sleep(RENEW)

    def _heard_beat(self, text: bytes) -> None:
        if text:
            self.tally.lag = trio.current_time() - float(text)

    async def _watch(self) -> None:
        while True:
            for node in tuple(self._watched):

                def heard(reply: Reply, node: str = node) -> None:
                    if reply == 0 and node in self._watched:
                        self._watched.discard(node)
                        self._reader.forget(node)
                        self._heed.node_gone(node)

                self._pipe.order(Order(b"EXISTS", self._names.lease(node), heard=heard))
            await trio.sleep(WATCH_SECONDS)

    def watch(self, node: str) -> None:
        self._watched.add(node)

    def _wake(self) -> None:
        self._pipe.order(Order(b"XADD", self._names.inbox(self.node), b"NOMKSTREAM", b"*", b"w", b""))


def _check_server(said: list[Reply]) -> None:
    """Raises Refused if this is a server, by what it says of itself (to HELLO), on which nothing would work."""
    (hello,) = said
    if isinstance(hello, ErrorReply):
        if hello.startswith("NOAUTH"):
            raise Refused("NOAUTH: it wants a password, and the address has none")
        raise Refused("it is older than Redis 6.2" if "unknown command" in hello else hello)
    assert isinstance(hello, list)
    of: dict[Any, Any] = dict(zip(hello[::2], hello[1::2], strict=False))
    mode, version = of.get(b"mode", b"").decode(), of.get(b"version", b"").decode()
    if mode in ("cluster", "sentinel"):
        raise Refused(f"it is a {mode}, which is not supported")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        raise Refused(f"its version is {version}; 6.2 is the oldest that will do")


def _trials(lease: bytes, inbox: bytes) -> list[Sequence[bytes]]:
    """The kinds of command that come later, changing nothing: a user who may not is told so now, not at a session."""
    return [
        (b"GET", lease),
        (b"EXISTS", lease),
        (b"EVAL", scripts.RELEASE, b"1", lease, b""),
        (b"XTRIM", inbox, b"MINID", b"0"),
        (b"XRANGE", inbox, b"+", b"+"),
        (b"XREVRANGE", inbox, b"-", b"-"),
        (b"XREAD", b"COUNT", b"1", b"STREAMS", inbox, b"$"),
    ]
