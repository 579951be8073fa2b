"""One server process from start to a clean leave: open the service and the hub, listen, drain on a signal.

The first SIGINT or SIGTERM drains (no new turns, running answers get their time, close 1012, exit 0); a second one
leaves at once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, NoReturn

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve

from trialogue_adapters.auth import Misconfigured
from trialogue_adapters.servers.asgi import App
from trialogue_adapters.servers.guard import first_cause
from trialogue_adapters.servers.hypercorn import defaults, guarded
from trialogue_adapters.servers.listener import serve_websockets
from trialogue_adapters.servers.operations import Operations
from trialogue_adapters.settings import Settings
from trialogue_adapters.tuning import tune_process

logger = logging.getLogger(__name__)

FAREWELL_SECONDS = 0.6
"""How long clients get to answer our close frames, of the second that a drain may take past its timeout."""

LEAVE_SECONDS = 0.75
"""How long after the drain's timeout the process ends, come what may. A service may have shielded its own closing, or
may block its thread; but whoever started us will kill us soon, and a clean exit code has to come before that."""


async def serve(
    settings: Settings, app: App, announce: Callable[[str], None], sock: socket.socket | None = None
) -> None:
    """Serve until a signal has drained us. `announce` gets the address once connections are accepted.

    Args:
        sock: accept from this one, which others may accept from, too; else from one of our own.

    Raises:
        OSError: the address cannot be listened on; whatever the service's factory raises comes through.
    """
    listen = _listen_hypercorn if settings.listener == "hypercorn" else _listen_websockets
    leaving = trio.Event()
    async with app.lifespan():
        shortage = tune_process(settings.max_connections)
        if shortage:
            logger.warning(shortage)
        with trio.CancelScope() as patience:
            async with trio.open_nursery() as nursery:
                with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    if settings.ops_port is not None:
                        address = await nursery.start(_listen_operations, settings, app, leaving)
                        logger.info("health and metrics on %s", address)
                    announce(await nursery.start(listen, settings, app, leaving, sock))
                    await _drain_on_signal(app, settings.drain_timeout, signals)
                leaving.set()
                patience.deadline = trio.current_time() + FAREWELL_SECONDS


async def _drain_on_signal(app: App, drain_timeout: float, signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        break
    last_resort = threading.Timer(drain_timeout + LEAVE_SECONDS, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave_at_once_on, signals)
        await app.hub.drain(drain_timeout, FAREWELL_SECONDS)
        nursery.cancel_scope.cancel()


async def _leave_at_once_on(signals: AsyncIterator[int]) -> NoReturn:
    async for _ in signals:
        os._exit(130)
    raise AssertionError("a signal receiver never ends")


def hypercorn_config(settings: Settings) -> Config:
    """Hypercorn's settings from ours."""
    config = Config()
    config.bind = [f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"]
    config.loglevel = "WARNING"
    config.errorlog = logging.getLogger("hypercorn.error")  # without a handler of its own: its lines go our way
    config.errorlog.setLevel(config.loglevel)
    config.graceful_timeout = 0.1  # the hub has drained before
    if settings.certfile and settings.keyfile:
        config.certfile, config.keyfile = str(settings.certfile), str(settings.keyfile)
    for name, value in defaults(settings.heartbeat).items():
        setattr(config, name, value)
    config.backlog = 1024
    return config


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """For TLS 1.2 and later, with hypercorn's choice of ciphers; None without a certificate. Raises OSError."""
    return hypercorn_config(settings).create_ssl_context()


async def _listen_hypercorn(
    settings: Settings,
    app: App,
    leaving: trio.Event,
    sock: socket.socket | None,
    *,
    task_status: trio.TaskStatus[str],
) -> None:
    with guarded(deflate=settings.deflate):
        async with trio.open_nursery() as nursery:
            config = hypercorn_config(settings)
            if sock is not None:
                config.bind = [f"fd://{sock.fileno()}"]
            binds = await nursery.start(_hypercorn, app, config, leaving.wait)
            task_status.started(binds[0])


async def _listen_operations(
    settings: Settings, app: App, leaving: trio.Event, *, task_status: trio.TaskStatus[str]
) -> None:
    """Health and metrics alone, without TLS, until we have left: a probe sees the drain."""
    config = hypercorn_config(settings.model_copy(update={"port": settings.ops_port, "certfile": None}))
    with guarded(deflate=settings.deflate):
        async with trio.open_nursery() as nursery:
            try:
                binds = await nursery.start(_hypercorn, app.operations, config, leaving.wait)
            except* OSError as errors:
                raise Misconfigured(f"--ops-port {settings.ops_port}: {first_cause(errors)}") from None
            task_status.started(binds[0])


async def _hypercorn(
    app: App | Operations, config: Config, until: Any, *, task_status: trio.TaskStatus[list[str]]
) -> None:
    await hypercorn_serve(app, config, shutdown_trigger=until, task_status=task_status, mode="asgi")  # type: ignore[arg-type]


async def _listen_websockets(
    settings: Settings,
    app: App,
    leaving: trio.Event,
    sock: socket.socket | None,
    *,
    task_status: trio.TaskStatus[str],
) -> None:
    tls = tls_context(settings)
    if tls:
        tls.set_alpn_protocols(["http/1.1"])
    listen = partial(serve_websockets, app, tls=tls, deflate=settings.deflate, sock=sock)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(listen, settings.host, settings.port)
        task_status.started(address)
        await leaving.wait()
        nursery.cancel_scope.cancel()
