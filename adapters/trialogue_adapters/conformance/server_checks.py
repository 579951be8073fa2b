"""What a server must do, as checks that anybody's server can be asked: five events, policies, cancelling, mistakes.

Each check opens connections of its own, on a session of its own, so that one failure is one failure. `v1_checks` has
the rest: what the subprotocol adds. Behind the server must be a service that does what `service` describes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio
from trio_websocket import ConnectionRejected

from trialogue_adapters.conformance.link import ENDS, Frame, Link, Target
from trialogue_adapters.conformance.report import Failed, demand, demand_equal
from trialogue_adapters.conformance.service import text
from trialogue_adapters.servers.guard import first_cause

Run = Callable[[Target], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is demanded. `name` is what `--only` takes."""

    name: str
    demands: str
    run: Run


def check(checks: list[Check], demands: str) -> Callable[[Run], Run]:
    """Put a function among the checks, under its own name."""

    def add(run: Run) -> Run:
        checks.append(Check(run.__name__.replace("_", "-"), demands, run))
        return run

    return add


CHECKS: list[Check] = []
LONG = "tokens=2000 pace=0.02"
SHORT = "tokens=3 pace=0.01"


# ── Reading a turn ───────────────────────────────────────────────────────────────────────────────────────────────


def of(frames: Sequence[Frame], message_id: str) -> list[Frame]:
    return [frame for frame in frames if frame.get("message_id") == message_id]


def kinds(frames: Sequence[Frame]) -> list[str]:
    return [frame["type"] for frame in frames]


def said(frames: Sequence[Frame]) -> str:
    return "".join(frame["token"] for frame in frames if frame["type"] == "stream_token")


def check_turn(frames: Sequence[Frame], message_id: str, ending: str = "stop") -> list[Frame]:
    """Is this the whole of a turn that was begun: in order, without a hole, with one end? Returns its five events."""
    told = [frame for frame in of(frames, message_id) if frame["type"].startswith("stream_")]
    events = [frame for frame in told if frame["type"] not in ("stream_status", "stream_receipt")]
    names = kinds(events)
    demand(names[:1] == ["stream_start"], f"{message_id} begins with {names[:1]}")
    demand_equal(names.count("stream_start"), 1, "its stream_start frames")
    indexes = [event["index"] for event in events if event["type"] == "stream_token"]
    demand_equal(indexes, list(range(len(indexes))), "the indexes of its tokens")
    demand_equal([name for name in names if name in ENDS], names[-1:], "its ends")
    demand(names.count("stream_sources") <= 1, "sources more than once")
    end = events[-1]
    if end["type"] == "stream_end":
        demand_equal(end["finish_reason"], ending, "its finish_reason")
        demand_equal(end["total_tokens"], len(indexes), "its total_tokens")
        demand(ending != "stop" or "stream_sources" in names, "no sources before a `stop`")
    else:
        demand_equal(end["error_code"], ending, "its error_code")
    return events


async def answer(link: Link, content: str = SHORT) -> list[Frame]:
    """Ask something, and get a whole answer."""
    message_id = await link.ask(content)
    return check_turn(await link.turn(message_id), message_id)


async def begun(link: Link, content: str = LONG, on_busy: str | None = None) -> str:
    """Ask something, and wait for its first token. Returns its id."""
    message_id = await link.ask(content, on_busy=on_busy)
    await link.until("stream_token", message_id)
    return message_id


# ── The five events ──────────────────────────────────────────────────────────────────────────────────────────────


@check(CHECKS, "stream_start, tokens 0, 1, 2…, one stream_sources, one stream_end; compact, keys in order")
async def five_events(target: Target) -> None:
    async with target.open(v1=False) as link:
        events = await answer(link, "tokens=20")
    demand_equal(said(events), text(20), "the answer")
    demand(events[0]["timestamp"].endswith("Z"), f"the timestamp {events[0]['timestamp']!r} is not UTC with Z")
    demand_equal(events[0]["session_id"], link.session_id, "the session_id of stream_start")


@check(CHECKS, "a client without the subprotocol is sent nothing unasked, also while another one comes and goes")
async def nothing_unasked(target: Target) -> None:
    async with target.open(v1=False) as link:
        async with target.open(link.session_id):
            demand_equal(await link.until_pong(), [], "frames before any question")
        await answer(link)
        demand_equal(await link.until_pong(), [], "frames after the answer")


@check(CHECKS, "a ping is answered in mid-answer, with its id")
async def a_pong_in_mid_answer(target: Target) -> None:
    async with target.open(v1=False) as link:
        await begun(link)
        demand("stream_end" not in kinds(await link.until_pong()), "the pong came after the answer")


@check(CHECKS, "an answer without tokens is one: start, sources, end")
async def an_empty_answer(target: Target) -> None:
    async with target.open(v1=False) as link:
        events = await answer(link, "tokens=0")
    demand_equal(kinds(events), ["stream_start", "stream_sources", "stream_end"], "the events")


@check(CHECKS, "a pipeline that raises ends its turn with RAG-001, once, and the session goes on")
async def a_failing_pipeline(target: Target) -> None:
    async with target.open(v1=False) as link:
        message_id = await link.ask("tokens=3 fail=1")
        check_turn(await link.turn(message_id), message_id, "RAG-001")
        await answer(link)


@check(CHECKS, "texts of errors are in the language that was asked for")
async def two_languages(target: Target) -> None:
    texts = {}
    for lang in ("ko", "en"):
        async with target.open(v1=False, query={"lang": lang}) as link:
            message_id = await link.ask("fail=1")
            texts[lang] = (await link.turn(message_id))[-1]["message"]
    demand(texts["ko"] != texts["en"], "both languages have the same text")
    demand(any("가" <= letter <= "힣" for letter in texts["ko"]), f"this is not Korean: {texts['ko']!r}")
    demand(texts["en"].isascii(), f"this is not English: {texts['en']!r}")


# ── A message while something is unfinished ──────────────────────────────────────────────────────────────────────


@check(CHECKS, "the old turn ends `interrupted` before the new one starts, and nothing of it comes after")
async def interrupt(target: Target) -> None:
    async with target.open(v1=False) as link:
        old = await link.ask(LONG)
        frames = await link.until("stream_token", old)
        new = await link.ask(SHORT, on_busy="interrupt")
        frames += await link.turn(new) + await link.until_pong()
    check_turn(frames, old, "interrupted")
    check_turn(frames, new)
    order = [frame["message_id"] for frame in frames]
    demand(order == sorted(order, key=[old, new].index), "the two turns are mixed")


@check(CHECKS, "the running turn goes on to its end, then the queued ones run in order")
async def enqueue(target: Target) -> None:
    async with target.open(v1=False) as link:
        ids = [await link.ask("tokens=20 pace=0.01", on_busy="enqueue") for _ in range(3)]
        frames = await link.turn(ids[-1])
    for message_id in ids:
        demand_equal(said(check_turn(frames, message_id)), text(20), "the answer")
    order = [frame["message_id"] for frame in frames]
    demand(order == sorted(order, key=ids.index), "the turns are mixed or out of order")


@check(CHECKS, "WS-003 while a turn runs, which goes on; the same id may be tried again")
async def reject(target: Target) -> None:
    async with target.open(v1=False) as link:
        running = await begun(link)
        refused = await link.ask(SHORT, on_busy="reject")
        frames = of(await link.turn(refused), refused)
        demand_equal([frame.get("error_code") for frame in frames], ["WS-003"], "what the refused message got")
        await link.until("stream_token", running)
        await link.send(type="cancel")
        await link.turn(running)
        await link.ask(SHORT, refused, on_busy="reject")
        check_turn(await link.turn(refused), refused)


@check(CHECKS, "the running turn ends `retracted`, and the new one runs")
async def rollback(target: Target) -> None:
    async with target.open(v1=False) as link:
        old = await begun(link)
        new = await link.ask(SHORT, on_busy="rollback")
        frames = await link.turn(new)
    demand_equal(of(frames, old)[-1].get("finish_reason"), "retracted", "the old turn's finish_reason")
    check_turn(frames, new)


# ── Cancelling ───────────────────────────────────────────────────────────────────────────────────────────────────


@check(CHECKS, "a cancelled turn ends `cancelled`, nothing of it comes after its end, and the session goes on")
async def cancel(target: Target) -> None:
    async with target.open(v1=False) as link:
        message_id = await link.ask(LONG)
        frames = await link.until("stream_token", message_id)
        await link.send(type="cancel", message_id=message_id)
        frames += await link.turn(message_id)
        await trio.sleep(0.2)
        demand_equal(await link.until_pong(), [], "frames after its end")
        check_turn(frames, message_id, "cancelled")
        await answer(link)


@check(CHECKS, "a queued turn that is cancelled gets its one end: no start, no tokens; the running one goes on")
async def cancel_queued(target: Target) -> None:
    async with target.open(v1=False) as link:
        running = await begun(link)
        queued = await link.ask(SHORT, on_busy="enqueue")
        await link.send(type="cancel", message_id=queued)
        (end,) = of(await link.turn(queued), queued)
        demand_equal((end.get("finish_reason"), end.get("total_tokens")), ("cancelled", 0), "its end")
        await link.until("stream_token", running)


@check(CHECKS, "a cancel without an id ends all of the session's turns, running and queued")
async def cancel_all(target: Target) -> None:
    async with target.open(v1=False) as link:
        ids = [await begun(link), await link.ask(SHORT, on_busy="enqueue")]
        await link.send(type="cancel")
        frames = await link.until_pong()
        ends = {frame["message_id"]: frame["finish_reason"] for frame in frames if frame["type"] == "stream_end"}
    demand_equal(ends, dict.fromkeys(ids, "cancelled"), "the ends")


# ── The same message again ───────────────────────────────────────────────────────────────────────────────────────


@check(CHECKS, "the same id again, during the answer and after it, generates nothing")
async def the_same_id_again(target: Target) -> None:
    async with target.open(v1=False) as link:
        content = "tokens=20 pace=0.02"
        message_id = await link.ask(content)
        frames = await link.until("stream_token", message_id)
        await link.ask(content, message_id)
        frames += await link.turn(message_id)
        await link.ask(content, message_id)
        frames += await link.until_pong()
    demand_equal(said(check_turn(frames, message_id)), text(20), "the answer")


@check(CHECKS, "the same id with other content is WS-001")
async def the_same_id_for_something_else(target: Target) -> None:
    async with target.open(v1=False) as link:
        message_id = await link.ask(SHORT)
        await link.turn(message_id)
        await link.ask("tokens=4", message_id)
        demand_equal((await link.turn(message_id))[-1].get("error_code"), "WS-001", "the error_code")


@check(CHECKS, "who comes later and repeats an id is told that turn's events, as they were")
async def the_same_id_from_a_later_connection(target: Target) -> None:
    async with target.open(v1=False) as link:
        first = await answer(link)
        async with target.open(link.session_id, v1=False) as later:
            await later.ask(SHORT, first[0]["message_id"])
            again = await later.turn(first[0]["message_id"])
    demand_equal(again, first, "what was told again")


# ── Mistakes ─────────────────────────────────────────────────────────────────────────────────────────────────────

WRONG: Sequence[tuple[str, Frame | str]] = (
    ("no JSON", "{"),
    ("no object", "[1]"),
    ("an unknown type", {"type": "shout", "message_id": "w"}),
    ("no content", {"type": "message", "message_id": "w"}),
    ("blank content", {"type": "message", "message_id": "w", "content": " \n"}),
    ("10,001 characters", {"type": "message", "message_id": "w", "content": "x" * 10_001}),
    ("content that is no text", {"type": "message", "message_id": "w", "content": 5}),
    ("an id of 129 characters", {"type": "message", "message_id": "w" * 129, "content": SHORT}),
    ("an unknown policy", {"type": "message", "message_id": "w", "content": SHORT, "on_busy": "shout"}),
    ("an ack without an index", {"type": "ack", "message_id": "w"}),
)


@check(CHECKS, "a frame that is not valid is WS-001, under its id if that can be read, and the connection goes on")
async def invalid_frames(target: Target) -> None:
    async with target.open(v1=False) as link:
        for what, wrong in WRONG:
            if isinstance(wrong, str):
                await link.send_raw(wrong)
            else:
                await link.send(**({"session_id": link.session_id} | wrong))
            frame = await link.next()
            demand_equal(frame.get("error_code"), "WS-001", f"the error_code for {what}")
            known = isinstance(wrong, dict) and wrong["message_id"] == "w"
            demand_equal(frame["message_id"], "w" if known else "unknown", f"the message_id for {what}")
        await answer(link)


@check(CHECKS, "another session's id in a frame is WS-004")
async def another_session_s_id(target: Target) -> None:
    async with target.open(v1=False) as link:
        await link.send(type="message", message_id="m", content=SHORT, session_id="somebody-else-s")
        demand_equal((await link.next()).get("error_code"), "WS-004", "the error_code")
        await answer(link)


@check(CHECKS, "a binary frame closes the connection with 1003")
async def a_binary_frame(target: Target) -> None:
    async with target.open(v1=False) as link:
        await link.send_raw(b"{}")
        demand_equal(await link.closed(), 1003, "the close code")


@check(CHECKS, "a frame of more than 64 KiB closes the connection with 1009")
async def a_frame_that_is_too_big(target: Target) -> None:
    async with target.open(v1=False) as link:
        await link.send_raw("x" * (64 * 1024 + 1))
        demand_equal(await link.closed(), 1009, "the close code")


@check(CHECKS, "a session_id that is missing, doubled or not well formed is HTTP 400; so is another broken field")
async def handshakes(target: Target) -> None:
    for query in ("", "session_id=", "session_id=a&session_id=b", "session_id=a%20b", f"session_id={'x' * 129}"):
        await _refused(target, query)
    for more in ("after=yesterday", "lang=xx"):
        await _refused(target, f"session_id=ok&{more}")


async def _refused(target: Target, query: str) -> None:
    try:
        async with target.socket(query, v1=True):
            pass
    except Exception as error:
        cause = first_cause(error)
        if not isinstance(cause, ConnectionRejected):
            raise
        demand_equal(cause.status_code, 400, f"the HTTP status for ?{query[:60]}")
    else:
        raise Failed(f"?{query[:60]} was let in")
