"""`remote_client.py`: a connection at another node hears of things when their cause is in the store and reads along."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from support.heed import Noted
from support.memory_store import MemoryStore, Server
from trialogue import Position
from trialogue.core.errors import CloseCode
from trialogue.core.events import CancelResult, Ended, Fenced, Goaway, Presence, Started, Tokens
from trialogue.core.letters import Dismiss, Letter, Tell
from trialogue.remote_client import RemoteClient
from trialogue.shared_log import BEHIND_EVENTS, BEHIND_TOKENS, SharedLog

KEY = ("ann", "s")
STARTED = Started("m", "s", "t")
LATENCY = 1.0
"""Seconds of a round trip to the store."""

PRESENCE = Presence(2)
GOAWAY = Goaway("drain", 100)


class Owner:
    """A session's log at its owner, one entry long (the fence), and the letters that its remote clients wrote."""

    def __init__(self, log: SharedLog) -> None:
        self.log = log
        self.letters: list[tuple[str, Letter]] = []

    def client(self, away: int = 5, start: int = 0) -> RemoteClient:
        return RemoteClient(KEY, self.log, "there", away, start, "here", lambda *sent: self.letters.append(sent))

    def tell(self, offset: int, reply: object = PRESENCE) -> tuple[str, Tell]:
        return "there", Tell(KEY, "here", 5, self.log.epoch, offset, reply)  # type: ignore[arg-type]


@asynccontextmanager
async def owner() -> AsyncGenerator[Owner]:
    server = Server()
    store = MemoryStore(server)
    async with store.open(Noted()):
        fence = (await store.claim(KEY, None, Position(0, 0))).fence
        assert fence
        log = SharedLog(KEY, store, fence, 1 << 20, lambda more: None)
        log.absorb([(0, Fenced(fence.epoch, store.node, fresh=True))])
        log.own(lambda verdict, events: None)
        server.latency = LATENCY
        yield Owner(log)


async def test_a_reply_goes_at_once_when_all_is_in_the_store(autojump_clock: MockClock) -> None:
    async with owner() as it:
        it.client().reply(PRESENCE)
        assert it.letters == [it.tell(1)]


async def test_tokens_hurry_for_it_until_it_has_gone_however_often_it_leaves(autojump_clock: MockClock) -> None:
    server = Server(latency=0.0)
    store = MemoryStore(server)
    async with store.open(Noted()):
        fence = (await store.claim(KEY, None, Position(0, 0))).fence
        assert fence
        log = SharedLog(KEY, store, fence, 1 << 20, lambda more: None, "behind")
        log.absorb([(0, Fenced(fence.epoch, store.node, fresh=True))])
        log.own(lambda verdict, events: None)
        clients = [RemoteClient(KEY, log, "there", away, 0, "here", lambda *sent: None) for away in (1, 2)]
        waits = []
        for _ in range(3):
            began, entries = trio.current_time(), len(server.streams[KEY])
            log.append_tokens(Tokens("m", log.end, ["a"]), 1)
            while len(server.streams[KEY]) == entries:
                await trio.sleep(0.001)
            waits.append(trio.current_time() - began)
            clients[0].leave()
            if len(waits) > 1:
                clients[1].leave()
        assert waits == pytest.approx([BEHIND_EVENTS, BEHIND_EVENTS, BEHIND_TOKENS], abs=0.003)


async def test_what_is_told_waits_for_its_cause_and_says_where_that_ends(autojump_clock: MockClock) -> None:
    async with owner() as it:
        client = it.client()
        it.log.extend([STARTED, Ended("m", "cancelled", 0, 1)])
        client.reply(CancelResult("m", "cancelled"))
        client.dismiss(CloseCode.RESTART, "drain", GOAWAY)
        await trio.sleep(LATENCY * 0.9)
        assert it.letters == []
        await trio.sleep(LATENCY * 0.2)
        dismissal = Dismiss(KEY, "here", 5, it.log.epoch, 3, CloseCode.RESTART, "drain", GOAWAY)
        assert it.letters == [it.tell(3, CancelResult("m", "cancelled")), ("there", dismissal)]


async def test_what_is_told_of_entries_that_are_lost_is_never_told(autojump_clock: MockClock) -> None:
    async with owner() as it:
        client = it.client()
        it.log.extend([STARTED])
        client.reply(PRESENCE)
        it.log.disown()
        await trio.sleep(LATENCY * 2)
        assert it.letters == []


async def test_it_is_level_with_what_is_in_the_store(autojump_clock: MockClock) -> None:
    async with owner() as it:
        client = it.client()
        for index, after in ((0, 5), (4, 9)):
            it.log.append_tokens(Tokens("m", index, ["a"] * 4), 4)
            assert it.log.sent_up_to(0) == after - 4
            await trio.sleep(LATENCY * 1.1)
            assert client._follower.position == it.log.committed == after
            assert it.log.sent_up_to(0) == after  # it counts as sent: its node reads the same stream
            assert it.log.has_room(1)  # a slow reader there slows nobody here


async def test_from_where_it_starts_all_that_is_there_counts_as_sent(autojump_clock: MockClock) -> None:
    async with owner() as it:
        it.log.extend([STARTED])
        await trio.sleep(LATENCY * 1.1)
        it.client(start=1)
        assert it.log.sent_up_to(1) == 2


async def test_what_it_did_not_start_from_does_not_count(autojump_clock: MockClock) -> None:
    async with owner() as it:
        it.log.extend([STARTED, STARTED])
        await trio.sleep(LATENCY * 1.1)
        it.client(start=2)
        assert it.log.sent_up_to(1) == 0
        it.client(start=0)
        assert it.log.sent_up_to(1) == 3


async def test_one_that_has_gone_holds_nobody_up(autojump_clock: MockClock) -> None:
    async with owner() as it:
        client = it.client()
        client.leave()
        client.leave()
        it.log.extend([STARTED] * 50)
        await trio.sleep(LATENCY * 1.1)
        assert client._follower.position == 1
        assert it.log.has_room(10)  # nobody reads, so nobody is waited for


async def test_its_number_is_no_connections_and_no_other_clients(autojump_clock: MockClock) -> None:
    async with owner() as it:
        numbers = {it.client(away).number for away in (1, 1, -1)}
        assert len(numbers) == 3
        assert min(numbers) >= 1 << 40
        client = it.client(away=-3)
        client.reply(PRESENCE)
        ((_, letter),) = it.letters
        assert isinstance(letter, Tell)
        assert letter.client == -3  # there, it is known by its number there
