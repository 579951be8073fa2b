"""`nodes.py` with `guests.py`, `remote_session.py` and `remote_client.py`: clients of one session on several nodes."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from support.memory import Attentive, settle
from support.nodes import a_while, cluster, ends, position, tokens, two
from trialogue import Metadata
from trialogue.core.events import Ended, UserMessage
from trialogue.farewell import DRAIN_BATCH, DRAIN_PAUSE, MIN_RETURN_MS
from trialogue.remote_session import RemoteSession
from trialogue.session import Session

# ── Any node ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_entry_is_in_the_store_before_a_client_sees_it(autojump_clock: MockClock) -> None:
    async with cluster("a") as it:
        client = await it.a.connect()
        it.server.latency = 1.0
        client.say(message_id="m", content="m", session_id="s")
        await trio.sleep(0.4)
        assert client.types() == ["session_ready"]
        await trio.sleep(2.0)
        assert client.types()[1:3] == ["user_message", "stream_start"]


async def test_a_client_at_another_node_is_served_as_at_the_owners(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        assert isinstance(it.a.session(), Session)
        assert isinstance(it.b.session(), RemoteSession)
        await it.ask(two_, "m")
        it.service.emit("m", Metadata([{"title": "d"}]), "He", "llo")
        it.service.done("m")
        await a_while()
        assert tokens(two_, "m") == tokens(one, "m") == "Hello"
        assert ends(two_) == ends(one) == [("m", "stop")]
        entries = [[frame for frame in client.frames if "offset" in frame] for client in (one, two_)]
        assert entries[0] == entries[1]
        assert two_.told("stream_receipt")[0]["sent"] == 2


async def test_who_comes_to_a_third_node_resumes_there(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, _ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "1", "2")
        await a_while()
        at = position(one)
        it.service.emit("m", "3")
        back = await it.c.connect(after=at)
        assert back.frames[0]["resumed"] == "replayed"
        it.service.emit("m", "4")
        it.service.done("m")
        await a_while()
        assert tokens(back, "m") == "34"
        assert ends(back) == [("m", "stop")]


@pytest.mark.parametrize(("policy", "reason"), [("interrupt", "interrupted"), ("rollback", "retracted")])
async def test_policies_hold_across_nodes(policy: str, reason: str, autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "x")
        await it.ask(two_, "n", on_busy=policy)
        assert ends(one) == ends(two_) == [("m", reason)]
        it.service.emit("m", "late")
        await it.ask(two_, "o", on_busy="reject")
        assert ends(two_)[-1] == ("o", "WS-003")
        assert ends(one) == [("m", reason)]
        await it.ask(two_, "p", on_busy="enqueue")
        assert one.told("stream_status")[-1]["phase"] == "queued"
        assert "late" not in tokens(one, "m") + tokens(two_, "m")


async def test_a_cancel_from_another_node_is_answered_after_the_end(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "x")
        two_.say(type="cancel", message_id="m")
        await a_while()
        assert two_.types("m")[-3:-1] == ["stream_end", "cancel_result"] or two_.types("m").index(
            "stream_end"
        ) < two_.types("m").index("cancel_result")
        assert two_.told("cancel_result")[0]["outcome"] == "cancelled"
        assert not one.told("cancel_result")
        two_.say(type="cancel")
        await a_while()
        assert two_.told("cancel_result")[-1]["outcome"] == "already_ended"


async def test_presence_typing_acks_and_receipts_across_nodes(autojump_clock: MockClock) -> None:
    async with cluster(service=Attentive) as it:
        one, two_ = await two(it)
        assert one.told("presence")[-1]["connections"] == 2
        assert two_.told("presence")[-1]["connections"] == 2
        three = await it.c.connect()
        assert [client.told("presence")[-1]["connections"] for client in (one, two_, three)] == [3, 3, 3]
        two_.say(type="typing", active=True)
        await a_while()
        assert [len(client.told("typing")) for client in (one, two_, three)] == [1, 0, 1]
        await it.ask(one, "m")
        it.service.emit("m", "x", "y")
        await a_while()
        three.say(type="ack", message_id="m", index=1)
        await a_while()
        it.service.done("m")
        await a_while()
        (receipt,) = one.told("stream_receipt")
        assert (receipt["sent"], receipt["acked"]) == (2, 2)
        three.leave(1006)
        await a_while()
        assert two_.told("presence")[-1]["connections"] == 2


async def test_a_repeat_at_another_node_never_generates_again(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        await it.ask(two_, "m")
        assert [s for s in two_.told("stream_status") if s["phase"] == "duplicate"]
        it.service.emit("m", "x")
        it.service.done("m")
        await a_while()
        late = await it.c.connect()
        await it.ask(late, "m")
        assert tokens(late, "m") == "x"
        assert ends(late) == [("m", "stop")]
        await it.ask(late, "m", content="other")
        assert ends(late)[-1] == ("m", "WS-001")
        assert it.service.sessions == ["s"], "one generation"


async def test_the_last_one_leaving_on_purpose_stops_wherever_it_was(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one, two_ = await two(it)
        await it.ask(one, "m")
        one.leave(1000)
        await a_while()
        assert it.service.open == 1
        two_.leave(1000)
        await a_while()
        assert it.service.open == 0
        assert [event.finish_reason for event in it.events() if isinstance(event, Ended)] == ["cancelled"]


async def test_a_session_expires_with_its_stream(autojump_clock: MockClock) -> None:
    async with cluster(session_ttl=5) as it:
        one, two_ = await two(it)
        await it.ask(two_, "m")
        it.service.done("m")
        await a_while()
        one.leave(1006)
        await trio.sleep(10)
        assert it.events()
        two_.leave(1006)
        await trio.sleep(10)
        assert not it.events()
        assert all(not node.hub.sessions for node in it.nodes.values())


async def test_an_errand_from_any_node(autojump_clock: MockClock) -> None:
    async with cluster() as it:
        one = await it.a.connect()
        await it.ask(one, "m")
        assert [result.outcome for result in await it.b.hub.cancel("", "s", "m")] == ["cancelled"]
        assert [result.outcome for result in await it.c.hub.cancel("", "t", "m")] == ["unknown"]
        assert ends(one) == [("m", "cancelled")]
        await a_while()
        assert not it.b.hub.sessions


# ── Leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_drain_hands_over(autojump_clock: MockClock) -> None:
    async with cluster() as it, trio.open_nursery() as nursery:
        one, two_ = await two(it)
        await it.ask(one, "m")
        it.service.emit("m", "1")
        await a_while()
        nursery.start_soon(it.a.hub.drain, 20)
        await a_while()
        assert one.closed is not None
        assert one.closed[0] == 1012
        assert two_.closed is None
        back = await it.c.connect(after=position(one))
        assert back.frames[0]["resumed"] == "replayed"
        it.service.emit("m", "2")
        it.service.done("m")
        await a_while(1)
        assert tokens(back, "m") == "2"
        assert ends(back) == ends(two_) == [("m", "stop")]
        it.a.scope.cancel()
        await it.ask(two_, "n")
        it.service.done("n")
        await a_while()
        assert ends(back)[-1] == ends(two_)[-1] == ("n", "stop")
        assert it.owner in (it.b, it.c)


async def test_behind_a_client_may_be_ahead_of_the_store(autojump_clock: MockClock) -> None:
    async with cluster("a", durability="behind") as it:
        client = await it.a.connect()
        it.server.latency = 1.0
        client.say(message_id="m", content="m", session_id="s")
        await trio.sleep(0.1)
        assert client.types()[1:3] == ["user_message", "stream_start"]
        assert not any(isinstance(event, UserMessage) for event in it.events())
        await trio.sleep(3)
        assert any(isinstance(event, UserMessage) for event in it.events())


async def test_a_drain_sends_clients_away_in_batches_and_those_that_wait_for_theirs_are_served(
    autojump_clock: MockClock,
) -> None:
    async with cluster("ab") as it, trio.open_nursery() as nursery:
        clients = [await it.a.connect(f"s{n}") for n in range(2 * DRAIN_BATCH + 50)]
        last = clients[-1]
        nursery.start_soon(it.a.hub.drain, 20)
        gone = []
        for _ in range(4):
            await settle()
            gone.append(sum(client.closed == (1012, "restart") for client in clients))
            if len(gone) == 1:
                await it.ask(last, "m", session_id=f"s{len(clients) - 1}")
            await trio.sleep(DRAIN_PAUSE)
        assert gone[0] == DRAIN_BATCH
        assert gone == sorted(gone)
        assert gone[-1] == len(clients)
        assert not ends(last), "it is neither refused nor lost"
        times = [client.told("goaway")[0]["retry_after_ms"] for client in clients]
        assert min(times) >= MIN_RETURN_MS
        assert len(set(times)) > 100
