"""`session.py` with `generation.py`: turns as clients see them, on a virtual clock and without sockets."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from support.memory import Attentive, Scripted, bench, settle
from trialogue import Done, Emit, Ending, Failure, Fault, Metadata, Position, Progress, Turn, TurnReceipt
from trialogue.core.machine import Cancel, Closed
from trialogue.generation import LOOKS


async def test_a_turn_tells_its_events_in_order(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        assert client.types() == ["stream_start"]
        it.service.emit("a", Metadata([{"document": "d", "relevance": 0.5, "content": "c"}]), "He", "", "llo")
        it.service.done("a")
        await settle()
        assert client.types() == ["stream_start", "stream_sources", "stream_token", "stream_end"]
        assert [(t["token"], t["index"]) for t in client.told("stream_token")] == [("He", 0), ("llo", 1)]
        (end,) = client.told("stream_end")
        assert (end["finish_reason"], end["total_tokens"]) == ("stop", 2)
        (sources,) = client.told("stream_sources")
        assert sources["sources"][0]["title"] == "d"


async def test_a_batch_leaves_in_one_write(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        before = client.writes
        it.service.emit("a", *["x"] * 50)
        assert client.writes == before + 1


async def test_v1_tells_the_whole_story(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.service.emit("a", "x", Done(meta={"usage": 1}))
        it.service.finish("a")
        await settle()
        assert client.types() == [
            "session_ready",
            "user_message",
            "stream_start",
            "stream_status",
            "stream_status",
            "stream_token",
            "stream_sources",
            "stream_end",
            "stream_receipt",
        ]
        offsets = [frame["offset"] for frame in client.frames[1:]]
        assert offsets == list(range(1, len(offsets) + 1))
        assert [s["phase"] for s in client.told("stream_status")] == ["retrieving", "generating"]
        assert client.told("stream_end")[0]["meta"] == {"usage": 1}
        assert client.told("stream_receipt")[0] | {"offset": 0} == {
            "type": "stream_receipt",
            "message_id": "a",
            "generated": 1,
            "sent": 1,
            "acked": None,
            "chars": 1,
            "upstream": "closed",
            "offset": 0,
        }


async def test_ending_without_done_counts_as_done(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.finish("a")
        await settle()
        assert client.types() == ["stream_start", "stream_sources", "stream_end"]


async def test_an_interrupt_ends_the_old_and_starts_the_new_before_anything_else(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False)) as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.emit("a", "1")
        await it.ask(client, "b")
        it.service.emit("a", "late")
        assert client.types() == ["stream_start", "stream_token", "stream_end", "stream_start"]
        assert client.told("stream_end")[0]["finish_reason"] == "interrupted"
        it.service.finish("a")
        await settle()


async def test_the_fence_keeps_every_late_token_out(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False)) as it:
        client = await it.connect()
        await it.ask(client, "a")
        client.say(type="cancel", message_id="a")
        await settle()
        length = len(client.frames)
        it.service.emit("a", "late", Metadata([{"title": "late"}]), Done())
        await settle()
        assert len(client.frames) == length
        it.service.finish("a")
        await settle()
        assert client.types("a")[-2:] == ["cancel_result", "stream_receipt"]


async def test_the_join_keeps_one_generation_per_session(autojump_clock: MockClock) -> None:
    async with bench(Scripted(closes_after=0.2)) as it:
        client = await it.connect()
        for name in "abcde":
            await it.ask(client, name)
        await trio.sleep(1)
        assert it.service.most_open == 1
        assert it.service.closed == ["a"]  # b, c and d were interrupted while they waited
        assert list(it.service.turns) == ["a", "e"]
        phases = [s["phase"] for s in client.told("stream_status") if s["message_id"] == "e"]
        assert phases == ["waiting", "retrieving"]


async def test_an_upstream_that_refuses_is_abandoned_after_the_grace(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False)) as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b")
        assert list(it.service.turns) == ["a"]
        await trio.sleep(0.24)
        assert list(it.service.turns) == ["a"]
        await trio.sleep(0.02)
        assert list(it.service.turns) == ["a", "b"]
        assert client.told("stream_receipt")[0]["upstream"] == "abandoned"
        assert (it.hub.census.open, it.hub.census.abandoned) == (2, 1)
        it.service.emit("a", "much too late")
        assert not client.told("stream_token")
        it.service.finish("a")
        it.service.finish("b")
        await settle()
        assert (it.hub.census.open, it.hub.census.abandoned) == (0, 0)


async def test_too_many_abandoned_upstreams_refuse_new_messages(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False), max_abandoned=2) as it:
        client = await it.connect(dialect="seed")
        for name in "abc":
            await it.ask(client, name)
            await trio.sleep(1)
        await it.ask(client, "d")
        assert client.frames[-1]["error_code"] == "WS-010"
        for name in "abc":
            it.service.finish(name)
        await settle()
        await it.ask(client, "d")
        assert client.frames[-1]["type"] == "stream_start"
        it.service.finish("d")
        await settle()


@pytest.mark.parametrize("when", ["retrieval", "tokens"])
async def test_a_cancel_is_obeyed_at_once(when: str, autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        if when == "tokens":
            it.service.emit("a", "x")
        client.say(type="cancel", message_id="a")
        await settle()
        assert client.told("stream_end")[0]["finish_reason"] == "cancelled"
        assert client.told("cancel_result") == [{"type": "cancel_result", "message_id": "a", "outcome": "cancelled"}]
        assert it.service.closed == ["a"]
        kinds = client.types("a")
        assert kinds.index("stream_end") < kinds.index("cancel_result")


async def test_a_queued_turn_that_is_cancelled_never_started(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="enqueue")
        client.say(type="cancel", message_id="b")
        await settle()
        assert client.types("b") == ["user_message", "stream_status", "stream_end", "cancel_result"]
        (end,) = client.told("stream_end")
        assert (end["total_tokens"], end["finish_reason"]) == (0, "cancelled")


async def test_the_queue_goes_on_by_itself(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="enqueue")
        await it.ask(client, "c", on_busy="enqueue")
        assert [s["place"] for s in client.told("stream_status") if s["phase"] == "queued"] == [1, 2]
        for name in "abc":
            it.service.done(name)
            await settle()
        assert [end["message_id"] for end in client.told("stream_end")] == ["a", "b", "c"]


async def test_rollback_retracts(autojump_clock: MockClock) -> None:
    async with bench(Attentive()) as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="rollback")
        assert client.told("stream_end")[0]["finish_reason"] == "retracted"
        assert it.service.heard[0][0].ending is Ending.RETRACTED


async def test_reject_refuses_and_disturbs_nothing(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="reject")
        assert client.frames[-1]["error_code"] == "WS-003"
        it.service.done("a")
        await settle()
        assert client.types("a")[-1] == "stream_end"


FAILURES: list[tuple[Any, str]] = [
    (Failure(Fault("GEN-042", message="no quota", solutions=("pay",))), "GEN-042"),
    (Failure(Fault("STREAM-001")), "STREAM-001"),
    (object(), "RAG-001"),
    (17, "RAG-001"),
]


@pytest.mark.parametrize(("told", "code"), FAILURES, ids=[str(code) + str(n) for n, (_, code) in enumerate(FAILURES)])
async def test_a_pipelines_failure_is_the_turns_one_end(told: Any, code: str, autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.emit("a", "x", told, "after")
        it.service.emit("a", "more")
        it.service.finish("a")
        await settle()
        assert client.types("a") == ["stream_start", "stream_token", "stream_error"]
        assert client.frames[-1]["error_code"] == code
        assert len(client.told("stream_token")) == 1
        await it.ask(client, "b")
        assert client.frames[-1]["type"] == "stream_start"


async def test_sources_that_cannot_be_told_fail_the_turn_only(autojump_clock: MockClock) -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.emit("a", Metadata([loop]))
        await settle()
        assert client.frames[-1]["error_code"] == "RAG-001"


async def test_a_service_that_raises_fails_its_turn(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.fail("a", ValueError("boom"))
        await settle()
        assert client.types() == ["stream_start", "stream_error"]
        assert client.frames[-1]["error_code"] == "RAG-001"
        assert "boom" not in client.frames[-1]["message"]


@pytest.mark.parametrize(
    ("tokens", "code", "after"),
    [(0, "RAG-002", 30.0), (1, "RAG-003", 20.0)],
)
async def test_a_pipeline_that_is_silent_for_too_long(
    tokens: int, code: str, after: float, autojump_clock: MockClock
) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.emit("a", *["x"] * tokens)
        await trio.sleep(after - 0.1)
        assert not client.told("stream_error")
        await trio.sleep(after / LOOKS + 0.2)
        assert client.told("stream_error")[0]["error_code"] == code
        assert it.service.closed == ["a"]


async def test_patience_between_tokens_does_not_depend_on_other_timeouts(autojump_clock: MockClock) -> None:
    async with bench(first_token_timeout=7, token_timeout=20) as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        await trio.sleep(4.9)
        it.service.emit("a", "x")
        await trio.sleep(19.9)
        assert not client.told("stream_error")
        await trio.sleep(20 / LOOKS + 0.2)
        assert client.told("stream_error")[0]["error_code"] == "RAG-003"


async def test_a_turn_that_takes_too_long_in_all(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        for _ in range(31):
            it.service.emit("a", "x")
            await trio.sleep(10)
        assert client.told("stream_error")[0]["error_code"] == "RAG-004"


async def test_an_answer_ends_at_its_size_limit(autojump_clock: MockClock) -> None:
    async with bench(max_answer_bytes=10) as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        it.service.emit("a", "한글", "abcd", "e", "f")
        await settle()
        assert [t["token"] for t in client.told("stream_token")] == ["한글", "abcd"]
        assert client.told("stream_end")[0]["finish_reason"] == "length"
        assert it.service.closed == ["a"]


async def test_a_service_may_tidy_up_after_its_done_but_not_for_ever(autojump_clock: MockClock) -> None:
    async with bench(Scripted(obeys=False)) as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.service.emit("a", "x", Done())
        await settle()
        assert client.told("stream_end")
        await it.ask(client, "b")
        await trio.sleep(4.9)
        assert list(it.service.turns) == ["a"]
        await trio.sleep(0.5)
        assert list(it.service.turns) == ["a", "b"]
        it.service.finish("a")
        it.service.finish("b")
        await settle()


async def test_the_service_hears_what_the_user_saw(autojump_clock: MockClock) -> None:
    async with bench(Attentive()) as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.service.emit("a", "seen ")
        client.say(type="ack", message_id="a", index=0)
        await settle()
        client.full = True
        it.service.emit("a", "handed ")
        it.service.emit("a", "never")
        client.say(type="cancel")
        await settle()
        await trio.sleep(0.1)
        receipt, text = it.service.heard[0]
        assert text == "seen handed "
        assert (receipt.generated, receipt.sent, receipt.acked) == (3, 2, 1)
        assert (receipt.session_id, receipt.message_id, receipt.ending) == ("s", "a", Ending.CANCELLED)
        client.make_room()


async def test_the_hook_is_awaited_before_the_next_generation_with_a_deadline(autojump_clock: MockClock) -> None:
    async with bench(Attentive(takes=2.0)) as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b")
        await trio.sleep(1.9)
        assert list(it.service.turns) == ["a"]
        await trio.sleep(0.2)
        assert list(it.service.turns) == ["a", "b"]
        it.service.takes = 60.0
        await it.ask(client, "c")
        await trio.sleep(5.1)
        assert list(it.service.turns) == ["a", "b", "c"]


async def test_a_hook_that_raises_harms_nobody(autojump_clock: MockClock) -> None:
    async with bench(Attentive()) as it:
        it.service.raises = ValueError("boom")
        client = await it.connect()
        await it.ask(client, "a")
        it.service.done("a")
        await settle()
        assert client.types("a")[-1] == "stream_receipt"


async def test_an_ack_cannot_say_more_than_was_made(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.service.emit("a", "x", "y")
        client.say(type="ack", message_id="a", index=900)
        client.say(type="ack", message_id="stranger", index=1)
        await settle()
        it.service.done("a")
        await settle()
        assert client.told("stream_receipt")[0]["acked"] == 2


async def test_a_confirmed_session_id_is_remembered_and_accepted(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.service.emit("a", Metadata(session_id="real"))
        it.service.done("a")
        await settle()
        assert {"session_id": "real"}.items() <= client.told("stream_status")[1].items()
        await it.ask(client, "b", session_id="real")
        assert it.service.sessions == ["s", "real"]
        await it.ask(client, "c", session_id="other")
        assert client.frames[-1]["error_code"] == "WS-004"


async def test_a_pipelines_own_events_are_passed_on_to_v1(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.service.emit("a", Progress({"event": "rerank", "n": 3}))
        await settle()
        assert client.frames[-1]["phase"] == "pipeline"
        assert client.frames[-1]["data"] == {"event": "rerank", "n": 3}


# ── The same id again ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_id_with_other_content_is_refused(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(dialect="seed")
        await it.ask(client, "a")
        await it.ask(client, "a", content="other")
        assert client.frames[-1]["error_code"] == "WS-001"
        assert "message_id" in client.frames[-1]["message"]


# ── Devices, leaving, coming back ────────────────────────────────────────────────────────────────────────────────


async def test_two_connections_see_the_same_entries_and_either_may_cancel(autojump_clock: MockClock) -> None:
    async with bench() as it:
        one, two = await it.connect(), await it.connect()
        await it.ask(one, "a")
        it.service.emit("a", "x", "y")
        two.say(type="cancel")
        await settle()
        entries = [[f for f in client.frames if "offset" in f] for client in (one, two)]
        assert entries[0] == entries[1]
        assert two.told("cancel_result")
        assert not one.told("cancel_result")
        assert one.told("presence") == [{"type": "presence", "connections": 2}]


async def test_a_second_device_gets_the_running_turn_from_its_start(autojump_clock: MockClock) -> None:
    async with bench() as it:
        one = await it.connect()
        await it.ask(one, "a")
        it.service.emit("a", "x")
        plain, modern = await it.connect(dialect="seed"), await it.connect()
        it.service.emit("a", "y")
        assert [t["index"] for t in plain.told("stream_token")] == [0, 1]
        assert plain.types() == ["stream_start", "stream_token"]
        ready = modern.frames[0]
        assert (ready["resumed"], ready["running"], ready["connections"]) == ("attached", "a", 3)
        assert modern.frames[1] == {"type": "user_message", "message_id": "a", "content": "a", "on_busy": "interrupt"}
        assert Position.parse(ready["position"]).offset == modern.told("stream_start")[0]["offset"] - 1


async def test_after_a_position_exactly_the_rest_is_sent(autojump_clock: MockClock) -> None:
    async with bench() as it:
        one = await it.connect()
        await it.ask(one, "a")
        it.service.emit("a", "x", "y")
        epoch = Position.parse(one.frames[0]["position"]).epoch
        for cut in range(1, it.hub.sessions["", "s"].log.end + 1):
            back = await it.connect(after=Position(epoch, cut))
            assert back.frames[0]["resumed"] == "replayed"
            assert [f for f in back.frames if "offset" in f] == [f for f in one.frames if f.get("offset", -1) > cut]


@pytest.mark.parametrize("after", [Position(1, 0), Position(2**60, 0)])
async def test_a_strange_position_is_a_gap(after: Position, autojump_clock: MockClock) -> None:
    async with bench() as it:
        one = await it.connect()
        await it.ask(one, "a")
        back = await it.connect(after=after)
        assert back.frames[0]["resumed"] == "gap"
        assert back.told("stream_start")[0]["message_id"] == "a"


async def test_a_receipt_counts_nothing_that_nobody_was_sent(autojump_clock: MockClock) -> None:
    async with bench(Attentive(closes_after=0.2)) as it:
        one = await it.connect()
        await it.ask(one, "a")
        it.service.emit("a", "1", "2")
        one.leave(1006)
        await settle()
        it.service.emit("a", "3", "4")
        it.hub.sessions["", "s"].tell(Cancel(None, None))
        await settle()
        two = await it.connect()  # "a" has ended and is not settled: it begins behind that
        await it.ask(two, "b")
        await trio.sleep(0.3)
        (receipt,) = two.told("stream_receipt")
        assert (receipt["message_id"], receipt["generated"], receipt["sent"]) == ("a", 4, 2)
        assert it.service.heard[0][1] == "12"


async def test_the_end_waits_in_the_log_for_who_was_away(autojump_clock: MockClock) -> None:
    async with bench() as it:
        one = await it.connect()
        await it.ask(one, "a")
        last = one.frames[-1]["offset"]
        one.leave(1006)
        await settle()
        it.service.emit("a", "x")
        it.service.done("a")
        await trio.sleep(100)
        back = await it.connect(after=Position(it.hub.sessions["", "s"].log.epoch, last))
        assert back.types("a")[-2:] == ["stream_end", "stream_receipt"]


async def test_a_late_fact_of_a_forgotten_generation_changes_nothing(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.hub.sessions["", "s"].tell(Closed("stranger", "closed"))
        await settle()
        assert client.types("a")[-1] == "stream_status"


async def test_reprs_say_where_things_stand(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        session = it.hub.sessions["", "s"]
        assert repr(session) == "<Session 's' 1 connections, running 'a', 0 queued>"
        assert repr(session.generations["a"]) == "<Generation 'a' open, 0 tokens>"
        assert repr(it.hub) == "<Hub open, 1 sessions, 1 connections>"


# ── What careful services and odd orders do ──────────────────────────────────────────────────────────────────────


async def test_a_cancelled_that_somebody_kept_and_raises_again_is_its_turns_failure(autojump_clock: MockClock) -> None:
    class Keeping(Scripted):
        kept: BaseException | None = None

        async def run(self, turn: Turn, session_id: str, emit: Emit) -> None:
            if self.kept:
                raise self.kept
            try:
                await super().run(turn, session_id, emit)
            except trio.Cancelled as cancelled:
                self.kept = cancelled
                raise

    async with bench(Keeping()) as it:
        client, bystander = await it.connect(), await it.connect("t")
        await it.ask(client, "a")
        client.say(type="cancel")
        await settle()
        await it.ask(client, "b")
        assert client.told("stream_error")[0]["error_code"] == "RAG-001"
        bystander.say(type="ping")
        await settle()
        assert bystander.told("pong")


async def test_a_shielded_hook_does_not_hold_the_slot(autojump_clock: MockClock) -> None:
    class Careful(Attentive):
        async def ended(self, receipt: TurnReceipt, text: str) -> None:
            with trio.CancelScope(shield=True):
                await super().ended(receipt, text)

    async with bench(Careful(takes=60)) as it:
        client = await it.connect()
        await it.ask(client, "a")
        it.service.done("a")
        await it.ask(client, "b")
        await trio.sleep(5.1)
        assert list(it.service.turns) == ["a", "b"]


async def test_a_queued_question_comes_once() -> None:
    async with bench() as it:
        first = await it.connect()
        await it.ask(first, "a")
        await it.ask(first, "q", on_busy="enqueue")
        late = await it.connect()
        assert sorted(frame["message_id"] for frame in late.told("user_message")) == ["a", "q"]


async def test_every_id_that_is_remembered_is_answered() -> None:
    async with bench(remembered_ids=4) as it:
        first = await it.connect()
        for n in range(200):
            await it.ask(first, f"m{n}")
        late = await it.connect(dialect="seed")
        it.service.done("m199")
        await settle()
        for name in list(it.hub.sessions["", "s"].state.ledger)[:-1]:
            before = len(late.frames)
            await it.ask(late, name)
            assert len(late.frames) > before
