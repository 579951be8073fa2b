"""A ChatService out of a function: `plain_service(answer)`.

The function takes `message`, or `(message, session_id)`, or `(message, session_id, options)`. It is an async generator
function, a coroutine function that returns the answer or an async iterator of it, a generator function, or a function
that returns one of these things. Pieces are `str`, or event dicts as any ChatService yields them. An asynchronous one
runs on asyncio or Trio, as `--service-runtime` says; one that blocks runs in threads: `--service-runtime sync`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from typing import Any, ClassVar

from trialogue_adapters.bridges.pipeline import NotAService

GIVEN = ("message", "session_id", "options")
Answerer = Callable[[str, str, Mapping[str, Any]], Any]


def fitted(function: Any) -> Answerer:
    """The function, called with as many of (message, session_id, options) as it takes. Raises NotAService."""
    if inspect.isclass(function) or not callable(function):
        raise NotAService(f"{function!r} is no function of (message)")
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [parameter for parameter in parameters if parameter.kind in kinds]
    other = (  # a place with a default and another name is the function's own affair
        n for n, (place, ours) in enumerate(zip(places, GIVEN, strict=False)) if n and not _is(place, ours)
    )
    taken = next(other, min(3, len(places)))
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        taken = 3
    if not taken or any(place.default is place.empty for place in places[taken:]):
        raise NotAService(f"{function!r} must take (message), (message, session_id) or (message, session_id, options)")
    return lambda *given: function(*given[:taken])


def _is(place: inspect.Parameter, ours: str) -> bool:
    return place.default is place.empty or place.name == ours


def plain_service(function: Any) -> PlainService | BlockingService:
    """Raises NotAService."""
    return (PlainService if _is_async(function) else BlockingService)(fitted(function))


def _is_async(function: Callable[..., Any]) -> bool:
    called = (function, type(function).__call__)  # an object may be callable too
    return any(inspect.isasyncgenfunction(call) or inspect.iscoroutinefunction(call) for call in called)


class PlainService:
    """Over an asynchronous function."""

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer

    async def stream_rag_pipeline(
        self, message: str, session_id: str, options: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Any, None]:
        answer = self._answer(message, session_id, options or {})
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, str | Mapping):
            yield answer
            return
        if not hasattr(answer, "__aiter__"):
            raise TypeError(f"the function returned {type(answer).__name__}: neither text nor an async iterator")
        try:
            async for piece in answer:
                yield piece
        finally:
            if hasattr(answer, "aclose"):
                await answer.aclose()


class BlockingService:
    """Over a function that blocks."""

    runtime: ClassVar[str] = "sync"

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer

    def stream_rag_pipeline(
        self, message: str, session_id: str, options: Mapping[str, Any] | None = None
    ) -> Generator[Any, None, None]:
        answer = self._answer(message, session_id, options or {})
        if isinstance(answer, str | Mapping):
            yield answer
            return
        if not isinstance(answer, Iterable):
            raise TypeError(f"the function returned {type(answer).__name__}: neither text nor an iterable of it")
        try:
            yield from answer
        finally:
            close = getattr(answer, "close", None)
            if close:
                close()
