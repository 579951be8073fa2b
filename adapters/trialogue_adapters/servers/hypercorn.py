"""Hypercorn's Trio worker, guarded: subclasses of a pinned version, put where it looks its own classes up.

`guarded()` does it for the length of a block, as `trialogue serve` does; `harden()` does it to a process that the
plain `hypercorn` command has started, for good. What is guarded: `tcp_server.py`, `ws_stream.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hypercorn.protocol
import hypercorn.protocol.h2
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import hypercorn.trio.run
import hypercorn.trio.tcp_server
from hypercorn.config import Config

from trialogue_adapters.servers.guard import HANDSHAKE_SECONDS
from trialogue_adapters.servers.handshake import MAX_HEAD_BYTES
from trialogue_adapters.servers.tcp_server import GuardedH11Protocol, GuardedTaskGroup, GuardedTCPServer
from trialogue_adapters.servers.ws_stream import DeflatingHandshake, GuardedHandshake, GuardedWSStream


def defaults(heartbeat: float) -> Mapping[str, Any]:
    """Hypercorn's settings as we want them where nobody says otherwise.

    A connection without a whole request is closed after `keep_alive_timeout`, however slowly bytes drip in.
    """
    return {
        "h11_max_incomplete_size": MAX_HEAD_BYTES,
        "keep_alive_timeout": HANDSHAKE_SECONDS,
        "read_timeout": heartbeat * 2 + 1,
        "ssl_handshake_timeout": HANDSHAKE_SECONDS,
        "websocket_ping_interval": heartbeat,
        "include_server_header": False,
    }


def _places(*, deflate: bool) -> Sequence[tuple[Any, str, Any]]:
    """Where the stock looks its classes up, and what it is to find there."""
    return (
        (hypercorn.trio.run, "TCPServer", GuardedTCPServer),
        (hypercorn.trio.tcp_server, "TaskGroup", GuardedTaskGroup),
        (hypercorn.protocol, "H11Protocol", GuardedH11Protocol),
        (hypercorn.protocol.h11, "WSStream", GuardedWSStream),
        (hypercorn.protocol.h2, "WSStream", GuardedWSStream),
        (hypercorn.protocol.ws_stream, "Handshake", DeflatingHandshake if deflate else GuardedHandshake),
    )


@contextmanager
def guarded(*, deflate: bool = False) -> Generator[None]:
    """Serve with the subclasses for the length of the block: every server started inside it is guarded."""
    places = _places(deflate=deflate)
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, ours in places:
        setattr(module, name, ours)
    try:
        yield
    finally:
        for (module, name, _), stock in zip(places, before, strict=True):
            setattr(module, name, stock)


def harden(heartbeat: float, *, deflate: bool = False) -> None:
    """Put the subclasses into the hypercorn that runs this process, for good, and our defaults under its own flags.

    To be called at the lifespan's start-up: its workers look the classes up after that, when they begin to listen.
    """
    for module, name, ours in _places(deflate=deflate):
        setattr(module, name, ours)
    for name, value in defaults(heartbeat).items():
        setattr(Config, name, value)
