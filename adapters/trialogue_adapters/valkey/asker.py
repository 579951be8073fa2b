"""Questions to the store, one at a time or many: over coredis, each with a deadline of its own.

A connection of coredis is used without its pool: a pooled one that timed out would be used again although it is dead,
and a caller who is cancelled while it connects takes a place in the pool with him. Nothing is asked twice by itself.
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis.connection import (
    BaseConnection,
    TCPConnection,
    TCPLocation,
    UnixDomainSocketConnection,
    UnixDomainSocketLocation,
)
from coredis.exceptions import RedisError

from trialogue.store import StoreGone
from trialogue_adapters.valkey.address import Address

logging.getLogger("coredis").setLevel(logging.CRITICAL)
"""It logs a traceback for each connection that fails. Who asks is told by an exception, and says it once."""


class Asker:
    """One connection, opened when it is first needed, and again after it broke. `nursery`: where it lives."""

    def __init__(self, address: Address, nursery: trio.Nursery, patience: float) -> None:
        self._address = address
        self._nursery = nursery
        self._patience = patience
        self._connection: BaseConnection | None = None
        self._connecting = trio.Lock()

    async def ask(self, *words: bytes, patience: float | None = None) -> Any:
        """The reply to one command. Raises StoreGone: no reply within `patience` seconds, or an error.

        Cancelled: it may have been carried out.
        """
        with trio.move_on_after(self._patience if patience is None else patience):
            try:
                connection = await self._connected()
                return await connection.create_request(words[0], *words[1:], decode=False)
            except (RedisError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise StoreGone(f"{type(error).__name__}: {error}") from None
        self.hang_up()
        raise StoreGone(f"no reply to {words[0].decode()}")

    def hang_up(self) -> None:
        """What was asked and not answered fails; the next question opens a new connection."""
        connection, self._connection = self._connection, None
        if connection:
            connection.invalidate()

    async def _connected(self) -> BaseConnection:
        async with self._connecting:
            if self._connection is None or not self._connection.usable:
                connection = self._make()
                try:
                    await self._nursery.start(connection.run)
                except BaseException:
                    _dispose(connection)
                    raise
                self._connection = connection
            return self._connection

    def _make(self) -> BaseConnection:
        address = self._address
        options: dict[str, Any] = {"username": address.username, "password": address.password, "db": address.db}
        if address.path is not None:
            return UnixDomainSocketConnection(UnixDomainSocketLocation(address.path), **options)
        return TCPConnection(TCPLocation(address.host, address.port), ssl_context=address.tls, **options)


def _dispose(connection: BaseConnection) -> None:
    """Close the buffers of a connection that could not be opened: coredis forgets to, and each of them complains."""
    for part in vars(connection).values():
        if isinstance(part, MemoryObjectReceiveStream | MemoryObjectSendStream):
            part.close()
