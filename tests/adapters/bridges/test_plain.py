"""`bridges/plain.py`: functions of every kind, on the runtime that they belong to."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from support.sinkhole import Sinkhole
from trialogue import Done, Turn
from trialogue_adapters.bridges import NotAService, Runtime, open_service
from trialogue_adapters.bridges.plain import fitted, plain_service


async def streaming(message: str) -> AsyncIterator[str]:
    for word in ("you ", "said ", message):
        yield word


async def whole(message: str) -> str:
    return f"you said {message}"


async def handing_on(message: str, session_id: str) -> AsyncIterator[str]:
    return streaming(message)


async def with_events(message: str, session_id: str, options: Any) -> AsyncIterator[Any]:
    yield {"event": "metadata", "data": {"sources": []}}
    yield {"event": "chunk", "data": f"you said {message}"}
    yield {"event": "done", "data": {"usage": options}}


class Callable:
    async def __call__(self, message: str) -> str:
        return f"you said {message}"


def blocking(message: str) -> Iterator[str]:
    yield from ("you ", "said ", message)


def blocking_whole(message: str) -> str:
    return f"you said {message}"


def a_list(message: str) -> list[str]:
    return ["you ", "said ", message]


async def asleep_on_asyncio(message: str) -> str:
    await asyncio.sleep(0)
    return f"you said {message}"


async def asleep_on_trio(message: str) -> str:
    await trio.sleep(0)
    return f"you said {message}"


WORKING: list[tuple[Any, Runtime]] = [
    *((function, "asyncio") for function in (streaming, whole, handing_on, with_events, Callable(), asleep_on_asyncio)),
    *((function, "trio") for function in (streaming, whole, handing_on, with_events, asleep_on_trio)),
    *((function, "sync") for function in (blocking, blocking_whole, a_list)),
    (functools.partial(streaming), "asyncio"),
]


@pytest.mark.parametrize(("function", "runtime"), WORKING)
async def test_a_function_answers(function: Any, runtime: Runtime) -> None:
    sink = Sinkhole()
    async with open_service(plain_service(function), runtime) as bridged:
        await bridged.service.run(Turn("m", "hello", options={"k": 1}), "s", sink)
    assert "".join(event for event in sink.events if isinstance(event, str)) == "you said hello"
    assert function is not with_events or sink.events[-1] == Done(None, {"usage": {"k": 1}})


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
async def test_one_that_blocks_must_not_run_on_a_loop(runtime: Runtime) -> None:
    with pytest.raises((NotAService, ExceptionGroup)) as caught:
        async with open_service(plain_service(blocking), runtime):
            pytest.fail("it opened")
    assert "--service-runtime sync" in str(
        caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    )


async def test_a_cancel_closes_the_function() -> None:
    closed = trio.Event()

    async def endless(message: str) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await trio.sleep(0.01)
        finally:
            closed.set()

    sink = Sinkhole()
    async with open_service(plain_service(endless), "trio") as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, Turn("m", "hello"), "s", sink)
        await sink.until(3)
        nursery.cancel_scope.cancel()
    assert closed.is_set()


async def odd(message: str) -> int:
    return 5


@pytest.mark.parametrize(("function", "runtime"), [(odd, "trio"), (odd, "asyncio"), (lambda message: 5, "sync")])
async def test_a_function_that_returns_something_odd_says_so(function: Any, runtime: Runtime) -> None:
    async with open_service(plain_service(function), runtime) as bridged:
        with pytest.raises(TypeError, match="returned int"):
            await bridged.service.run(Turn("m", "hello"), "s", Sinkhole())


TAKING: list[tuple[Any, tuple[Any, ...]]] = [
    (lambda message: (message,), ("m",)),
    (lambda question, temperature=0.5: (question, temperature), ("m", 0.5)),
    (lambda message, session_id=None: (message, session_id), ("m", "s")),
    (lambda message, user: (message, user), ("m", "s")),
    (lambda message, session_id, options: (message, session_id, options), ("m", "s", {})),
    (lambda message="", session_id="", options=None, more=7: (message, options, more), ("m", {}, 7)),
    (lambda *given: given, ("m", "s", {})),
]


@pytest.mark.parametrize(("function", "given"), TAKING)
def test_a_function_is_given_what_it_takes(function: Any, given: tuple[Any, ...]) -> None:
    assert fitted(function)("m", "s", {}) == given


@pytest.mark.parametrize("thing", [5, "text", str, lambda: None, lambda a, b, c, d: None])
def test_what_is_no_such_function_is_said(thing: Any) -> None:
    with pytest.raises(NotAService, match="message"):
        plain_service(thing)
