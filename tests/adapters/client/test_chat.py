"""The client against real servers, on both listeners and on both loops."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from support.loops import Loop
from support.raw_client import fresh, open_client
from support.server import Server
from trialogue_adapters.client import (
    Asked,
    Chat,
    ClosedByServer,
    Left,
    LinkError,
    Presence,
    Refused,
    TooMuch,
    TurnFailed,
    TurnRejected,
    Typing,
    Unreachable,
    connect,
)
from trialogue_adapters.client import chat as link

FLAGS = ("--test-echo",)


async def gather(tokens: AsyncIterator[str]) -> list[str]:
    return [token async for token in tokens]


async def test_an_answer(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(server.address, lang="en") as chat:
            turn = await chat.send("one", options={"tokens": 5, "done": {"usage": {"n": 5}}})
            assert await gather(aiter(turn)) == ["t0 ", "t1 ", "t2 ", "t3 ", "t4 "]
            assert (turn.ending, turn.whole, turn.text, turn.total_tokens) == ("stop", True, "t0 t1 t2 t3 t4 ", 5)
            assert [source["title"] for source in turn.sources] == ["A guide"]
            assert turn.meta == {"usage": {"n": 5}}
            assert await gather(aiter(turn)) == list(turn.tokens), "an ended turn is iterated again"

    await loop.run(scenario)


async def test_what_is_iterated_is_acknowledged(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(server.address) as chat:
            turn = await chat.send("one", options={"tokens": None, "pace": 0.01})
            taken = []
            async for token in turn:
                taken.append(token)
                if len(taken) == 5:
                    break
            cancelled = await turn.cancel()
            assert cancelled.seen == "".join(taken)
            assert cancelled.text.startswith(cancelled.seen)
            assert (cancelled.outcome, cancelled.ending, turn.ending) == ("cancelled", "cancelled", "cancelled")
            while turn.receipt is None:
                await turn.changed()
            assert turn.receipt.acked == 5
            assert turn.receipt.generated >= 5
            assert (await turn.cancel()).outcome == "already_ended"

    await loop.run(scenario)


async def test_a_newer_message_interrupts(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(server.address) as chat:
            old = await chat.send("old", options={"tokens": None, "pace": 0.01})
            async for _ in old:
                break
            new = await chat.send("new")
            assert await gather(aiter(new)) == ["t0 ", "t1 ", "t2 "]
            assert (old.ending, old.error) == ("interrupted", None)
            assert await gather(aiter(old)) == list(old.tokens)

    await loop.run(scenario)


async def test_queued_and_cancelled_all_at_once(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(server.address) as chat:
            running = await chat.send("running", options={"tokens": None, "pace": 0.01})
            queued = await chat.send("queued", on_busy="enqueue")
            while queued.phase != "queued":
                await queued.changed()
            assert queued.place == 1
            await chat.cancel()
            assert (await running.ended(), await queued.ended()) == ("cancelled", "cancelled")
            assert queued.text == ""

    await loop.run(scenario)


async def test_an_answer_that_fails_and_a_message_that_is_refused(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(server.address, lang="en") as chat:
            failing = await chat.send("fails", options={"at": {"2": ["raise", "ValueError"]}})
            with pytest.raises(TurnFailed) as failed:
                await gather(aiter(failing))
            assert (failed.value.code, failed.value.retryable) == ("RAG-001", True)
            assert failed.value.solutions == ("Try again as a new message.", "If it keeps failing, tell the operator.")
            assert (failing.text, failing.ending) == ("t0 t1 ", "failed")
            with pytest.raises(TurnRejected, match=r"WS-001: .* blank"):
                await gather(aiter(await chat.send(" ")))
            running = await chat.send("running", options={"tokens": None, "pace": 0.01})
            busy = await chat.send("busy", on_busy="reject")
            with pytest.raises(TurnRejected) as refused:
                await gather(aiter(busy))
            assert (refused.value.code, refused.value.retryable, refused.value.retry_after) == ("WS-003", True, 1.0)
            with pytest.raises(TooMuch, match="bytes, of at most 65536"):
                await chat.send("large", options={"x": "y" * 70_000})
            assert running.ending is None

    await loop.run(scenario)


async def test_a_second_device_sees_and_stops_the_turns_of_the_first(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(server.address) as first:
            mine = await first.send("shared", options={"tokens": None, "pace": 0.01})
            async for _ in mine:
                break
            happened = first.events()
            async with connect(server.address, session_id=first.session_id) as second:
                assert (second.resumed, second.connections) == ("attached", 2)
                asked_there = second.events()
                assert await anext(happened) == Presence(2)
                asked = await anext(asked_there)
                assert isinstance(asked, Asked)
                theirs = asked.turn
                assert not theirs.own
                async for token in theirs:
                    assert token == "t0 "
                    break
                assert theirs.question == "shared"
                await second.typing(active=True)
                assert await anext(happened) == Typing(active=True)
                assert (await theirs.cancel()).outcome == "cancelled"
                assert await mine.ended() == "cancelled"
                assert mine.text == theirs.text

    await loop.run(scenario)


async def test_leaving_well_stops_the_answer_and_leaving_by_an_exception_does_not(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        stopped, left = fresh("stopped"), fresh("left")
        endless = {"tokens": None, "pace": 0.01}
        async with connect(server.address) as chat:
            turn = await chat.send(stopped, options=endless)
            async for _ in turn:
                break
        with pytest.raises(Left):
            await gather(aiter(turn))
        with pytest.raises(Left):
            await chat.send("more")
        assert [event async for event in chat.events()] == []
        while not server.record("closed", stopped):
            await anyio.sleep(0.01)
        with pytest.raises(LookupError, match="as told"):  # noqa: PT012 - the block is what is tested
            async with connect(server.address) as chat:
                turn = await chat.send(left, options=endless)
                async for _ in turn:
                    raise LookupError("as told")
        async with connect(server.address, session_id=chat.session_id, after=chat.position) as again:
            assert again.resumed == "replayed"
            assert not server.record("closed", left)
            asked = await anext(again.events())
            assert isinstance(asked, Asked)
            await asked.turn.cancel()

    await loop.run(scenario)


async def test_a_cancelled_block_is_left_at_once_and_the_answer_goes_on(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        content = fresh("cancelled")
        with anyio.CancelScope() as scope:
            async with connect(server.address) as chat:
                turn = await chat.send(content, options={"tokens": None, "pace": 0.01})
                async for _ in turn:
                    scope.cancel()
        assert scope.cancelled_caught
        assert turn.text
        assert not server.record("closed", content)

    await loop.run(scenario)


async def refused(url: str, **how: str) -> LinkError:
    with pytest.raises(LinkError) as error:
        async with connect(url, **how):  # type: ignore[arg-type]
            pass
    return error.value


async def test_where_there_is_no_chat(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        nobody = await refused("http://127.0.0.1:1")
        assert isinstance(nobody, Unreachable)
        assert nobody.retryable
        assert "127.0.0.1:1/chat-ws" in str(nobody)
        path = await refused(f"{server.address}/nowhere")
        assert isinstance(path, Refused)
        assert (path.status, path.code, path.retryable) == (404, "http-404", False)
        lang = await refused(server.address, lang="xx")
        assert str(lang) == "http-400: lang: ko or en"
        echo = await refused(f"{server.address}/echo")
        assert (echo.code, echo.retryable) == ("wrong-subprotocol", False)

    await loop.run(scenario)
    with pytest.raises(ValueError, match="scheme"):
        async with connect("ftp://host"):
            pass


async def test_a_code_that_says_do_not_come_back_is_the_end(
    server: Server, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with connect(server.address) as chat:
            happened = chat.events()
            turn = await chat.send("one", options={"tokens": None, "pace": 0.01})
            await turn.changed()
            await say(chat, "x" * 70_000)
            with pytest.raises(ClosedByServer) as closed:
                await gather(aiter(turn))
            assert closed.value.close_code == 1009
            with pytest.raises(ClosedByServer):
                await anext(happened)
            with pytest.raises(ClosedByServer):
                await turn.cancel()

    await loop.run(scenario)


async def say(chat: Chat, text: str) -> None:
    """Behind the client's back."""
    assert chat._socket
    chat._socket.write(text)
    await anyio.sleep(0)


async def test_a_turn_that_nobody_iterates_blocks_nobody(server: Server, loop: Loop) -> None:
    async def scenario() -> None:
        async with connect(server.address) as chat:
            idle = await chat.send("many", options={"tokens": 5000})
            assert await idle.ended() == "stop"
            assert (len(idle.tokens), idle.whole) == (5000, True)

    await loop.run(scenario)


async def test_a_plain_client_s_turn_is_seen(server: Server) -> None:
    async with open_client(server) as other, connect(server.address, session_id=other.session_id) as chat:
        happened = chat.events()
        message_id = await other.say(tokens=3)
        with anyio.fail_after(5):
            asked = await anext(happened)
            assert isinstance(asked, Asked)
            assert await gather(aiter(asked.turn)) == ["t0 ", "t1 ", "t2 "]
        assert repr(asked.turn) == f"<Turn {message_id!r}, 3 tokens, stop>"


def test_the_bounds_are_the_page_s() -> None:
    assert (link.IDLE_SECONDS, link.PONG_SECONDS, link.HANDSHAKE_SECONDS, link.ACK_SECONDS) == (20, 10, 15, 0.5)
