"""A ChatService over LlamaIndex: `LlamaIndexService(engine.aquery)`, or `LlamaIndexService(per_session(make_engine))`.

It runs on asyncio. A chat engine streams from a task of its own, which its generator waits for at the end: closing the
stream alone would let the model talk on to its last word. So that task is taken from it, and cancelled. LlamaIndex is
not imported: what is read is its documented attributes.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from typing import Any, ClassVar

from trialogue_adapters.bridges.pipeline import NotAService
from trialogue_adapters.bridges.plain import fitted

SESSIONS = 200
"""An engine's memory keeps a thread (llama-index-core 0.14: its SQLite connection), so they are not for free."""
PREVIEW_CHARS = 200
END = object()


def per_session(make_engine: Callable[[], Any], sessions: int = SESSIONS) -> Callable[[str, str], Any]:
    """A chat engine for each session, because an engine remembers one conversation; the longest silent one goes first.

    LlamaIndex remembers an answer when it is whole: of one that was cut, only the question stays.
    """
    engines: OrderedDict[str, Any] = OrderedDict()

    def ask(message: str, session_id: str) -> Any:
        engine = engines.get(session_id)
        if engine is None:
            engine = engines[session_id] = make_engine()
        engines.move_to_end(session_id)
        while len(engines) > sessions:
            engines.popitem(last=False)
        return engine.astream_chat(message)

    return ask


class LlamaIndexService:
    """Serve it with `--service-runtime asyncio`, the default.

    Args:
        ask: a function of (message), (message, session_id) or (message, session_id, options) that returns, or is a
            coroutine of, any streaming response of LlamaIndex, or an async generator of text or of a model's deltas.
            Raises NotAService, also for the method of a chat engine, which all sessions would share.
    """

    runtime: ClassVar[str] = "asyncio"

    def __init__(self, ask: Callable[..., Any]) -> None:
        owner = getattr(ask, "__self__", None)
        if hasattr(owner, "chat_history") and hasattr(owner, "reset"):
            raise NotAService(
                f"one {type(owner).__name__} would mix the conversations of all sessions: use per_session(make_engine)"
            )
        self._ask = fitted(ask)

    async def stream_rag_pipeline(
        self, message: str, session_id: str, options: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Any, None]:
        response = self._ask(message, session_id, options or {})
        if inspect.isawaitable(response):
            response = await response
        if sources := _sources(getattr(response, "source_nodes", None) or ()):
            yield {"event": "metadata", "data": {"sources": sources}}
        writing = _take_task(response)
        pieces = _pieces(response)
        try:
            async for piece in pieces:
                text = piece if isinstance(piece, str) else getattr(piece, "delta", None)
                if text:
                    yield text
            if writing:
                await writing  # the answer goes into the engine's memory
        finally:
            if writing and not writing.done():
                writing.cancel()
                await asyncio.wait([writing])
            if hasattr(pieces, "aclose"):
                await pieces.aclose()


def _take_task(response: Any) -> asyncio.Task[None] | None:
    """The task from which a chat engine streams: ours to end, because its generator would only wait for it."""
    task = getattr(response, "awrite_response_to_history_task", None)
    if not isinstance(task, asyncio.Task):
        return None
    response.awrite_response_to_history_task = None
    return task


def _pieces(response: Any) -> AsyncIterator[Any]:
    """What a response streams. Raises TypeError."""
    if hasattr(response, "async_response_gen"):
        found: AsyncIterator[Any] = response.async_response_gen()
    elif hasattr(response, "__aiter__"):
        found = aiter(response)
    elif inspect.isgenerator(getattr(response, "response_gen", None)):
        found = _from_thread(response.response_gen)
    elif isinstance(response, str) or isinstance(getattr(response, "response", None), str):
        found = _whole(response if isinstance(response, str) else response.response)
    else:
        raise TypeError(f"{type(response).__name__} is no response of LlamaIndex")
    return found


async def _from_thread(pieces: Generator[str, None, None]) -> AsyncGenerator[str, None]:
    """A blocking generator, a thread per piece. Cancelled, it computes on to its next piece, and no further."""
    while (piece := await asyncio.to_thread(next, pieces, END)) is not END:
        yield str(piece)


async def _whole(text: str) -> AsyncGenerator[str, None]:
    yield text


def _sources(nodes: Any) -> list[dict[str, Any]]:
    sources = []
    for found in nodes:
        node = getattr(found, "node", found)
        about = getattr(node, "metadata", None) or {}
        title = about.get("title") or about.get("file_name") or about.get("source") or ""
        text = node.get_content()[:PREVIEW_CHARS] if hasattr(node, "get_content") else ""
        sources.append({"title": title, "score": getattr(found, "score", None), "content_preview": text})
    return sources
