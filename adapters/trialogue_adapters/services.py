"""Finding the service that a deployer named, with errors that say what is wrong with the name."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from trialogue_adapters.rag import EmbeddedChatService, progress_bar
from trialogue_adapters.settings import Settings

EXTRACT_PACE = 0.02
"""Seconds between the pieces of an extract: slow enough to read along and to interrupt."""


class CannotLoad(Exception):
    """The service cannot be loaded; the message says why, for the person who typed the name."""


def load(name: str) -> Any:
    """Import `MODULE:ATTR`; the current folder is importable. Raises CannotLoad."""
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise CannotLoad(f"--service {name!r}: must be MODULE:ATTR, such as myservice:service")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - as Python itself puts it there
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        whose = "no module of that name" if error.name == module_name.split(".")[0] else f"it needs {error.name!r}"
        raise CannotLoad(f"--service {name!r}: cannot import {module_name!r}: {whose}") from error
    except Exception as error:
        raise CannotLoad(f"--service {name!r}: importing {module_name!r} raised {error!r}") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(f"--service {name!r}: {module_name!r} has no {part!r}") from None
    if found is None:
        raise CannotLoad(f"--service {name!r}: it is None, and has no stream_rag_pipeline")
    return found


def embedded(settings: Settings, tell: Callable[[str], None]) -> Callable[[], Any]:
    """A factory of the embedded RAG, to be called inside its loop; `tell` gets the line that says what it is."""

    async def make() -> EmbeddedChatService:
        service = EmbeddedChatService(
            docs=settings.docs, answer=settings.answer, progress=progress_bar(sys.stderr), pace=EXTRACT_PACE
        )
        await service.start()
        tell(service.describe())
        return service

    return make
