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
RUNTIMES = ("asyncio", "trio", "sync")
CHUNK_KEYS = ("content", "text", "token", "chunk", "delta")


class NotAService(TypeError):
    """The object cannot answer turns; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Somebody's service, resolved: `stream(message, session_id, options)`, and its optional `ended` hook."""

    stream: Callable[[str, str, dict[str, Any]], Any]
    ended: Callable[[TurnReceipt, str], Awaitable[None] | None] | None = None


def is_factory(source: Any) -> bool:
    """Must it be called to make the service? A class, or a callable that needs no argument.

    Raises NotAService for a class that cannot be called without arguments.
    """
    if inspect.isclass(source):
        if needed := _needed(source):
            raise NotAService(
                f"{source.__name__} cannot be made without {', '.join(needed)}:"
                " name a function without arguments that makes one, or an instance"
            )
        return True
    return callable(source) and not hasattr(source, METHOD) and not _needed(source)


def _needed(source: Any) -> list[str]:
    """The names of the arguments without which it cannot be called; none of what does not tell (C types)."""
    try:
        parameters = inspect.signature(source).parameters.values()
    except ValueError:
        return []
    loose = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in loose]


def resolve(service: Any, runtime: str) -> Pipeline:
    """Find what to call. Raises NotAService, also for a service that cannot run on `runtime`."""
    if service is None:
        raise NotAService(f"None has no method `{METHOD}`: a function that makes a service must return it")
    stream = getattr(service, METHOD, None)
    if stream is None and callable(service) and not inspect.isclass(service):
        stream = service
    if not callable(stream):
        raise NotAService(f"{type(service).__name__} has no method `{METHOD}(message, session_id, options)`")
    fitted = _with_options(stream)
    _check_runtime(service, stream, runtime)
    ended = getattr(service, "ended", None)
    return Pipeline(fitted, ended if callable(ended) else None)


def _check_runtime(service: Any, stream: Any, runtime: str) -> None:
    """As far as it can be told before the first turn: by what the service says, or by its kind of function."""
    declared = getattr(service, "runtime", None)
    if declared in RUNTIMES and declared != runtime:
        raise NotAService(f"{type(service).__name__} runs on {declared}: add --service-runtime {declared}")
    if runtime == "sync":
        if inspect.isasyncgenfunction(stream) or inspect.iscoroutinefunction(stream):
            raise NotAService(f"`{_called(stream)}` is async: add --service-runtime asyncio (or trio)")
    elif inspect.isgeneratorfunction(stream):
        raise NotAService(
            f"`{_called(stream)}` is no async generator but a plain one: add --service-runtime sync, or say `async def`"
        )


def _called(stream: Any) -> str:
    return getattr(stream, "__name__", METHOD)


WRONG_LOOP = {
    "no running event loop": "asyncio",
    "must be called from async context": "trio",
    "Task got bad yield: <class 'trio": "trio",
}
"""What asyncio says outside its loop, what Trio says outside its run, and what asyncio says of an awaited Trio."""


def explained(error: Exception, runtime: str) -> Exception:
    """The error, or, if it says that the service is on the wrong runtime, one that names the right one."""
    words, needed = next(((words, loop) for words, loop in WRONG_LOOP.items() if words in str(error)), ("", None))
    if not isinstance(error, RuntimeError) or needed in (None, runtime):
        return error
    return NotAService(f"on {runtime} it raises {words!r}: add --service-runtime {needed}")


def check_stream(stream: Any, attribute: str) -> None:
    """Is this what a pipeline returns? Raises NotAService, which fails the turn, and says why in the log."""
    if not hasattr(stream, attribute):
        raise NotAService(
            f"`{METHOD}` returned {type(stream).__name__}, not a generator: yield the pieces, or wrap the function by"
            " plain_service (docs/bridges.md)"
        )


def _with_options(stream: Callable[..., Any]) -> Callable[[str, str, dict[str, Any]], Any]:
    """The stream as a function of three arguments; some services take no options."""
    parameters = list(inspect.signature(stream).parameters.values())
    keyword = any(p.name == "options" or p.kind is p.VAR_KEYWORD for p in parameters)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    star = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(positional) < 2 and not star:
        raise NotAService(
            f"`{METHOD}` must take (message, session_id) and may take options; for a function of (message),"
            " see plain_service in docs/bridges.md"
        )
    ours = [*(p.name for p in positional[:3]), "options"]
    more = [name for name in _needed(stream) if name not in ours]
    if more:
        raise NotAService(f"`{METHOD}` needs more than (message, session_id, options): {', '.join(more)}")
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
