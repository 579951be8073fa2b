"""Finding the service that a deployer named, with errors that say what is wrong with the name.

A name is loaded here and not yet called: what is wrong with the thing itself (its arguments, its runtime) is said by
the bridge that opens it. Everything that is raised is one line for the person who typed the name, and says what helps.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trialogue_adapters.bridges import Runtime
from trialogue_adapters.rag import EmbeddedChatService, progress_bar
from trialogue_adapters.settings import Settings

EXTRACT_PACE = 0.02
"""Seconds between the pieces of an extract: slow enough to read along and to interrupt."""

SSE = "sse:"
"""Before the address of an event stream, in the place of MODULE:ATTR. (No attribute has a slash in its name.)"""


class CannotLoad(Exception):
    """The service cannot be loaded; the message says why, for the person who typed the name."""


def find(settings: Settings, tell: Callable[[str], None]) -> tuple[Any, Runtime]:
    """The service that the settings describe, or what makes it, and what it runs on. Raises CannotLoad.

    `tell` gets the line that says what it is, if it is one of ours.
    """
    name = settings.service
    if name and name.startswith(SSE):
        return _event_stream(name, tell), "trio"
    if name:
        return load(name), settings.service_runtime
    if settings.answer == "openai":
        return _openai(settings, tell), "trio"
    return _embedded(settings, tell), "asyncio"


def load(name: str) -> Any:
    """Import `MODULE:ATTR`; the current folder is importable. Raises CannotLoad."""
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise CannotLoad(f"--service {name!r}: must be MODULE:ATTR, such as myservice:service")
    if module_name.endswith(".py") or os.sep in module_name or module_name.startswith("."):
        meant = module_name.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise CannotLoad(f"--service {name!r}: a module's name, not a file's: try {meant}:{path}")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - as Python itself puts it there
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    found: Any = _import(name, module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(f"--service {name!r}: {module_name!r} has no {part!r}{_near(part, dir(found))}") from None
        except Exception as error:
            raise CannotLoad(f"--service {name!r}: reading {part!r} raised {error!r}") from error
    if found is None:
        raise CannotLoad(f"--service {name!r}: it is None, and has no stream_rag_pipeline")
    return found


def _import(name: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            near = _near(module_name, [path.stem for path in Path().glob("*.py")])
            whose = f"there is no module {error.name!r} in this folder or in this Python{near}"
        else:
            whose = f"it needs {error.name!r}, which is not installed in this Python{_where(error)}"
        raise CannotLoad(f"--service {name!r}: cannot import {module_name!r}: {whose}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a script that calls sys.exit, too
        what = " ".join(f"{type(error).__name__}: {error}".split())
        hint = " (keep what a script does behind `if __name__`)" if isinstance(error, SystemExit) else ""
        raise CannotLoad(f"--service {name!r}: importing {module_name!r} raised {what}{_where(error)}{hint}") from error


def _near(word: str, words: Sequence[str]) -> str:
    near = get_close_matches(word, words, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _where(error: BaseException) -> str:
    """The last line of the deployer's that was run."""
    if isinstance(error, SyntaxError):
        return ""  # says so itself
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    return f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""


def _event_stream(name: str, tell: Callable[[str], None]) -> Callable[[], Any]:
    from trialogue_adapters.bridges.sse import SseService  # here: most servers need no HTTP client

    url = name.removeprefix(SSE)

    def make() -> SseService:
        try:
            service = SseService(url)
        except ValueError as error:
            raise CannotLoad(f"--service {name!r}: {error}") from None
        tell(f"answers come from {service!r}")
        return service

    return make


def _openai(settings: Settings, tell: Callable[[str], None]) -> Callable[[], Any]:
    """A factory of the bridge to a model's server, with the documents in front of it unless these are not wanted."""
    from trialogue_adapters.bridges.openai import OpenAIService
    from trialogue_adapters.grounding import Grounding

    url, model, key = settings.llm_url, settings.model, settings.llm_api_key
    assert url and model  # noqa: PT018 - the settings have been checked
    secret = key.get_secret_value() if key else None

    async def make() -> OpenAIService:
        grounding = Grounding(settings.docs, progress_bar(sys.stderr)) if settings.retrieval else None
        if grounding:
            await grounding.start()
        try:
            service = OpenAIService(url, model, key=secret, prepare=grounding)
        except ValueError as error:
            raise CannotLoad(f"--llm-url: {error}") from None
        documents = grounding.describe() if grounding else "no documents"
        tell(f"answers by {await service.probe()}; {documents}")
        return service

    return make


def _embedded(settings: Settings, tell: Callable[[str], None]) -> Callable[[], Any]:
    """A factory of the embedded RAG, to be called inside its loop."""
    assert settings.answer != "openai"
    answer = settings.answer

    async def make() -> EmbeddedChatService:
        service = EmbeddedChatService(
            docs=settings.docs, answer=answer, progress=progress_bar(sys.stderr), pace=EXTRACT_PACE
        )
        await service.start()
        tell(service.describe())
        return service

    return make
