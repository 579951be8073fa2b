"""`bridges/openai.py` and `bridges/upstream.py`: servers that stream in their own way, and fail in their own way."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from support.scripted import HANG, OK, Script, Scripted, refusal, scripted
from support.sinkhole import Sinkhole
from trialogue import Done, Failure, Fault, Metadata, Turn, TurnReceipt
from trialogue.core.machine import Ending
from trialogue_adapters.bridges import open_service
from trialogue_adapters.bridges.openai import OpenAIService, Prompt, Question
from trialogue_adapters.bridges.upstream import TurnFailed, checked_url

TURN = Turn("m", "hello")


def event(text: str | None = None, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"model": "m", "choices": [choice], **more}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = [OK, event("a"), event("b"), event(None, "stop"), USAGE, DONE]


@asynccontextmanager
async def serving(*scripts: Script, **arguments: Any) -> AsyncGenerator[tuple[Scripted, Any]]:
    """A scripted server, and the bridge to it."""
    async with (
        scripted(*scripts) as server,
        open_service(lambda: OpenAIService(f"{server.url}/v1", "m", **arguments), "trio") as bridged,
    ):
        yield server, bridged.service


async def answered(service: Any, turn: Turn = TURN) -> list[Any]:
    """What a turn tells, without its metadata."""
    sink = Sinkhole()
    with trio.fail_after(5):
        await service.run(turn, "s", sink)
    assert isinstance(sink.events[0], Metadata)
    return sink.events[1:]


def failure_of(events: list[Any]) -> Fault:
    assert isinstance(events[-1], Failure)
    return events[-1].fault


async def test_an_answer_with_its_usage() -> None:
    async with serving(WHOLE, key="sesame", parameters={"temperature": 0.5}) as (server, service):
        *texts, done = await answered(service)
    assert texts == ["a", "b"]
    assert done == Done(
        None,
        {
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
            "model_info": {"name": "m", "finish_reason": "stop", "answerer": "openai"},
        },
    )
    assert server.heads[0].startswith("POST /v1/chat/completions HTTP/1.1")
    assert "authorization: bearer sesame" in server.heads[0].lower()
    assert server.bodies[0] == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "messages": [{"role": "user", "content": "hello"}],
    }


ODD: dict[str, Script] = {
    "comments, CRLF, an empty event": [
        OK,
        b": OPENROUTER PROCESSING\r\n\r\n",
        event("a").replace(b"\n", b"\r\n") + b"data:\r\n\r\n",
        event("b"),
        event(None, "stop"),
        DONE,
    ],
    "no [DONE]": [OK, event("a"), event("b", "stop")],
    "no finish_reason": [OK, event("a"), event("b"), DONE],
    "data in several lines": [
        OK,
        event("a"),
        b'data: {"choices":\ndata:  [{"delta": {"content": "b"}, "finish_reason": "stop"}]}\n\n',
    ],
    "[DONE], but no end": [OK, event("a"), event("b"), DONE, HANG],
    "byte by byte": [OK, *(bytes([byte]) for byte in event("a") + event("b", "stop"))],
    "in one piece": refusal(200, {"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}),
}


@pytest.mark.parametrize("way", ODD)
async def test_an_answer_in_its_servers_own_way(way: str) -> None:
    async with serving(ODD[way]) as (_, service):
        *texts, done = await answered(service)
    assert "".join(texts) == "ab"
    assert isinstance(done, Done)


async def test_a_response_that_never_ends_after_its_reason_is_whole_after_a_second() -> None:
    async with serving([OK, event("a"), event(None, "length"), HANG]) as (server, service):
        *texts, done = await answered(service)
        with trio.fail_after(1):
            await server.gone.wait()
    assert texts == ["a"]
    assert done.meta["model_info"]["finish_reason"] == "length"


FAILING: dict[str, tuple[Script, str, str]] = {
    "wrong key": (refusal(401, {"error": {"message": "Incorrect key sesame"}}), "UPSTREAM-401", "refused our key"),
    "forbidden": (refusal(403), "UPSTREAM-401", "refused our key"),
    "no such path": (refusal(404), "UPSTREAM-404", "not at the address"),
    "no such model": (refusal(404, {"error": {"message": "model 'm' not found"}}), "UPSTREAM-404", "'m' is not known"),
    "moved": (refusal(308, None, "Location: /elsewhere"), "UPSTREAM-404", "not at the address"),
    "quota": (refusal(429, None, "Retry-After: 7"), "UPSTREAM-429", "asked too often"),
    "refused": (refusal(422), "UPSTREAM-400", "refused the request (HTTP 422)"),
    "broken": (refusal(500), "UPSTREAM-500", "failed (HTTP 500)"),
    "overloaded": (refusal(503, None, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), "UPSTREAM-500", "HTTP 503"),
    "a page": ([b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"], "UPSTREAM-502", "cannot be understood"),
    "not JSON": ([OK, event("a"), b"data: {nonsense\n\n"], "UPSTREAM-502", "cannot be understood"),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.2\r\n"], "UPSTREAM-502", "broke off"),
    "nothing": ([], "UPSTREAM-502", "broke off"),
    "cut": ([OK, event("a"), event("b")], "UPSTREAM-502", "broke off"),
    "cut in a token": ([OK, event("a"), event("b")[:-9]], "UPSTREAM-502", "broke off"),
    "endless": ([OK, b"data: " + b"x" * (1 << 20) + b"\n"], "UPSTREAM-502", "cannot be understood"),
    "an error inside": ([OK, event("a"), b'data: {"error": "of the GPU"}\n\n'], "UPSTREAM-500", "reported an error"),
}


@pytest.mark.parametrize("way", FAILING)
async def test_a_failure_is_named_and_is_no_end(way: str, caplog: pytest.LogCaptureFixture) -> None:
    script, code, words = FAILING[way]
    caplog.set_level(logging.WARNING)
    async with serving(script, key="sesame") as (server, service):
        events = await answered(service)
    fault = failure_of(events)
    assert fault.code == code
    assert words in (fault.message or "")
    assert fault.solutions
    assert not any(isinstance(event, Done) for event in events)
    told = f"{fault.message} {fault.solutions}"
    assert "sesame" not in told + caplog.text
    assert "127.0.0.1" not in told, "clients are told no addresses"
    assert server.url in caplog.text, "the operator is"


@pytest.mark.parametrize(
    ("header", "solution"),
    [
        ("Retry-After: 7", "Try again as a new message in 7 seconds."),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", "Try again as a new message in 1 seconds."),
        ("Retry-After: soon", "Wait a moment, then try again as a new message."),
        ("X: y", "Wait a moment, then try again as a new message."),
    ],
)
async def test_when_to_come_back(header: str, solution: str) -> None:
    async with serving(refusal(429, None, header)) as (_, service):
        assert failure_of(await answered(service)).solutions == (solution,)


async def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with open_service(lambda: OpenAIService(url, "m"), "trio") as bridged:
            fault = failure_of(await answered(bridged.service))
    assert (fault.code, fault.message) == (
        "UPSTREAM-503",
        "the language model cannot be reached: nothing listens there",
    )


async def test_a_server_without_tls() -> None:
    async with scripted([b"HTTP/1.1 400 Bad\r\n\r\n"]) as server:
        url = server.url.replace("http", "https")
        async with open_service(lambda: OpenAIService(url, "m"), "trio") as bridged:
            told = failure_of(await answered(bridged.service)).message
    assert told == "the language model cannot be reached: its TLS certificate or version is not accepted"


@pytest.mark.parametrize("script", [[HANG], [OK, HANG], [OK, event("a"), HANG]], ids=["asked", "begun", "answering"])
async def test_a_cancel_hangs_up(script: Script) -> None:
    async with serving(script) as (server, service), trio.open_nursery() as nursery:
        sink = Sinkhole()
        nursery.start_soon(service.run, TURN, "s", sink)
        await sink.until(2 if len(script) == 3 else 1)
        with trio.fail_after(5):
            while not server.bodies:
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(1):
            await server.gone.wait()


async def test_a_cancel_while_there_is_no_room_hangs_up() -> None:
    script = [OK, *(event("a") for _ in range(500)), HANG]
    async with serving(script) as (server, service), trio.open_nursery() as nursery:
        sink = Sinkhole(room_for=10)
        nursery.start_soon(service.run, TURN, "s", sink)
        await sink.until(10)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(1):
            await server.gone.wait()


async def test_the_conversation_goes_on_as_the_user_saw_it() -> None:
    async with serving(WHOLE, system="Be brief.") as (server, service):
        for message_id, ending, text in (("1", Ending.COMPLETED, "ab"), ("2", Ending.INTERRUPTED, "a")):
            await answered(service, Turn(message_id, f"question {message_id}"))
            await service.ended(TurnReceipt("s", message_id, ending, 2, 2, None, "closed"), text)
        await answered(service)
    assert server.bodies[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": "ab"},
        {"role": "user", "content": "question 2"},
        {"role": "assistant", "content": "a …"},
        {"role": "user", "content": "hello"},
    ]


OVERLONG = refusal(400, {"error": {"message": "request exceeds the available context size"}})


async def test_a_prompt_that_is_too_long_is_asked_once_more_and_briefer() -> None:
    seen = []

    async def prepare(question: Question) -> Prompt:
        seen.append((question.brief, dict(question.options)))
        return Prompt([{"role": "user", "content": question.text}], [{"title": "t"}])

    async with serving(OVERLONG, WHOLE, OVERLONG, prepare=prepare) as (_, service):
        assert (await answered(service, Turn("m", "x", options={"k": 1})))[:2] == ["a", "b"]
        assert seen == [(False, {"k": 1}), (True, {"k": 1})]
        fault = failure_of(await answered(service))
    assert (fault.code, fault.solutions) == ("UPSTREAM-413", ("Shorten it.",))
    assert len(seen) == 4


async def test_llama_cpp_is_asked_for_its_progress_and_others_are_not() -> None:
    llama = OK.replace(b"OK\r\n", b"OK\r\nServer: llama.cpp\r\n")
    async with serving([llama, *WHOLE[1:]], WHOLE, WHOLE) as (server, service):
        for _ in range(3):
            await answered(service)
    assert ["return_progress" in body for body in server.bodies] == [False, True, False]


LISTS: dict[str, tuple[Script, str]] = {
    "it is there": (refusal(200, {"data": [{"id": "m"}]}), ""),
    "it is not": (refusal(200, {"data": [{"id": "other"}]}), "it lists other, and not this model"),
    "no list": (refusal(200, {"models": []}), ""),
    "wrong key": (refusal(401), "refused our key"),
    "no JSON": ([OK, b"x"], "cannot be understood"),
    "silence": ([HANG], "did not answer in time"),
}


@pytest.mark.parametrize("way", LISTS)
async def test_the_operator_is_told_at_the_start_what_will_not_work(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialogue_adapters.bridges.openai.PROBE_SECONDS", 0.2)
    script, warning = LISTS[way]
    async with scripted(script) as server:
        service = OpenAIService(f"{server.url}/v1/", "m")
        line = await service.probe()
        await service.aclose()
    assert server.heads[0].startswith("GET /v1/models ")
    assert line.startswith(f"m at {server.url}/v1")
    assert warning in line
    assert ("warning" in line) is bool(warning)


def test_a_password_in_an_address_is_not_shown() -> None:
    assert repr(OpenAIService("http://me:secret@x/v1", "m")) == "<OpenAIService m at http://x/v1>"


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://x/v1", "http://", "http://x:port/", "127.0.0.1:8080/v1"])
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        checked_url(url)


def test_the_whole_address_will_do_as_well() -> None:
    given = [OpenAIService(url, "m") for url in ("http://x/v1", "http://x/v1/", "http://x/v1/chat/completions")]
    assert {repr(service) for service in given} == {"<OpenAIService m at http://x/v1>"}


def test_a_failure_has_always_a_remedy() -> None:
    assert TurnFailed("X", "it failed").event()["solutions"]
