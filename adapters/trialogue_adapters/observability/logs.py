"""The log of `trialogue serve`: standard logging to stderr, one line per event, JSON where nobody watches.

What a user or a model has said never goes there. Names are fields, so that they can be hidden; of exceptions, also of
those that other libraries put into their lines, only what `errors` lets through is shown. What a service logs itself
goes the same way, with the names of the turn that it is for, but its words are its own.
"""

from __future__ import annotations

import copy
import logging
import sys
import threading
from typing import Any, Literal

import structlog

from trialogue import current_turn
from trialogue_adapters.observability.errors import describe, name_of
from trialogue_adapters.observability.names import Hide, hide_names

logger = logging.getLogger(__name__)

LogFormat = Literal["auto", "console", "json"]
LogErrors = Literal["type", "full"]


def configure_logging(log_format: LogFormat, errors: LogErrors, hide: Hide) -> None:
    """Set the process's logging up. Once: it also takes over what Python would print of exceptions without a home."""
    console = sys.stderr.isatty() if log_format == "auto" else log_format == "console"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(console, errors, hide))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    sys.unraisablehook = lambda homeless: _tell_of("an exception had nowhere to go", homeless.exc_value)
    threading.excepthook = lambda died: _tell_of("a thread died", died.exc_value)


def _tell_of(what: str, error: BaseException | None) -> None:
    logger.warning(what, exc_info=error)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Structlog's, for records of any logger."""

    def __init__(self, console: bool, errors: LogErrors, hide: Hide) -> None:
        def hide_them(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
            hide_names(hide, event)
            return event

        renderer: Any = (
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
            if console
            else structlog.processors.JSONRenderer(ensure_ascii=False)
        )
        super().__init__(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.ExtraAdder(),
                _add_turn,
                hide_them,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info if errors == "full" else _describe_exception,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
        self._full = errors == "full"

    def format(self, record: logging.LogRecord) -> str:
        if not self._full and isinstance(record.args, tuple) and any(isinstance(a, BaseException) for a in record.args):
            record = copy.copy(record)
            record.args = tuple(_Shown(a) if isinstance(a, BaseException) else a for a in record.args or ())
        return super().format(record)


class _Shown:
    """An exception among the arguments of a log line; `%s` and `%r` show the same of it."""

    def __init__(self, error: BaseException) -> None:
        self._name = name_of(error)

    def __repr__(self) -> str:
        return self._name


def _add_turn(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Whose turn the code that logs runs for, unless the line says so itself."""
    turn = current_turn.get()
    return event if turn is None else {**event, **{n: v for n, v in turn.fields().items() if n not in event}}


def _describe_exception(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """`exception`, in place of what structlog would render."""
    told = event.pop("exc_info", None)
    error = told[1] if isinstance(told, tuple) else told
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event
