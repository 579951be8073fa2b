"""`errand.py`: asking a session something without being attached to it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from support.memory import bench, settle
from trialogue.core.events import CancelResult
from trialogue.errand import Errand


async def test_every_stopped_turn_has_a_result_and_nothing_is_announced() -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="enqueue")
        results = await it.hub.cancel("", "s", None)
        assert results == [CancelResult("a", "cancelled"), CancelResult("b", "cancelled")]
        await settle()
        assert client.types()[-3:].count("cancel_result") == 0
        assert not client.told("presence", "cancel_result")
        assert it.hub.sessions["", "s"].errands == {}


async def test_one_turn_alone_and_what_is_not_there() -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")
        await it.ask(client, "b", on_busy="enqueue")
        assert await it.hub.cancel("", "s", "b") == [CancelResult("b", "cancelled")]
        assert await it.hub.cancel("", "s", "b") == [CancelResult("b", "already_ended")]
        assert await it.hub.cancel("", "s", "c") == [CancelResult("c", "unknown")]
        assert await it.hub.cancel("", "nobody", None) == [CancelResult(None, "unknown")]
        assert await it.hub.cancel("somebody", "s", None) == [CancelResult(None, "unknown")]
        assert list(it.hub.sessions) == [("", "s")], "asking makes no session"
        assert it.service.open == 1


async def test_it_keeps_no_turn_alive(autojump_clock: MockClock) -> None:
    async with bench(linger=5) as it:
        client = await it.connect()
        await it.ask(client, "a")
        client.leave(1006)
        await trio.sleep(4)
        assert await it.hub.cancel("", "s", "other") == [CancelResult("other", "unknown")]
        assert it.service.open == 1
        await trio.sleep(1.1)
        assert it.service.open == 0


async def test_an_actor_that_crashes_over_it_answers_nobody(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench() as it:
        client = await it.connect()
        await it.ask(client, "a")

        def broken(*_: object) -> None:
            monkeypatch.undo()
            raise RuntimeError("a bug")

        monkeypatch.setattr("trialogue.session.step", broken)
        assert await it.hub.cancel("", "s", "a") == []
        assert it.hub.sessions["", "s"].errands == {}
    assert "a session's actor crashed" in caplog.text


def test_repr() -> None:
    errand = Errand({})
    assert errand.number < 0
    errand.reply(CancelResult("a", "cancelled"))
    assert repr(errand) == f"<Errand {errand.number}, 1 replies>"
