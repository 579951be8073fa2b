"""What a client must survive: scenes that are played to it, and what it says that it has seen of them.

The client says `start`. Each answer is a scene; when it has ended, the next message tells, as JSON, what the client's
user has seen: `{"text": …, "ending": …}`, the ending being a finish_reason or an error_code. So nothing but the wire is
needed, and any client in any language can be asked, with a loop of five lines around it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from trialogue_adapters.conformance.report import Failed, Finding
from trialogue_adapters.conformance.stage import Stage

Seen = tuple[str, str]
"""The text and the ending that the client's user must have seen."""
Play = Callable[[Stage, str], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that happens to a client. `play` is given the stage and the message id that is to be answered."""

    name: str
    demands: str
    play: Play


SCENES: list[Scene] = []
STAYS_AWAY_SECONDS = 2.0
"""Longer than any client waits before its first try to come back."""
FINAL = 1008
GOAWAY_MS = 600
FIRST_VISIT_SECONDS = 60.0
"""How long a client may take to be started."""
NOT_MEANT = {"token": "no", "index": 0, "text": "no"}
WORDS = tuple(f"w{n} " for n in range(12))


def scene(demands: str) -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        SCENES.append(Scene(play.__name__.replace("_", "-"), demands, play))
        return play

    return add


def text(*words: str) -> str:
    return "".join(words)


@scene("an answer is put together from its tokens, and its end is known")
async def an_answer(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    await stage.tokens(mid, "안녕", ' "', "\\", "\n", "😀", "</script>")
    await stage.end(mid, 6)
    await stage.entry("stream_receipt", mid, generated=6, sent=6, acked=None, chars=16, upstream="closed")
    return '안녕 "\\\n😀</script>', "stop"


@scene("frames, keys and values that it does not know change nothing")
async def the_unknown(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    for nonsense in ("null", "[]", "1", '"x"', "{", "{}", '{"type":5}', '{"type":"stream_token"}'):
        await stage.raw(nonsense)
    for name in ("notice", "__proto__", "constructor", "toString", "state", "error", "close", "*"):
        for kind in (name, "stream_token"):
            await stage.reply(kind, message_id=name, **NOT_MEANT)
    await stage.raw(f'{{"type":"stream_status","message_id":"{mid}","phase":"dreaming","__proto__":{{"text":"no"}}}}')
    await stage.reply("pong", id="never asked")
    await stage.tokens(mid, *WORDS)
    await stage.end(mid, len(WORDS))
    return text(*WORDS), "stop"


@scene("another device's turn is not mixed with its own")
async def another_s_turn(stage: Stage, mid: str) -> Seen:
    await stage.entry("user_message", mid, content=stage.asked[mid], on_busy="enqueue")
    await stage.entry("stream_status", mid, phase="queued", place=1)
    await stage.begin("theirs")
    await stage.tokens("theirs", "not ", "yours")
    await stage.end("theirs", 2, "interrupted")
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS[:2])
    await stage.reply("stream_error", message_id="unknown", error_code="WS-001", message="no", solutions=["none"])
    await stage.tokens(mid, *WORDS[2:], first=2)
    await stage.end(mid, len(WORDS))
    return text(*WORDS), "stop"


@scene("dropped three times in mid-answer, it comes back with its position each time, and the answer is whole")
async def drops(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    for first in (0, 3, 6):
        await stage.tokens(mid, *WORDS[first : first + 3], first=first)
        await stage.drop()
        await stage.welcome(running=mid)
    await stage.tokens(mid, *WORDS[9:], first=9)
    await stage.end(mid, len(WORDS))
    return text(*WORDS), "stop"


@scene("an answer that is told again from its start is not doubled")
async def told_again(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS[:5])
    await stage.drop()
    await stage.welcome("gap", running=mid)
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS)
    await stage.end(mid, len(WORDS))
    return text(*WORDS), "stop"


@scene("a restarted server, which knows nothing, is asked again under the same id; its answer replaces the half one")
async def a_restart(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    await stage.tokens(mid, "half ", "an ", "answer")
    await stage.drop()
    await stage.welcome(epoch=1000)
    await _same_again(stage, mid)
    await stage.begin(mid, answer=2)
    await stage.tokens(mid, *WORDS[:6])
    await stage.drop()
    await stage.welcome(running=mid)  # whose position must be one of the new epoch
    await stage.tokens(mid, *WORDS[6:], first=6)
    await stage.end(mid, len(WORDS))
    return text(*WORDS), "stop"


@scene("a message that was lost on its way is sent again, under the same id")
async def a_lost_message(stage: Stage, mid: str) -> Seen:
    await stage.drop()
    await stage.welcome()
    await _same_again(stage, mid)
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS)
    await stage.end(mid, len(WORDS))
    return text(*WORDS), "stop"


async def _same_again(stage: Stage, mid: str) -> None:
    again = await stage.message()
    if again.message_id != mid:
        raise Failed(f"the message was sent again under another id: {again.message_id!r}, not {mid!r}")


@scene("after a goaway it comes back when it was told to, not earlier, and goes on")
async def a_goaway(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS[:4])
    await stage.reply("goaway", reason="drain", retry_after_ms=GOAWAY_MS)
    await stage.close(1012)
    left = trio.current_time()
    await stage.welcome(running=mid)
    away = (stage.visit.came - left) * 1000
    if away < GOAWAY_MS * 0.9:
        stage.note(f"it came back after {away:.0f} ms, and was told {GOAWAY_MS}")
    await stage.tokens(mid, *WORDS[4:], first=4)
    await stage.end(mid, len(WORDS))
    return text(*WORDS), "stop"


@scene("closed for being too slow (4000), it comes back and goes on")
async def too_slow(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS[:4])
    await stage.close(4000)
    await stage.welcome(running=mid)
    await stage.tokens(mid, *WORDS[4:], first=4)
    await stage.end(mid, len(WORDS))
    return text(*WORDS), "stop"


@scene("an answer that somebody has stopped is what had come, and known as stopped")
async def stopped(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS[:4])
    await stage.end(mid, 4, "interrupted")
    return text(*WORDS[:4]), "interrupted"


@scene("an error in mid-answer is told by its code, and what had come stays")
async def an_error(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS[:4])
    await stage.entry("stream_error", mid, error_code="RAG-003", message="stalled", solutions=["again"])
    return text(*WORDS[:4]), "RAG-003"


@scene("a refused message is told by its code, and is not sent again by itself")
async def a_refusal(stage: Stage, mid: str) -> Seen:
    await stage.reply(
        "stream_error", message_id=mid, error_code="WS-003", message="busy", solutions=["wait"], retry_after_ms=1
    )
    return "", "WS-003"


@scene("closed for good (1008), it stays away")
async def a_final_close(stage: Stage, mid: str) -> Seen:
    await stage.begin(mid)
    await stage.tokens(mid, *WORDS[:2])
    await stage.close(FINAL)
    if await stage.arrival(STAYS_AWAY_SECONDS):
        stage.note("it came back after 1008")
    return "", ""


async def judge_client(
    port: int, patience: float, only: Sequence[str] = (), tell: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """Listen, and play the scenes to whoever comes. `tell` is given the address."""
    scenes = [one for one in SCENES if not only or one.name in only]
    stage = Stage(patience)
    findings: list[Finding] = []
    async with stage.open(port, tell):
        try:
            await _play(stage, scenes, findings)
        except Failed as failed:
            stage.note(str(failed))
            findings.append(_finding(scenes[len(findings)], stage))
    return [*findings, *(Finding(one.name, one.demands, "not reached") for one in scenes[len(findings) :])]


async def _play(stage: Stage, scenes: Sequence[Scene], findings: list[Finding]) -> None:
    """Each scene's finding is complete when the next message tells what was seen; after the last, nothing is told."""
    await stage.welcome(within=FIRST_VISIT_SECONDS)
    message = await stage.message()
    for one in scenes:
        seen = await one.play(stage, message.message_id)
        if one.play is not a_final_close:
            known = set(stage.asked)
            message = await stage.message()
            if message.message_id in known:
                raise Failed(f"the message {message.message_id!r} was sent again although it had ended")
            _compare(stage, message.content, seen)
        findings.append(_finding(one, stage))
    await stage.close(FINAL)


def _compare(stage: Stage, told: str, seen: Seen) -> None:
    try:
        body = json.loads(told)
        found = (body["text"], body["ending"])
    except (ValueError, KeyError, TypeError):
        raise Failed(f"a message that does not tell what was seen: {told[:200]!r}") from None
    for what, one, other in zip(("text", "ending"), found, seen, strict=True):
        if one != other:
            stage.note(f"the {what} is {one!r}, not {other!r}")


def _finding(one: Scene, stage: Stage) -> Finding:
    wrong, stage.notes = "; ".join(stage.notes), []
    return Finding(one.name, one.demands, wrong or None)
