"""A ChatService over a LangChain `Runnable`: `RunnableService(chain)`. It runs on asyncio, as LangChain does.

Of `astream`, text comes from strings, messages, and the `answer` of dicts; sources from the documents in a `context`.
With `events`, `astream_events` tells what happens inside: text from every chat model in the chain (name the ones that
answer by `include_tags` or `include_names`), sources from retrievers, and the names of tools as progress. LangChain is
not imported: what is read is its documented attributes, so that its versions are the deployer's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar

ANSWER_KEYS = ("answer", "output", "result", "text")
CONTEXT_KEYS = ("context", "source_documents", "documents")
PREVIEW_CHARS = 200

MakeInput = Callable[[str, str, Mapping[str, Any]], Any]


class RunnableService:
    """Serve it with `--service-runtime asyncio`, the default.

    Args:
        make_input: what the chain is given, made of (message, session_id, options); by default the message.
        events: use `astream_events`, with these arguments; `{}` for none.

    The session id stands in the config as `session_id` and as `thread_id`: message histories and checkpointers want it.
    Cancelling a turn cancels the task that iterates the chain, and closes its stream.
    """

    runtime: ClassVar[str] = "asyncio"

    def __init__(
        self, runnable: Any, *, make_input: MakeInput | None = None, events: Mapping[str, Any] | None = None
    ) -> None:
        wanted = "astream" if events is None else "astream_events"
        if not callable(getattr(runnable, wanted, None)):
            raise TypeError(f"{type(runnable).__name__} has no method `{wanted}`: it is no Runnable")
        self._runnable = runnable
        self._make_input = make_input or (lambda message, session_id, options: message)
        self._events = events

    def __repr__(self) -> str:
        return f"<RunnableService {type(self._runnable).__name__}>"

    async def stream_rag_pipeline(
        self, message: str, session_id: str, options: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Any, None]:
        given = self._make_input(message, session_id, options or {})
        config = {"configurable": {"session_id": session_id, "thread_id": session_id}}
        if self._events is None:
            stream = _read_chunks(self._runnable.astream(given, config))
        else:
            told = {"version": "v2", **self._events}
            stream = _read_events(self._runnable.astream_events(given, config, **told))
        async with aclosing(stream):
            async for event in stream:
                yield event


async def _read_chunks(chunks: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    usage: dict[str, int] = {}
    async with aclosing(chunks):
        async for chunk in chunks:
            sources = sources_of(chunk)
            if sources:
                yield {"event": "metadata", "data": {"sources": sources}}
            _add(usage, chunk)
            if text := text_of(chunk):
                yield text
    yield {"event": "done", "data": {"usage": usage} if usage else {}}


async def _read_events(events: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    usage: dict[str, int] = {}
    spoken, output = False, None
    async with aclosing(events):
        async for event in events:
            data = event["data"]
            match event["event"]:
                case "on_chat_model_stream" | "on_llm_stream":
                    if text := text_of(data["chunk"]):
                        spoken = True
                        yield text
                case "on_chat_model_end":
                    _add(usage, data.get("output"))
                case "on_retriever_end":
                    yield {"event": "metadata", "data": {"sources": _sources(data.get("output") or ())}}
                case "on_tool_start":
                    yield {"event": "tool", "data": {"name": event.get("name", "")}}
            if event["event"] in ("on_chain_end", "on_chat_model_end") and not event.get("parent_ids"):
                output = data.get("output")
    if not spoken and (text := text_of(output)):
        yield text  # no model in it, or none that streams
    yield {"event": "done", "data": {"usage": usage} if usage else {}}


def text_of(chunk: Any) -> str:
    """The text of whatever a Runnable yields; "" if there is none."""
    if isinstance(chunk, str):
        return chunk
    if isinstance(chunk, Mapping):
        return next((text_of(chunk[key]) for key in ANSWER_KEYS if key in chunk), "")
    content = getattr(chunk, "content", None)  # a message; else a generation
    if content is None:
        content = getattr(chunk, "text", None)
    if isinstance(content, list):
        return "".join(map(_part, content))
    return content if isinstance(content, str) else ""


def _part(part: Any) -> str:
    """Of a message whose content is in blocks: those of text, not the reasoning, not a tool's call."""
    if isinstance(part, Mapping):
        part = part.get("text") if part.get("type", "text") == "text" else ""
    return part if isinstance(part, str) else ""


def sources_of(chunk: Any) -> list[dict[str, Any]]:
    if not isinstance(chunk, Mapping):
        return []
    found = next((chunk[key] for key in CONTEXT_KEYS if key in chunk), None)
    return _sources(found) if isinstance(found, list | tuple) else []


def _sources(documents: Iterable[Any]) -> list[dict[str, Any]]:
    """Of their metadata, only a title and a score: the rest is the deployer's own."""
    sources = []
    for document in documents:
        text = getattr(document, "page_content", None)
        if isinstance(text, str):
            about = getattr(document, "metadata", None) or {}
            title = about.get("title") or about.get("source") or ""
            sources.append({"title": title, "score": about.get("score"), "content_preview": text[:PREVIEW_CHARS]})
    return sources


def _add(usage: dict[str, int], message: Any) -> None:
    """A message's usage, added up, under the names that all our services use."""
    told = getattr(message, "usage_metadata", None) or {}
    for name, theirs in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        if isinstance(told.get(theirs), int):
            usage[name] = usage.get(name, 0) + told[theirs]
