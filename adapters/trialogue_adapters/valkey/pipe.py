"""All writes of a node, over one connection: what is ready goes out in one round trip, the next collects meanwhile.

Nobody waits for it: writers queue and are told. A broken link is opened again and what was under way is sent again
(every command may be: ids are explicit, letters are numbered), until nothing was acknowledged for `PATIENCE` seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from trialogue.store import Lane, Verdict
from trialogue_adapters.valkey.address import Address
from trialogue_adapters.valkey.names import Names
from trialogue_adapters.valkey.orders import Append, Order, append_template
from trialogue_adapters.valkey.resp import Link, NotAReply, Refused
from trialogue_adapters.valkey.tally import Tally

PATIENCE = 2.0
"""Seconds without an acknowledgement of what was sent, after which the store counts as gone: the promise to users."""

RETRY_SECONDS = 0.05

MOST_LANES = 256
"""Lanes taken for one round trip: when thousands are due at once, others get their turn in between."""


class Gone(Exception):
    """The store acknowledged nothing for `PATIENCE` seconds. The text says what was seen last."""


class Pipe:
    """Queue at will; `run` sends. `may_write`, asked before each send, raises if this node must not write any more."""

    def __init__(
        self, address: Address, names: Names, tally: Tally, may_write: Callable[[], None], *, maxlen: int
    ) -> None:
        self._address = address
        self._names = names
        self._tally = tally
        self._may_write = may_write
        self._template = append_template(maxlen)
        self._patient: dict[float, tuple[float, list[Lane]]] = {}  # by how long they may wait: until when, and who
        self._ready: list[Lane] = []  # whose time has come
        self._orders: list[Order] = []
        self._last: list[Order] = []  # orders that come after every lane
        self._trip: list[Order] = []  # what is under way
        self._due = inf
        self._changed = trio.Event()
        self._open = False
        self._link: Link | None = None
        self._seen = "no answer"

    def __repr__(self) -> str:
        lanes = len(self._ready) + sum(len(lanes) for _, lanes in self._patient.values())
        return f"<Pipe to {self._address}, {lanes} lanes and {len(self._orders) + len(self._last)} orders waiting>"

    # Queueing.

    def append(self, lane: Lane, within: float) -> None:
        """Hot: once per entry."""
        if not self._open:
            trio.lowlevel.current_trio_token().run_sync_soon(lane.judge, Verdict.UNREACHABLE)
        elif not within:
            self._ready.append(lane)
            self._hurry(0.0)
        elif within in self._patient:
            self._patient[within][1].append(lane)
        else:
            due = trio.current_time() + within
            self._patient[within] = due, [lane]
            self._hurry(due)

    def order(self, order: Order, *, last: bool = False) -> None:
        """`last`: after everything that any lane holds now."""
        if not self._open:
            return
        if last:
            self._last.append(order)
            self.hasten()
        else:
            self._orders.append(order)
            self._hurry(0.0)

    def hasten(self) -> None:
        """Nothing waits for company any more."""
        for _, lanes in self._patient.values():
            self._ready += lanes
        self._patient.clear()
        self._hurry(0.0)

    def _hurry(self, due: float) -> None:
        if due < self._due:
            self._due = due
            self._changed.set()

    # Sending.

    async def connect(self) -> Link:
        """A link that was let in. Raises OSError, NotAReply, Refused."""
        link = Link(await self._address.connect())
        try:
            await link.greet(self._address.username, self._address.password, self._address.db)
        except BaseException:
            await link.close()
            raise
        return link

    def open(self, link: Link) -> None:
        """From now on things can be queued; `link` is what they are sent over."""
        self._link = link
        self._open = True

    async def run(self) -> None:
        """Send what is queued, until the store is gone (Gone), or `may_write` raises. Cancelled: `close` follows."""
        while True:
            await self._until_due()
            self._take()
            await self._deliver()
            self._may_write()

    async def close(self) -> None:
        """Nothing can be queued any more; whatever is queued or under way fails."""
        self._open = False
        self.hasten()
        failed, lanes = [*self._trip, *self._orders, *self._last], self._ready
        self._trip, self._orders, self._last, self._ready = [], [], [], []
        self._due = inf
        for order in failed:
            order.fail()
        for lane in lanes:
            lane.judge(Verdict.UNREACHABLE)
        await self._hang_up()

    async def _until_due(self) -> None:
        while self._due > trio.current_time():
            self._changed = trio.Event()
            with trio.move_on_at(self._due):
                await self._changed.wait()

    def _take(self) -> None:
        """What is due: lanes, as many as one trip takes, and orders."""
        now = trio.current_time()
        for within, (due, lanes) in list(self._patient.items()):
            if due <= now:
                self._ready += lanes
                del self._patient[within]
        taking, self._ready = self._ready[:MOST_LANES], self._ready[MOST_LANES:]
        for lane in taking:
            taken = lane.take()
            if taken:
                log = self._names.session(lane.key).log
                self._trip.append(Append(self._template, log, lane, taken, self._tally))
        self._trip += self._orders
        self._orders = []
        if self._ready:
            self._due = 0.0
            return
        self._trip += self._last
        self._last = []
        self._due = min((due for due, _ in self._patient.values()), default=inf)

    async def _deliver(self) -> None:
        """Until each command under way has its reply, over as many links as that takes. Raises Gone."""
        with trio.move_on_after(PATIENCE):
            while self._trip:
                self._may_write()
                try:
                    await self._exchange()
                except (OSError, NotAReply, Refused) as error:
                    self._seen = f"{type(error).__name__}: {error}"
                    await self._hang_up()
                if self._trip:
                    await trio.sleep(RETRY_SECONDS)
            return
        await self._hang_up()
        raise Gone(self._seen)

    async def _exchange(self) -> None:
        """One round trip. What it has to be followed by stays under way."""
        if self._link is None:
            self._link = await self.connect()
        began = trio.current_time()
        words, awaited = b"".join([order.words for order in self._trip]), [order.awaited for order in self._trip]
        replies = await self._link.exchange(words, awaited)
        self._tally.round_trip(trio.current_time() - began)
        trip, self._trip = self._trip, []
        for order, reply in zip(trip, replies, strict=True):
            rest = order.settle(reply)
            if rest is not None:
                self._seen = str(reply)
                self._trip.append(rest)

    async def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link:
            await link.close()
