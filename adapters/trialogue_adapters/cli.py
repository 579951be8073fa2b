"""The command line: `trialogue serve`, `trialogue chat`, `trialogue config`, `trialogue spec`, `trialogue conformance`.

A person reads what goes wrong here: one line that names the setting, and exit code 2; never a traceback for a typo.
Exit code 1 is a crash of a server that had started: nothing that other settings would mend.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

import trio
from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from trialogue import __version__
from trialogue.store import StoreGone
from trialogue_adapters import spec
from trialogue_adapters.auth import Misconfigured
from trialogue_adapters.bridges import NotAService
from trialogue_adapters.deployment import make_app, make_hide, say_aside, with_one_secret
from trialogue_adapters.effective import effective
from trialogue_adapters.observability.errors import name_of
from trialogue_adapters.observability.logs import configure_logging
from trialogue_adapters.rag import RagError
from trialogue_adapters.servers.guard import first_cause
from trialogue_adapters.services import CannotLoad
from trialogue_adapters.serving import serve, tls_context
from trialogue_adapters.settings import CONFIG_VARIABLE, DEFAULT_CONFIG, Settings
from trialogue_adapters.workers import Workers, listen

logger = logging.getLogger(__name__)

CRASHED, WRONG = 1, 2
"""Exit codes."""

USAGE = f"""\
trialogue {__version__}: a session engine for streaming chat

usage:
  trialogue serve [flags]     listen, in the foreground (trialogue serve --help lists the flags)
  trialogue chat URL          talk to a server from this terminal, or through a pipe (trialogue chat --help)
  trialogue config [flags]    the settings that `serve` with these flags would have, as a file for its --config
  trialogue spec              the wire as an AsyncAPI document, in JSON
  trialogue conformance URL   does the server there speak this protocol? (trialogue conformance --help tells more)
  trialogue --version

Settings come from flags, then TRIALOGUE_* variables, then {DEFAULT_CONFIG} (or --config, ${CONFIG_VARIABLE}), then
defaults. Exit codes: 0 done, 1 a server crashed, 2 something in the settings or the surroundings is wrong.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with 0, or with 2 (a crash: 1) after a line that says what is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    match words[:1]:
        case ["serve"]:
            _serve(read_settings(words[1:]))
        case ["chat"]:
            from trialogue_adapters.terminal import chat  # here: a server needs no client

            sys.exit(chat(words[1:]))
        case ["config"]:
            _config(*_read(words[1:]))
        case ["spec"]:
            _say(spec.as_json().decode().rstrip())
        case ["conformance"]:
            from trialogue_adapters.conformance.command import main as conformance  # here, for the same reason

            sys.exit(conformance(words[1:]))
        case ["--version" | "-V"]:
            _say(__version__)
        case [] | ["--help" | "-h" | "help"]:
            _say(USAGE)
        case [word, *_]:
            _fail(f"no such command: {word} (serve, chat, config, spec, conformance)")


def read_settings(flags: Sequence[str]) -> Settings:
    """The settings from every source. Exits with a line that names the setting that is wrong."""
    return _read(flags)[0]


def _read(flags: Sequence[str]) -> tuple[Settings, Mapping[str, Any]]:
    """The settings, and what the flags gave of them."""
    try:
        source = CliSettingsSource[Any](Settings, cli_parse_args=list(flags))
        given = source()
        if "config" in given and not Path(given["config"]).exists():
            _fail(f"--config {given['config']}: there is no such file")
        return Settings(_cli_settings_source=source), given
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


def _config(settings: Settings, flags: Mapping[str, Any]) -> None:
    for line in effective(settings, flags):
        _say(line)


def _serve(settings: Settings) -> None:
    try:
        configure_logging(settings.log_format, settings.log_errors, make_hide(settings))
    except Misconfigured as error:
        _fail(str(error))
    if not (settings.authenticates or settings.insecure or _is_loopback(settings.host)):
        _fail(
            f"--host {settings.host}: anybody could connect; give --api-key-file or --auth jwt,"
            " or say --insecure if that is meant"
        )
    try:
        tls_context(settings)
    except OSError as error:
        _fail(f"--certfile {settings.certfile} --keyfile {settings.keyfile}: {error}")
    if settings.workers == 1:
        _run(settings, None, lambda address: _say(f"listening on {address}"))
    try:
        sock = listen(settings.host, settings.port)
    except OSError as error:
        _fail(f"--host {settings.host} --port {settings.port}: {error}")
    work = partial(_work, with_one_secret(settings))
    sys.exit(Workers(settings.workers, sock, work, lambda address: _say(f"listening on {address}")).run())


def _work(settings: Settings, number: int, sock: socket.socket, ready: Callable[[str], None]) -> NoReturn:
    """One of several workers. Each has an ops port of its own: the given one and those after it."""
    ops_port = settings.ops_port + number if settings.ops_port else settings.ops_port
    _run(settings.model_copy(update={"ops_port": ops_port}), sock, ready)


def _run(settings: Settings, sock: socket.socket | None, ready: Callable[[str], None]) -> NoReturn:
    """Serve in this process, and end it."""
    started = False

    def announce(address: str) -> None:
        nonlocal started
        started = True
        ready(address)

    try:
        app = make_app(settings)
        trio.run(serve, settings, app, announce, sock)
    except Exception as error:
        cause = first_cause(error)
        if started:
            logger.critical("crashed", exc_info=cause)
            _fail(f"crashed: {name_of(cause)}", CRASHED)
        _fail(_explain(cause, settings))
    finally:
        if started and settings.otel:
            from trialogue_adapters.observability.otel import close

            close()
    # A bridge's thread that does not end (a service that blocks) must not keep the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _explain(error: BaseException, settings: Settings) -> str:
    if isinstance(error, CannotLoad | Misconfigured | RagError):
        return str(error)
    if isinstance(error, StoreGone):
        return f"--redis-url: {error}"
    if isinstance(error, NotAService):
        return f"--service {settings.service!r}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"--host {settings.host} --port {settings.port}: {error}"
    logger.error("cannot start", exc_info=error)
    cause = f"--service {settings.service!r}: " if settings.service else ""
    return f"{cause}{type(error).__name__}: {error}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(line: str, code: int = WRONG) -> NoReturn:
    say_aside(f"trialogue: {line}")
    sys.exit(code)
