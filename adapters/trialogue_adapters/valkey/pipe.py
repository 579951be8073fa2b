"""All writes of a node, over one connection: what is ready goes out in one round trip, the next collects meanwhile.

Nobody waits for it: writers queue and are told. A broken link is opened again and what was under way is sent again
(every command may be: ids are explicit, letters are numbered), until nothing was acknowledged for `PATIENCE` seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import trio

from trialogue.core.events import Event, Tokens
from trialogue.store import Key, Verdict
from trialogue_adapters.valkey.address import Address
from trialogue_adapters.valkey.names import Names
from trialogue_adapters.valkey.orders import Append, Done, Order, append_template
from trialogue_adapters.valkey.resp import Link, NotAReply, Refused
from trialogue_adapters.valkey.tally import Tally

PATIENCE = 2.0
"""Seconds without an acknowledgement of what was sent, after which the store counts as gone: the promise to users."""

RETRY_SECONDS = 0.05

BEHIND_TOKENS, BEHIND_EVENTS = 0.1, 0.005
"""Seconds that tokens, and anything else, wait for company when clients need not wait for the store. At 26.7 tokens/s
2.7 of a session become one entry, which is what pays for the store's work; an ending is not held up by that."""


class Gone(Exception):
    """The store acknowledged nothing for `PATIENCE` seconds. The text says what was seen last."""


class Pipe:
    """Queue at will; `run` sends. `may_write`, asked before each send, raises if this node must not write any more."""

    def __init__(
        self, address: Address, names: Names, tally: Tally, may_write: Callable[[], None], *, behind: bool, maxlen: int
    ) -> None:
        self._address = address
        self._names = names
        self._tally = tally
        self._may_write = may_write
        self._behind = behind
        self._template = append_template(maxlen)
        self._appends: dict[Key, list[Append]] = {}
        self._hasty: set[Key] = set()  # sessions whose appends do not wait for company, when others may
        self._orders: list[Order] = []
        self._trip: list[Order] = []  # what is under way
        self._soon_at = self._later_at = inf
        self._changed = trio.Event()
        self._open = False
        self._link: Link | None = None
        self._seen = "no answer"

    def __repr__(self) -> str:
        return f"<Pipe to {self._address}, {len(self._appends)} sessions and {len(self._orders)} orders waiting>"

    # Queueing.

    def append(self, key: Key, epoch: int, offset: int, events: Sequence[Event], done: Done) -> None:
        """Hot: once per batch of tokens."""
        if not self._open:
            trio.lowlevel.current_trio_token().run_sync_soon(done, Verdict.UNREACHABLE)
            return
        waiting = self._appends.get(key)
        if not waiting or not waiting[-1].joins(epoch, offset, events, done):
            fresh = Append(key, self._names.session(key).log, epoch, offset, events, done, self._judged)
            if waiting:
                waiting.append(fresh)
            else:
                self._appends[key] = [fresh]
        if not self._behind:
            if self._soon_at:
                self._hurry(0.0)
        elif type(events[0]) is Tokens and type(events[-1]) is Tokens:  # what else there is comes at a turn's ends
            if self._later_at == inf:
                self._later_at = trio.current_time() + BEHIND_TOKENS
                self._changed.set()
        else:
            self._hasty.add(key)
            self._hurry(BEHIND_EVENTS)

    def order(self, order: Order) -> None:
        if self._open:
            self._orders.append(order)
            if order.key:
                self._hasty.add(order.key)  # it waits for this session's appends, so these do not wait
            self._hurry(0.0)

    def hasten(self) -> None:
        """Nothing waits for company any more."""
        self._hasty.update(self._appends)
        self._hurry(0.0)

    def _hurry(self, seconds: float) -> None:
        due = trio.current_time() + seconds if seconds else 0.0
        if due < self._soon_at:
            self._soon_at = due
            self._changed.set()

    def _judged(self, key: Key, verdict: Verdict, appends: int) -> None:
        """What an append was refused for, every later one of its session is."""
        self._tally.verdicts[verdict.value] += appends
        if verdict is not Verdict.WRITTEN:
            for later in self._appends.pop(key, ()):
                later.reject(verdict)

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
        failed = [*self._trip, *(append for waiting in self._appends.values() for append in waiting), *self._orders]
        self._trip, self._orders = [], []
        self._appends.clear()
        self._hasty.clear()
        self._soon_at = self._later_at = inf
        for order in failed:
            order.fail()
        await self._hang_up()

    async def _until_due(self) -> None:
        while True:
            due = min(self._soon_at, self._later_at)
            if due <= trio.current_time():
                return
            self._changed = trio.Event()
            with trio.move_on_at(due):
                await self._changed.wait()

    def _take(self) -> None:
        """What is due: the first append of each session, and all orders that need not wait for one."""
        everything = not self._behind or self._later_at <= trio.current_time()
        keys = list(self._appends) if everything else [key for key in self._hasty if key in self._appends]
        for key in keys:
            waiting = self._appends[key]
            self._trip.append(waiting.pop(0))
            if not waiting:
                del self._appends[key]
        self._trip += [order for order in self._orders if order.key not in self._appends]
        self._orders = [order for order in self._orders if order.key in self._appends]
        self._hasty = {key for key in keys if key in self._appends}
        self._soon_at = 0.0 if self._hasty else inf
        if everything:
            self._later_at = inf
        for order in self._trip:
            order.seal(self._template)

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
                    for order in self._trip:
                        order.sent_in_vain()
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
        replies = await self._link.exchange(b"".join([order.words for order in self._trip]), len(self._trip))
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
