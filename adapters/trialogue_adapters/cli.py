"""The command line: `trialogue serve`, `trialogue config`.

A person reads what goes wrong here: one line that names the setting, and exit code 2; never a traceback for a typo.
"""

from __future__ import annotations

import logging
import os
import sys
import tomllib
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, NoReturn

import structlog
import trio
from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from trialogue import __version__
from trialogue_adapters.auth import Misconfigured
from trialogue_adapters.bridges import NotAService
from trialogue_adapters.deployment import make_app, say_aside
from trialogue_adapters.rag import RagError
from trialogue_adapters.servers.guard import first_cause
from trialogue_adapters.services import CannotLoad
from trialogue_adapters.serving import serve, tls_context
from trialogue_adapters.settings import CONFIG_VARIABLE, DEFAULT_CONFIG, Settings

USAGE = f"""\
trialogue {__version__}: a session engine for streaming chat

usage:
  trialogue serve [flags]     listen, in the foreground (trialogue serve --help lists the flags)
  trialogue config [flags]    the settings that `serve` with these flags would have
  trialogue --version

Settings come from flags, then TRIALOGUE_* variables, then {DEFAULT_CONFIG} (or ${CONFIG_VARIABLE}), then defaults.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with 0, or with 2 after a line that says what is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    match words[:1]:
        case ["serve"]:
            _serve(read_settings(words[1:]))
        case ["config"]:
            _config(read_settings(words[1:]))
        case ["--version" | "-V"]:
            _say(__version__)
        case [] | ["--help" | "-h" | "help"]:
            _say(USAGE)
        case [word, *_]:
            _fail(f"no such command: {word} (serve, config)")


def read_settings(flags: Sequence[str]) -> Settings:
    """The settings from every source. Exits with a line that names the setting that is wrong."""
    try:
        source = CliSettingsSource[Any](Settings, cli_parse_args=list(flags))
        return Settings(_cli_settings_source=source)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if not first["loc"]:
            _fail(first["msg"].removeprefix("Value error, "))
        name = ".".join(str(part) for part in first["loc"])
        known = name in Settings.model_fields
        whose = f"--{name.replace('_', '-')}" if known else f"{name} (in the settings file or the environment)"
        _fail(f"{whose}: {first['msg'] if known else 'there is no such setting'}")
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        _fail(str(error))


def _config(settings: Settings) -> None:
    for name, value in settings.model_dump(mode="json").items():
        _say(f"{name.replace('_', '-')} = {value}")


def _serve(settings: Settings) -> None:
    _configure_logging()
    if not (settings.authenticates or settings.insecure or _is_loopback(settings.host)):
        _fail(
            f"--host {settings.host}: anybody could connect; give --api-key-file or --auth jwt,"
            " or say --insecure if that is meant"
        )
    try:
        tls_context(settings)
    except OSError as error:
        _fail(f"--certfile {settings.certfile} --keyfile {settings.keyfile}: {error}")
    try:
        app = make_app(settings)
        trio.run(serve, settings, app, lambda address: _say(f"listening on {address}"))
    except Exception as error:  # noqa: BLE001 - the last place where anything can be said to a person
        _fail(_explain(first_cause(error), settings))
    # A bridge's thread that does not end (a service that blocks) must not keep the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _explain(error: BaseException, settings: Settings) -> str:
    if isinstance(error, CannotLoad | Misconfigured | RagError):
        return str(error)
    if isinstance(error, NotAService):
        return f"--service {settings.service!r}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"--host {settings.host} --port {settings.port}: {error}"
    logging.getLogger(__name__).error("failed", exc_info=error)
    cause = f"--service {settings.service!r}: " if settings.service else ""
    return f"{cause}{type(error).__name__}: {error}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _configure_logging() -> None:
    """Standard logging to stderr, through structlog's renderer: one line per event, JSON where nobody watches."""
    renderer: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(line: str) -> NoReturn:
    say_aside(f"trialogue: {line}")
    sys.exit(2)
