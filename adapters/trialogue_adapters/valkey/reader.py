"""The one blocking reader of a node: all streams that it follows, and its inbox, in one command.

It never loses its place: after whatever breaks it asks again from the last id that it has handed on. A change of the
set wakes it by an entry in its own inbox. Many streams make the command long, so it pauses between two: what comes
meanwhile comes together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import trio

from trialogue.core.codec import Unreadable
from trialogue.core.letters import Letter
from trialogue.log import Position
from trialogue.store import Key, Stored, StoreGone
from trialogue_adapters.valkey.asker import Asker
from trialogue_adapters.valkey.entries import Entry, letter_of, unpacked
from trialogue_adapters.valkey.names import Names

logger = logging.getLogger(__name__)

BLOCK_MS = 500
"""How long a read waits in the store; its deadline is `PATIENCE` later, so a dead connection is noticed in 2 s."""

PATIENCE = 1.5

COUNT = 128
"""Entries of each stream per read."""

PAUSE_SECONDS = 5e-6
MAX_PAUSE = 0.01
"""Seconds between two reads, per stream that is followed, and at most."""

RETRY_SECONDS = 0.1

Deliver = Callable[[Sequence[Stored]], None]


class _Followed:
    __slots__ = ("deliver", "last")

    def __init__(self, last: bytes, deliver: Deliver) -> None:
        self.last = last
        self.deliver = deliver


class Reader:
    """`wake`: put an entry into this node's inbox. `receive`: what to do with a letter; `beat`: an entry of our own."""

    def __init__(
        self,
        asker: Asker,
        names: Names,
        wake: Callable[[], None],
        receive: Callable[[Letter], None],
        beat: Callable[[bytes], None],
    ) -> None:
        self._asker = asker
        self._names = names
        self._wake = wake
        self._receive = receive
        self._beat = beat
        self._streams: dict[bytes, _Followed] = {}
        self._inbox = b""
        self._inbox_last = b"0-0"
        self._numbers: dict[bytes, int] = {}  # of each sender: its last letter's
        self._blocked = False

    def __repr__(self) -> str:
        return f"<Reader of {len(self._streams)} streams>"

    @property
    def inbox_last(self) -> bytes:
        """The id of the last entry of the inbox that was handed on."""
        return self._inbox_last

    def move_in(self, node: str) -> None:
        """From now on the inbox is that node's, from its first letter on."""
        inbox = self._names.inbox(node)
        if inbox != self._inbox:
            self._inbox, self._inbox_last = inbox, b"0-0"
            self._asker.hang_up()  # a read that waits for the old one

    def follow(self, key: Key, after: Position, deliver: Deliver) -> None:
        epoch, offset = after
        last = b"%d-%d" % ((epoch, offset - 1) if offset else (max(0, epoch - 1), 2**64 - 1))
        self._streams[self._names.session(key).log] = _Followed(last, deliver)
        if self._blocked:
            self._blocked = False
            self._wake()

    def unfollow(self, key: Key) -> None:
        self._streams.pop(self._names.session(key).log, None)

    async def run(self) -> None:
        """For ever. A store that does not answer is asked again."""
        well = True
        while True:
            try:
                await self._read()
                well = True
            except StoreGone as error:
                if well:
                    logger.warning("cannot read what is followed: %s", error)
                well = False
                await trio.sleep(RETRY_SECONDS)

    async def _read(self) -> None:
        asked = self._streams.copy()  # who follows anew in the meantime wants other entries than these
        names, lasts = [self._inbox, *asked], [self._inbox_last, *(followed.last for followed in asked.values())]
        head = (b"XREAD", b"COUNT", b"%d" % COUNT, b"BLOCK", b"%d" % BLOCK_MS, b"STREAMS")
        self._blocked = True
        try:
            reply = await self._asker.ask(*head, *names, *lasts, patience=BLOCK_MS / 1000 + PATIENCE)
        finally:
            self._blocked = False
        for name, entries in (reply or {}).items():
            if name == self._inbox:
                self._open_letters(entries)
            elif entries and name in asked and self._streams.get(name) is asked[name]:
                self._hand_on(asked[name], name, entries)
        await trio.sleep(min(MAX_PAUSE, PAUSE_SECONDS * len(self._streams)))

    def _hand_on(self, followed: _Followed, name: bytes, entries: Sequence[Any]) -> None:
        found: list[Stored] = []
        for entry in entries:
            try:
                found += unpacked(entry)
            except Unreadable as error:
                logger.error("an entry of %s cannot be read: %s", name.decode(), error)
        followed.last = entries[-1][0]
        followed.deliver(found)

    def _open_letters(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._inbox_last = entry[0]
            try:
                found = letter_of(entry)
            except Unreadable as error:
                logger.error("a letter cannot be read: %s", error)
                continue
            if found is None:
                self._beat(entry[1][1])
                continue
            sender, number, letter = found
            if number > self._numbers.get(sender, 0):  # else it was sent twice: a link broke before the reply
                self._numbers[sender] = number
                self._receive(letter)

    def forget(self, sender: str) -> None:
        """That node is gone: it will send no letter any more."""
        self._numbers.pop(sender.encode(), None)
