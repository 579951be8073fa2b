"""The one blocking reader on a real server: nothing lost or twice, whatever breaks, and whatever is followed when."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from support.heed import Noted
from support.valkey import StoreServer
from trialogue.core.codec import encode_events, encode_letter
from trialogue.core.events import Event, Started
from trialogue.core.letters import AskCancel
from trialogue.log import Position
from trialogue.store import Key
from trialogue_adapters.valkey import Address, reader
from trialogue_adapters.valkey.asker import Asker
from trialogue_adapters.valkey.names import Names
from trialogue_adapters.valkey.reader import COUNT, Reader

from .conftest import opened

EPOCH = 7
NAMES = Names("reader")


class Node:
    """A reader, and a hand that writes what it reads. `beats`: what entries of its own said."""

    def __init__(self, server: StoreServer, asker: Asker, name: str) -> None:
        self.server = server
        self.heed = Noted()
        self.beats: list[bytes] = []
        self.wakes = 0
        self.wake: Callable[[], None] = lambda: self.note("")
        self.inbox = NAMES.inbox(name)
        self.reader = Reader(asker, NAMES, self._wake, self.heed.received, self._beat)
        self.reader.move_in(name)

    def _wake(self) -> None:
        self.wakes += 1
        self.wake()

    def _beat(self, text: bytes) -> None:
        self.beats.append(text)
        self.heed.note("beat", text)

    def note(self, text: str) -> None:
        self.server.ask("XADD", self.inbox, "*", "w", text)

    def write(self, key: Key, offset: int, *events: Event) -> None:
        payload = encode_events(list(events)) if events else b"?"
        self.server.ask("XADD", NAMES.session(key).log, f"{EPOCH}-{offset}", "n", 1, "e", payload)

    def letter(self, number: int, sender: str = "other", body: bytes | None = None) -> None:
        body = body or encode_letter(letter(number, sender))
        self.server.ask("XADD", self.inbox, "*", "s", sender, "n", number, "l", body)

    def follow(self, key: Key, offset: int) -> None:
        self.reader.follow(key, Position(EPOCH, offset), self.heed.deliver)

    @property
    def offsets(self) -> list[int]:
        return [stored.offset for stored in self.heed.stored]

    async def blocked(self) -> None:
        """Until its read waits in the server."""
        with trio.fail_after(2):
            while self.server.info("blocked_clients") != "1":
                await trio.sleep(0.005)


def letter(number: int, sender: str = "other") -> AskCancel:
    return AskCancel(("ann", "s"), sender, number, None)


def told(number: int) -> Started:
    return Started(str(number), "s", "t")


@asynccontextmanager
async def reading(server: StoreServer) -> AsyncGenerator[Node]:
    server.flush()
    async with trio.open_nursery() as nursery:
        node = Node(server, Asker(Address.parse(server.url), nursery, 2.0), "me")
        nursery.start_soon(node.reader.run)
        yield node
        nursery.cancel_scope.cancel()


async def test_entries_come_from_where_they_are_wanted_however_many(valkey: StoreServer, key: Key) -> None:
    async with reading(valkey) as node:
        for offset in range(2 * COUNT + 5):
            node.write(key, offset, told(offset))
        node.follow(key, 3)
        await node.heed.until(lambda: len(node.offsets) == 2 * COUNT + 2)
        assert node.offsets == list(range(3, 2 * COUNT + 5))
        assert max(len(told) for what, told in node.heed.told if what == "delivered") <= COUNT  # type: ignore[arg-type]


async def test_a_first_position_of_an_epoch_is_read_and_what_was_before_it_is_not(
    valkey: StoreServer, key: Key
) -> None:
    async with reading(valkey) as node:
        valkey.ask("XADD", NAMES.session(key).log, f"{EPOCH - 1}-90", "n", 1, "e", encode_events([told(90)]))
        node.write(key, 0, told(0))
        node.follow(key, 0)
        await node.heed.until(lambda: node.offsets)
        assert node.offsets == [0]


async def test_a_read_that_waits_is_woken_once_for_all_that_is_new(valkey: StoreServer) -> None:
    async with reading(valkey) as node:
        await node.blocked()
        keys = [("ann", f"{number}") for number in range(5)]
        for key in keys:
            node.write(key, 0, told(0))
            node.follow(key, 0)
        await node.heed.until(lambda: len(node.offsets) == 5)
        assert node.wakes == 1


async def test_what_is_followed_anew_is_told_from_there_although_a_read_is_under_way(
    valkey: StoreServer, key: Key
) -> None:
    """The read that waits brings an entry behind it: that belongs to the former follower, and comes again."""
    async with reading(valkey) as node:
        for offset in (1, 2, 3):
            node.write(key, offset, told(offset))
        node.follow(key, 4)
        await node.blocked()
        node.wake = lambda: node.write(key, 4, told(4))
        node.reader.unfollow(key)
        node.follow(key, 1)
        await node.heed.until(lambda: len(node.offsets) >= 4)
        assert node.offsets == [1, 2, 3, 4]


async def test_nothing_is_delivered_after_unfollow_not_even_what_has_been_read(valkey: StoreServer) -> None:
    async with reading(valkey) as node:
        one, two = ("ann", "one"), ("ann", "two")
        heard: list[Key] = []

        def deliver(mine: Key, other: Key) -> Callable[[object], None]:
            def heed(_: object) -> None:
                heard.append(mine)
                node.reader.unfollow(other)
                node.heed.note("heard")

            return heed

        for mine, other in ((one, two), (two, one)):
            node.write(mine, 0, told(0))
            node.reader.follow(mine, Position(EPOCH, 0), deliver(mine, other))
        await node.heed.until(lambda: heard)
        node.note("later")
        await node.heed.until(lambda: b"later" in node.beats)
        assert len(heard) == 1


async def test_a_letter_that_was_sent_twice_is_told_once(valkey: StoreServer) -> None:
    async with reading(valkey) as node:
        for number in (1, 2, 2, 1, 3):
            node.letter(number)
        node.letter(1, "third")
        await node.heed.until(lambda: len(node.heed.letters) == 4)
        assert node.heed.letters == [letter(1), letter(2), letter(3), letter(1, "third")]
        node.reader.forget("other")
        node.reader.forget("unknown")
        node.letter(1)
        await node.heed.until(lambda: len(node.heed.letters) == 5)


async def test_what_cannot_be_read_is_said_and_passed_over(
    valkey: StoreServer, key: Key, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(valkey) as node:
        node.follow(key, 0)
        node.write(key, 0, told(0))
        node.write(key, 1)
        node.write(key, 2, told(2))
        node.letter(1, body=b"?")
        node.letter(2)
        with caplog.at_level(logging.ERROR):
            await node.heed.until(lambda: len(node.offsets) == 2 and node.heed.letters)
        assert node.offsets == [0, 2]
        assert node.heed.letters == [letter(2)]
        said = [record.getMessage() for record in caplog.records if record.name.endswith("valkey.reader")]
        assert sorted(line.split(" ")[0] for line in said) == ["a", "an"]  # a letter, an entry


async def test_beats_are_heard_and_a_read_inbox_can_be_trimmed(valkey: StoreServer) -> None:
    async with reading(valkey) as node:
        node.letter(1)
        node.note("12.5")
        await node.heed.until(lambda: node.beats)
        assert node.beats == [b"12.5"]
        ((last, _),) = valkey.ask("XREVRANGE", node.inbox, "+", "-", "COUNT", 1)
        assert node.reader.inbox_last == last


async def test_another_name_is_another_inbox_from_its_first_letter_on(
    valkey: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BLOCK_MS", 5000)
    async with reading(valkey) as node:
        old, new = NAMES.inbox("me"), NAMES.inbox("me again")
        node.inbox = new
        node.letter(2)
        node.inbox = old
        node.letter(1)
        await node.heed.until(lambda: node.heed.letters)
        await node.blocked()
        began = trio.current_time()
        node.reader.move_in("me again")
        await node.heed.until(lambda: len(node.heed.letters) == 2)
        assert trio.current_time() - began < 2.5  # it does not wait for the old inbox's read to end
        assert node.heed.letters == [letter(1), letter(2)]


async def test_a_cut_connection_loses_no_entry_and_tells_none_twice(valkey: StoreServer, key: Key) -> None:
    async with reading(valkey) as node:
        node.follow(key, 0)
        for offset in range(30):
            node.write(key, offset, told(offset))
            node.letter(offset + 1)
            if offset % 10 == 5:
                await node.blocked()
                valkey.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await trio.sleep(0)
        await node.heed.until(lambda: len(node.offsets) >= 30 and len(node.heed.letters) >= 30)
        assert node.offsets == list(range(30))
        assert node.heed.letters == [letter(offset + 1) for offset in range(30)]


async def test_a_store_that_does_not_answer_is_asked_again_and_said_once(
    own_valkey: StoreServer, key: Key, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(own_valkey) as node:
        node.follow(key, 0)
        own_valkey.kill()
        with caplog.at_level(logging.WARNING):
            await trio.sleep(0.5)  # several times RETRY_SECONDS
        own_valkey.start()
        node.write(key, 0, told(0))
        await node.heed.until(lambda: node.offsets)
        assert [record.name for record in caplog.records].count("trialogue_adapters.valkey.reader") == 1


async def test_one_connection_waits_however_many_sessions_are_followed(own_valkey: StoreServer) -> None:
    async with opened(own_valkey.url) as (store, heed):
        for number in range(50):
            store.follow(("ann", f"{number}"), Position(EPOCH, 0), heed.deliver)
        await trio.sleep(0.05)
        assert own_valkey.info("blocked_clients") == "1"
        assert int(own_valkey.info("connected_clients")) <= 4  # the pipe, the asker, the reader, and who asks that
