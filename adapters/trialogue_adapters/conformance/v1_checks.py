"""What the subprotocol `trialogue.v1` adds, as checks: positions, resuming, other devices, receipts, leaving."""

from __future__ import annotations

import trio

from trialogue_adapters.conformance.link import BACK_SOON, Frame, Link, Target
from trialogue_adapters.conformance.report import demand, demand_equal
from trialogue_adapters.conformance.server_checks import (
    SHORT,
    Check,
    answer,
    begun,
    check,
    check_turn,
    kinds,
    of,
    said,
)
from trialogue_adapters.conformance.service import text

CHECKS: list[Check] = []


def position(link: Link) -> str:
    return f"{link.position[0]}:{link.position[1]}"


def entries(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if "offset" in frame]


@check(CHECKS, "the first frame is session_ready, of a new session: nothing runs, one connection")
async def session_ready(target: Target) -> None:
    async with target.open() as link:
        ready = link.ready
    told = (ready["session_id"], ready["resumed"], ready["running"], ready["queued"], ready["connections"])
    demand_equal(told, (link.session_id, "new", None, [], 1), "what it tells")


@check(CHECKS, "a turn is told with its question first, phases, and a receipt that is true")
async def a_turn_s_life(target: Target) -> None:
    async with target.open() as link:
        message_id = await link.ask(SHORT)
        frames = await link.until("stream_receipt", message_id)
    check_turn(frames, message_id)
    demand_equal(frames[0]["type"], "user_message", "the first entry")
    demand_equal((frames[0]["content"], frames[0]["on_busy"]), (SHORT, "interrupt"), "the question")
    phases = [frame["phase"] for frame in frames if frame["type"] == "stream_status"]
    demand_equal(phases, ["retrieving", "generating"], "the phases")
    receipt = frames[-1]
    counted = (receipt["generated"], receipt["sent"], receipt["acked"], receipt["chars"], receipt["upstream"])
    demand_equal(counted, (3, 3, None, len(text(3)), "closed"), "the receipt")
    demand_equal(len(entries(frames)), len(frames), "the entries with an offset")


@check(CHECKS, "an ack is in the receipt, as a count of tokens")
async def acks(target: Target) -> None:
    async with target.open() as link:
        message_id = await link.ask("tokens=10 pace=0.02")
        await link.until("stream_token", message_id)
        await link.send(type="ack", message_id=message_id, index=0)
        receipt = (await link.until("stream_receipt", message_id))[-1]
    demand_equal(receipt["acked"], 1, "`acked`")


@check(CHECKS, "who was dropped in mid-answer resumes `replayed`, without a hole and without a repetition")
async def resume(target: Target) -> None:
    content = "tokens=60 pace=0.02"
    async with target.open() as watching:
        message_id = await watching.ask(content)
        frames: list[Frame] = []
        after: dict[str, str] = {}
        link = watching.session_id
        for _ in range(3):
            async with target.open(link, query=after) as dropped:
                demand(not after or dropped.ready["resumed"] == "replayed", f"resumed: {dropped.ready['resumed']!r}")
                frames += await dropped.until("stream_token", message_id)
                after = {"after": position(dropped)}
        async with target.open(link, query=after) as last:
            frames += await last.turn(message_id)
        whole = await watching.turn(message_id)
    demand_equal(
        entries(frames), entries(whole)[-len(entries(frames)) :], "the entries, beside those of one who stayed"
    )
    demand_equal(said(check_turn(frames, message_id)), text(60), "the answer")


@check(CHECKS, "after an answer, its first position still replays it as it was")
async def replay(target: Target) -> None:
    async with target.open() as link:
        before = position(link)
        message_id = await link.ask(SHORT)
        frames = await link.until("stream_receipt", message_id)
        async with target.open(link.session_id, query={"after": before}) as later:
            demand_equal(later.ready["resumed"], "replayed", "`resumed`")
            demand_equal(later.ready["position"], before, "`position`")
            demand_equal(entries(await later.until("stream_receipt", message_id)), entries(frames), "the replay")


@check(CHECKS, "a position in an epoch that never was is a `gap`, and the running turn comes from its start")
async def a_gap(target: Target) -> None:
    async with target.open() as link:
        message_id = await begun(link, "tokens=40 pace=0.02")
        async with target.open(link.session_id, query={"after": "1:5"}) as lost:
            demand_equal((lost.ready["resumed"], lost.ready["running"]), ("gap", message_id), "session_ready")
            demand_equal(said(check_turn(await lost.turn(message_id), message_id)), text(40), "the answer")


@check(CHECKS, "who comes in mid-answer is `attached`, and told the turn from its start, with its question")
async def attach(target: Target) -> None:
    async with target.open() as link:
        message_id = await begun(link, "tokens=40 pace=0.02")
        async with target.open(link.session_id) as other:
            demand_equal(other.ready["resumed"], "attached", "`resumed`")
            frames = await other.turn(message_id)
    demand("user_message" in kinds(of(frames, message_id)), "the question was not told")
    demand_equal(said(check_turn(frames, message_id)), text(40), "the answer")


@check(CHECKS, "two devices are told the same entries at the same positions, and of each other")
async def two_devices(target: Target) -> None:
    async with target.open() as one, target.open(one.session_id) as two:
        demand_equal(two.ready["connections"], 2, "`connections`")
        demand_equal((await one.until("presence"))[-1]["connections"], 2, "the first one's presence")
        await one.send(type="typing", active=True)
        demand_equal((await two.until("typing"))[-1], {"type": "typing", "active": True}, "what the second is told")
        message_id = await one.ask(SHORT)
        told = [entries(await link.until("stream_receipt", message_id)) for link in (one, two)]
        demand("typing" not in kinds(await one.until_pong()), "who types is told so")
    demand_equal(told[1], told[0], "the second one's entries")
    check_turn(told[0], message_id)


@check(CHECKS, "cancel_result comes after the end: cancelled, already_ended, unknown")
async def cancel_results(target: Target) -> None:
    async with target.open() as link:
        message_id = await begun(link)
        for wanted, asked in (("cancelled", message_id), ("already_ended", message_id), ("unknown", "never-heard-of")):
            await link.send(type="cancel", message_id=asked)
            frames = await link.until("cancel_result", asked)
            demand_equal(frames[-1]["outcome"], wanted, "the outcome")
            ended = any(frame["type"] == "stream_end" for frame in frames)
            demand(ended or wanted != "cancelled", "the result came before the end")


@check(CHECKS, "a repeated id is told as a `duplicate`")
async def duplicates(target: Target) -> None:
    async with target.open() as link:
        message_id = (await answer(link))[0]["message_id"]
        await link.ask(SHORT, message_id)
        statuses = [frame for frame in await link.until_pong() if frame["type"] == "stream_status"]
    demand_equal([(frame["phase"], "offset" in frame) for frame in statuses], [("duplicate", False)], "the status")


@check(CHECKS, "queued turns are told with their place, and are in the session_ready of who comes then")
async def places(target: Target) -> None:
    async with target.open() as link:
        running = await begun(link)
        queued = [await link.ask(SHORT, on_busy="enqueue") for _ in range(2)]
        frames = await link.until("stream_status", queued[-1])
        told = [(frame["message_id"], frame.get("place")) for frame in frames if frame.get("phase") == "queued"]
        demand_equal(told, [(queued[0], 1), (queued[1], 2)], "the places")
        async with target.open(link.session_id) as other:
            demand_equal((other.ready["running"], other.ready["queued"]), (running, queued), "session_ready")


@check(CHECKS, "the last one to leave with 1000 stops the turn; with another code, or none, it goes on")
async def leaving(target: Target) -> None:
    for code, ending in ((1000, "cancelled"), (BACK_SOON, "stop"), (None, "stop")):
        async with target.open() as link:
            before = position(link)
            message_id = await begun(link, "tokens=20 pace=0.05")
            if code is not None:
                await link.leave(code)
        await trio.sleep(0.1)
        async with target.open(link.session_id, query={"after": before}) as later:
            check_turn(await later.turn(message_id), message_id, ending)


@check(CHECKS, "the pipeline's failure is told with its offset, and a refusal without one")
async def errors_have_their_place(target: Target) -> None:
    async with target.open() as link:
        message_id = await link.ask("fail=1")
        demand("offset" in (await link.turn(message_id))[-1], "the turn's end has no offset")
        await link.send(type="message", message_id="w", content=" ", session_id=link.session_id)
        demand("offset" not in (await link.turn("w"))[-1], "the refusal has an offset")
