"""What a ChatService is and what it yields: every shape that is met in the wild, read in one place.

`resolve` says what of an object is to be called, or what is wrong with it; `translate` turns one yielded item into the
engine's event. Items that are no event fail the turn (RAG-001), never anything else.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trialogue import Done, Failure, Fault, Metadata, Progress, ServiceEvent, TurnReceipt

METHOD = "stream_rag_pipeline"
CHUNK_KEYS = ("content", "text", "token", "chunk", "delta")


class NotAService(TypeError):
    """The object cannot answer turns; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Somebody's service, resolved: `stream(message, session_id, options)`, and its optional `ended` hook."""

    stream: Callable[[str, str, dict[str, Any]], Any]
    ended: Callable[[TurnReceipt, str], Awaitable[None] | None] | None = None


def is_factory(source: Any) -> bool:
    """Must it be called to make the service? A class, or a callable that needs no argument."""
    if inspect.isclass(source):
        return True
    if hasattr(source, METHOD) or not callable(source):
        return False
    return not any(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in inspect.signature(source).parameters.values()
    )


def resolve(service: Any) -> Pipeline:
    """Find what to call. Raises NotAService."""
    stream = getattr(service, METHOD, None)
    if stream is None and callable(service) and not inspect.isclass(service):
        stream = service
    if not callable(stream):
        raise NotAService(f"{type(service).__name__} has no method `{METHOD}(message, session_id, options)`")
    ended = getattr(service, "ended", None)
    return Pipeline(_with_options(stream), ended if callable(ended) else None)


def _with_options(stream: Callable[..., Any]) -> Callable[[str, str, dict[str, Any]], Any]:
    """The stream as a function of three arguments; some services take no options."""
    parameters = list(inspect.signature(stream).parameters.values())
    keyword = any(p.name == "options" or p.kind is p.VAR_KEYWORD for p in parameters)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    star = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(positional) < 2 and not star:
        raise NotAService(f"`{METHOD}` must take (message, session_id) and may take options")
    if keyword:
        return lambda message, session_id, options: stream(message, session_id, options=options)
    if len(positional) >= 3 or star:
        return stream
    return lambda message, session_id, options: stream(message, session_id)


def translate(item: Any) -> ServiceEvent:
    """Read one yielded item. Raises ValueError naming what it was. A plain `str` is a chunk. Hot: called per token."""
    if type(item) is dict and item.get("event") == "chunk":
        text = item.get("data")
        if type(text) is str:
            return text
    if isinstance(item, str):
        return str(item)
    if not isinstance(item, Mapping):
        raise ValueError(f"the service yielded {type(item).__name__}, not a dict with an `event`")
    event, data = item.get("event"), item.get("data")
    if event == "chunk":
        return _chunk(data if data is not None else item)
    fields = {key: value for key, value in item.items() if key not in ("event", "data")}
    if isinstance(data, Mapping):
        fields |= data
    match event:
        case "metadata":
            session_id = fields.pop("session_id", None)
            sources = _sources(fields.pop("sources", None))
            return Metadata(sources, session_id if _is_id(session_id) else None, fields)
        case "done":
            return Done(_sources(fields.pop("sources", None)), fields)
        case "error":
            return Failure(_fault(fields, data))
        case str():
            return Progress({"event": event, **fields, **({} if isinstance(data, Mapping) else {"data": data})})
        case _:
            raise ValueError("the service yielded a dict without an `event`")


def _chunk(data: Any) -> str:
    if isinstance(data, str):
        return str(data)
    if isinstance(data, Mapping):
        for key in CHUNK_KEYS:
            if isinstance(data.get(key), str):
                return str(data[key])
        return ""
    raise ValueError(f"the service yielded a chunk of {type(data).__name__}, not of text")


def _sources(value: Any) -> Sequence[Any] | None:
    return value if isinstance(value, list | tuple) else None


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable()


def _fault(fields: Mapping[str, Any], data: Any) -> Fault:
    """A pipeline's error: with a code, that code and its texts verbatim; without, ours."""
    message = fields.get("message") or fields.get("error") or (data if isinstance(data, str) else None)
    solutions = fields.get("solutions")
    listed = [str(item) for item in solutions] if isinstance(solutions, list | tuple) else []
    code = fields.get("error_code") or fields.get("code")
    return Fault(
        str(code)[:64] if code else "STREAM-001",
        message=str(message) if message else None,
        solutions=tuple(item for item in listed if item),
    )
