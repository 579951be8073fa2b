"""The store port on a real server that is well: claims, epochs, appends, reading, following, letters, leases."""

from __future__ import annotations

import pytest
import trio

from support.heed import Noted, Writer
from support.valkey import StoreServer
from trialogue.core.events import Ended, Fenced, Started, Status, Tokens, UserMessage
from trialogue.core.letters import AskCancel, Types
from trialogue.core.machine import Policy
from trialogue.log import Position
from trialogue.store import Key, Stored, StoreGone, Verdict

from .conftest import opened

STARTED = Started("m", "s", "2026-01-01T00:00:00.000Z")
ENDED = Ended("m", "stop", 3, 12, {"model": "x"})


def tokens(index: int, *texts: str) -> Tokens:
    return Tokens("m", index, texts)


async def test_what_is_appended_is_read_back_with_its_positions(any_server: StoreServer, key: Key) -> None:
    async with opened(any_server.url) as (store, heed):
        writer = Writer(store, heed, key)
        claim = await writer.claim()
        question = UserMessage("m", "안녕?", Policy.ENQUEUE, {"top_k": 3}, "2026")
        assert await writer.write(question, STARTED) is Verdict.WRITTEN
        assert await writer.write(Tokens("m", 0, ["a", "b"])) is Verdict.WRITTEN
        assert await writer.write(ENDED) is Verdict.WRITTEN

        assert claim.owner == store.node == await store.owner(key)
        assert claim.made
        epoch = writer.epoch
        assert claim.fence == Position(epoch, 0)
        assert await store.read(key) == [
            Stored(epoch, 0, Fenced(epoch, store.node, fresh=True)),
            Stored(epoch, 1, question),
            Stored(epoch, 2, STARTED),
            Stored(epoch, 3, Tokens("m", 0, ["a", "b"])),
            Stored(epoch, 5, ENDED),
        ]
        assert [stored.offset for stored in await store.read(key, Position(epoch, 3))] == [3, 5]
        assert [stored.offset for stored in await store.read(key, Position(epoch, 4))] == [
            3,
            5,
        ]  # the one that holds it
        assert [stored.offset for stored in await store.read(key, Position(epoch, 5))] == [5]
        assert await store.read(key, Position(epoch, 6)) == []


async def test_what_waits_together_becomes_one_entry(any_server: StoreServer, key: Key) -> None:
    async with opened(any_server.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        writer.queue(STARTED)
        writer.queue(tokens(0, "a", "b", "c", "d"))
        writer.queue(ENDED)
        assert heed.verdicts == []  # never before it returns
        await heed.until(lambda: len(heed.verdicts) == 3)

        assert heed.verdicts == [Verdict.WRITTEN] * 3
        assert [(stored.offset, stored.event) for stored in (await store.read(key))[1:]] == [
            (1, STARTED),
            (2, Tokens("m", 0, ["a", "b", "c", "d"])),
            (6, ENDED),
        ]
        assert any_server.ask("XLEN", store._names.session(key).log) == 2
        assert store.tally.written == 1


async def test_an_old_owners_append_is_refused_once_another_has_claimed(any_server: StoreServer, key: Key) -> None:
    async with opened(any_server.url) as (old, old_heed), opened(any_server.url) as (new, new_heed):
        former, heir = Writer(old, old_heed, key), Writer(new, new_heed, key)
        await former.claim()
        await former.write(STARTED, Tokens("m", 0, ["a", "b"]))

        refused = await heir.claim()
        assert (refused.owner, refused.fence) == (old.node, None)
        assert (await heir.claim(expected="somebody else")).fence is None
        taken = await heir.claim(expected=old.node)

        assert taken.owner == new.node
        assert taken.fence is not None
        assert not taken.made
        assert taken.fence.epoch > former.epoch
        assert taken.fence.offset == former.offset  # offsets go on across epochs
        former.queue(tokens(2, "c"))
        former.queue(tokens(3, "d"))
        await old_heed.until(lambda: len(old_heed.verdicts) == 3)
        assert old_heed.verdicts[1:] == [Verdict.STALE] * 2
        assert await heir.write(ENDED) is Verdict.WRITTEN
        assert [stored.event for stored in await new.read(key)][-2:] == [Fenced(taken.fence.epoch, new.node), ENDED]
        assert old.tally.refused[Verdict.STALE] == 1  # one entry
        assert (new.tally.takeovers, old.tally.takeovers) == (1, 0)


async def test_every_claim_gets_a_greater_epoch_also_on_a_stream_that_is_gone(
    any_server: StoreServer, key: Key
) -> None:
    async with opened(any_server.url) as (store, heed):
        writer = Writer(store, heed, key)
        epochs = []
        for step in range(5):
            claim = await writer.claim()
            assert claim.fence
            epochs.append(claim.fence.epoch)
            if step == 1:
                store.delete(key)
                await settled(store, heed)
            if step == 3:
                any_server.flush()
        any_server.flush()
        await trio.sleep(0.01)
        fresh = await store.claim(key, None, Position(0, 0))  # by one that knows nothing: the clock is what is left
        assert fresh.fence
        assert fresh.fence.epoch > epochs[-1]
        far = Position(epochs[-1] + 10**9, 77)
        assert epochs == sorted(set(epochs))
        store.delete(("ann", "none"))
        claim = await store.claim(("ann", "another"), None, far)  # what a client knows of a stream that was wiped
        assert claim.fence == Position(far.epoch + 1, 77)
        assert claim.made


async def settled(store: object, heed: Noted) -> None:
    """Until all that was queued is written: a letter to oneself comes back."""
    letter = Types(("", ""), "me", len(heed.letters), active=True)
    store.send(store.node, letter)  # type: ignore[attr-defined]
    await heed.until(lambda: letter in heed.letters)


async def test_a_released_session_can_be_claimed_by_anybody_and_goes_on(any_server: StoreServer, key: Key) -> None:
    async with opened(any_server.url) as (one, heed), opened(any_server.url) as (two, other_heed):
        first, second = Writer(one, heed, key), Writer(two, other_heed, key)
        await first.claim()
        first.queue(STARTED)
        one.release(key)  # after what waits
        await settled(one, heed)
        assert heed.verdicts == [Verdict.WRITTEN]
        assert await one.owner(key) is None

        claim = await second.claim()
        assert claim.fence == Position(second.epoch, 2)
        one.release(key)  # not its own any more
        await settled(one, heed)
        assert await two.owner(key) == two.node


async def test_a_deleted_session_is_gone_and_its_old_owner_cannot_bring_it_back(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        store.delete(key)
        await settled(store, heed)

        assert await store.read(key) == []
        assert await store.owner(key) is None
        assert await writer.write(STARTED) is Verdict.WIPED
        assert await store.read(key) == []
        assert store.tally.owned == set()


async def test_a_follower_gets_what_comes_from_its_position_on(any_server: StoreServer, key: Key) -> None:
    async with opened(any_server.url) as (one, heed), opened(any_server.url) as (two, other):
        writer = Writer(one, heed, key)
        await writer.claim()
        await writer.write(STARTED)
        two.follow(key, Position(writer.epoch, 1), other.deliver)
        await other.until(lambda: len(other.stored) == 1)
        await writer.write(Tokens("m", 0, ["a", "b"]))
        await writer.write(ENDED)
        await other.until(lambda: len(other.stored) == 3)

        assert other.stored == (await one.read(key))[1:]
        heir = Writer(two, other, key)
        await heir.claim(expected=one.node)  # its own fence is delivered like any entry
        await other.until(lambda: len(other.stored) == 4)
        assert other.stored[-1] == Stored(heir.epoch, 5, Fenced(heir.epoch, two.node))

        two.unfollow(key)
        two.unfollow(key)
        await heir.write(STARTED)
        await settled(two, other)
        assert len(other.stored) == 4


async def test_a_follower_from_the_start_gets_everything(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        for index in range(300):  # more than one read gives
            writer.queue(STARTED)
            if index % 50 == 0:
                await trio.lowlevel.checkpoint()
        store.follow(key, Position(writer.epoch, 0), heed.deliver)
        await heed.until(lambda: len(heed.stored) == 301)

        assert [stored.offset for stored in heed.stored] == list(range(301))


async def test_a_new_stream_joins_a_read_that_waits(valkey: StoreServer, key: Key) -> None:
    """Else a follower would wait for the block to end: half a second."""
    async with opened(valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        waits = []
        for _ in range(5):
            await trio.sleep(0.02)
            began = trio.current_time()
            store.follow(key, Position(writer.epoch, 0), heed.deliver)
            await heed.until(lambda: heed.stored)
            waits.append(trio.current_time() - began)
            store.unfollow(key)
            heed.stored.clear()

        assert sorted(waits)[2] < 0.1


async def test_letters_arrive_in_order_and_only_where_they_go(any_server: StoreServer) -> None:
    async with opened(any_server.url) as (one, heed), opened(any_server.url) as (two, other):
        letters = [AskCancel(("ann", "s"), one.node, number, None) for number in range(50)]
        for letter in letters:
            one.send(two.node, letter)
        await other.until(lambda: len(other.letters) == 50)

        assert other.letters == letters
        assert heed.letters == []
        one.send("nobody", letters[0])
        await settled(one, heed)
        assert any_server.ask("EXISTS", one._names.inbox("nobody")) == 0  # a letter to the dead leaves nothing behind


async def test_a_node_that_leaves_gives_its_lease_back_and_is_told_once(any_server: StoreServer) -> None:
    async with opened(any_server.url) as (one, heed):
        async with opened(any_server.url) as (two, _):
            node = two.node
            assert await one.alive(node)
            one.watch(node)
            one.watch(node)
            await trio.sleep(0.3)
            assert heed.names == []
        took = await heed.heard("node_gone", within=1.0)
        assert took < 0.5
        assert not await one.alive(node)
        await trio.sleep(0.3)
        assert heed.told.count(("node_gone", node)) == 1


async def test_what_is_queued_at_the_end_is_written(valkey: StoreServer, key: Key) -> None:
    for within in (0.0, 60.0):
        async with opened(valkey.url) as (store, heed):
            writer = Writer(store, heed, (str(within), key[1]))
            await writer.claim()
            writer.queue(tokens(0, "a"), within=within)
        assert heed.verdicts == [Verdict.WRITTEN]


async def test_what_may_wait_waits_for_company_and_holds_nobody_up(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url) as (store, heed):
        patient, hasty = Writer(store, heed, key), Writer(store, Noted(), ("bob", key[1]))
        await patient.claim()
        await hasty.claim()
        began = trio.current_time()
        for index in range(4):
            patient.queue(tokens(index, "a"), within=0.1)
            await trio.sleep(0.01)
        assert await hasty.write(STARTED) is Verdict.WRITTEN
        assert trio.current_time() - began < 0.09
        assert heed.verdicts == []
        await heed.until(lambda: len(heed.verdicts) == 4)
        assert 0.09 < trio.current_time() - began < 0.2
        assert valkey.ask("XLEN", store._names.session(key).log) == 2

        patient.queue(tokens(4, "b"), within=60.0)
        assert await patient.write(ENDED) is Verdict.WRITTEN  # it goes with what is due sooner
        assert [event for _, _, event in await store.read(key)][-2:] == [Tokens("m", 4, ["b"]), ENDED]


async def test_a_session_is_released_after_what_may_wait(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        writer.queue(STARTED, within=60.0)
        store.release(key)
        await settled(store, heed)
        assert heed.verdicts == [Verdict.WRITTEN]


async def test_thousands_that_are_due_at_once_are_all_written(valkey: StoreServer, key: Key) -> None:
    """In several round trips; what another node waits for does not wait for the last of them."""
    async with opened(valkey.url) as (store, heed), opened(valkey.url) as (other, other_heed):
        writers = [Writer(store, heed, (str(number), key[1])) for number in range(600)]
        for writer in writers:
            await writer.claim()
        trips = sum(store.tally.latency)
        for writer in writers:
            writer.queue(STARTED)
        store.send(other.node, Types(key, store.node, 1, active=True))
        await other_heed.until(lambda: other_heed.letters)
        await heed.until(lambda: len(heed.verdicts) == 600)
        assert set(heed.verdicts) == {Verdict.WRITTEN}
        assert sum(store.tally.latency) - trips >= 3


async def test_touched_sessions_live_and_the_floor_lives_longer(any_server: StoreServer, key: Key) -> None:
    async with opened(any_server.url, session_ttl=50) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        names = store._names.session(key)
        assert 45_000 < any_server.ask("PTTL", names.log) <= 50_000
        store.touch(key, 100)
        await settled(store, heed)

        assert 95_000 < any_server.ask("PTTL", names.log) <= 100_000
        assert 95_000 < any_server.ask("PTTL", names.owner) <= 100_000
        assert any_server.ask("PTTL", names.floor) > 1_000_000
        assert 0 < any_server.ask("PTTL", store._names.lease(store.node)) <= 5000
        assert 0 < any_server.ask("PTTL", store._names.inbox(store.node)) <= 5000


async def test_trimming_lets_go_of_what_stands_before(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        for _ in range(250):  # whole nodes of a hundred entries are dropped
            assert await writer.write(Status("m", "queued", {"place": 1})) is Verdict.WRITTEN
        store.trim(key, Position(writer.epoch, 240))
        await settled(store, heed)

        left = await store.read(key)
        assert left[-1].offset == 250
        assert 100 < left[0].offset <= 240


async def test_a_stream_never_grows_past_its_bound(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url, max_entries=100) as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        for _ in range(500):
            writer.queue(STARTED)
            await heed.until(lambda: len(heed.verdicts) == writer.offset - 1)

        assert valkey.ask("XLEN", store._names.session(key).log) < 300


async def test_hostile_names_meet_nobody_elses_keys(valkey: StoreServer) -> None:
    keys = [("a}:log", "s"), ("a", "}:log/s"), ("", "a/s"), ("a/s", ""), ("a", "s"), ("한", "*"), ("\ud800", "s")]
    async with opened(valkey.url, prefix="x{y}") as (store, _heed):
        for key in keys:
            claim = await store.claim(key, None, Position(0, 0))
            assert claim.made, key
        names = [store._names.session(key).log.decode() for key in keys]
        assert len(set(names)) == len(keys)
        for name in names:
            assert name.startswith("x%7By%7D:{")
            assert (name.count("{"), name.count("}")) == (1, 1)


async def test_deployments_with_different_prefixes_do_not_meet(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url, prefix="blue") as (blue, _), opened(valkey.url, prefix="green") as (green, _):
        await blue.claim(key, None, Position(0, 0))
        assert await green.owner(key) is None
        assert not await green.alive(blue.node)


async def test_a_stream_that_holds_something_else_is_no_log(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url) as (store, _):
        await store.claim(key, None, Position(0, 0))
        valkey.ask("XADD", store._names.session(key).log, "*", "n", "1", "e", '[9,["t"]]')
        with pytest.raises(StoreGone, match="another version"):
            await store.read(key)
