"""What stands on the screen, as a function of what is known of the turns."""

from __future__ import annotations

from typing import Any

import pytest

from trialogue_adapters.client import Chat, Turn
from trialogue_adapters.client.address import read_address
from trialogue_adapters.client.credential import Credential
from trialogue_adapters.client.fold import TurnState
from trialogue_adapters.terminal.markdown import Painter
from trialogue_adapters.terminal.view import Frame, View, describe
from trialogue_adapters.terminal.words import ENGLISH


class Asked:
    """A turn whose frames come when the test says so."""

    def __init__(self, message_id: str, *, own: bool = True) -> None:
        self.state = TurnState(message_id, own=own, question=message_id)
        self.turn = Turn(Chat(read_address("h"), Credential(None), None, None), self.state)

    def hears(self, kind: str, epoch: int = 1, **fields: Any) -> None:
        assert self.state.apply({"type": kind, **fields}, epoch)

    def says(self, text: str) -> None:
        for token in text.split(" "):
            self.hears("stream_token", token=f"{token} ", index=self.state.next)

    def ends(self, reason: str = "stop") -> None:
        self.hears("stream_end", finish_reason=reason, total_tokens=len(self.state.tokens))


@pytest.fixture
def view() -> View:
    return View(ENGLISH, Painter(None))


def drawn(view: View, height: int = 20) -> tuple[list[str], list[str]]:
    frame = view.frame(height)
    return lines(frame.above), lines(frame.live)


def lines(painted: str) -> list[str]:
    plain = painted.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    return [line.strip() for line in plain.splitlines() if line.strip()]


def test_a_turn_from_its_question_to_its_sources(view: View) -> None:
    assert (view.frame(9), view.busy, view.current) == (Frame("", ""), False, None)
    asked = Asked("why")
    view.add(asked.turn)
    assert drawn(view) == ([], ["> why [sending]"])
    asked.hears("stream_start")
    assert drawn(view) == (["> why"], ["[retrieving]"])
    asked.says("one\n\ntwo")
    assert drawn(view) == (["one"], ["two", "[generating]"])
    asked.hears("stream_sources", sources=[{"title": "T", "score": 0.5, "content_preview": "x\n y"}])
    asked.ends()
    assert drawn(view) == (["two", "Sources", "1. T (0.50): x y"], [])
    assert not view.busy


def test_what_interrupts_waits_until_the_old_answer_has_ended(view: View) -> None:
    old, new = Asked("old"), Asked("new")
    old.hears("stream_start")
    old.says("half")
    view.add(old.turn)
    view.add(new.turn)
    assert drawn(view) == (["> old"], ["half", "[generating]", "> new [sending]"])
    old.ends("interrupted")
    new.hears("stream_start")
    assert drawn(view) == (["half", "— interrupted", "> new"], ["[retrieving]"])


def test_who_interrupts_comes_before_who_is_queued(view: View) -> None:
    queued, first = Asked("queued"), Asked("first", own=False)
    view.add(queued.turn)
    view.add(first.turn)
    queued.hears("stream_status", phase="queued", place=1)
    first.hears("stream_start")
    assert drawn(view) == (["> (asked on another device) first"], ["[retrieving]", "> queued [queued 1]"])
    assert view.current is first.turn


def test_an_answer_that_is_begun_anew_is_shown_from_its_start(view: View) -> None:
    asked = Asked("q")
    asked.hears("stream_start")
    asked.says("a\n\nb")
    view.add(asked.turn)
    drawn(view)
    asked.hears("stream_start", epoch=2)
    asked.says("A\n\nB")
    assert drawn(view) == (["The server lost this answer and begins it anew.", "A"], ["B", "[generating]"])


def test_how_it_ended_badly(view: View) -> None:
    refused, cut, lost = Asked("refused"), Asked("cut"), Asked("lost")
    refused.hears("stream_error", error_code="X-1", message="no \x1b[31m", solutions=["ask less"])
    cut.hears("stream_start")
    cut.hears("stream_end", finish_reason="stop", total_tokens=5)
    lost.hears("stream_start")
    lost.state.ending = "lost"
    for asked in (refused, cut, lost):
        view.add(asked.turn)
    above, live = drawn(view)
    assert above[:3] == ["> refused", "X-1: no �[31m", "ask less"]
    assert above[3:] == ["> cut", "— a part of this answer is gone", "> lost", "— lost: nobody can say how it ended"]
    assert live == []


def test_a_status_stands_below_and_a_long_tail_is_cut_above(view: View) -> None:
    asked, held = Asked("q"), Asked("held")
    asked.hears("stream_start")
    asked.says("\n".join(f"- {n}" for n in range(50)))
    view.add(asked.turn)
    view.add(held.turn)
    view.status = "away"
    assert len(view.frame(4).live.splitlines()) == 4
    assert drawn(view, 4)[1][1:] == ["[generating]", "> held [will be sent]", "away"]
    view.stopping = True
    assert "[stopping]" in drawn(view)[1]
    assert lines(view.rest())[-1] == "• 49"


def test_a_source_in_a_line() -> None:
    assert describe({"title": None, "score": None, "content_preview": None}) == "?"
    assert describe({"title": "T", "score": 1, "content_preview": "x" * 101}) == f"T (1.00): {'x' * 100}…"
