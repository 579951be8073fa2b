"""Somebody who is there while another client is rude, and must not notice."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from support.raw_client import open_client
from support.server import Server

PATIENCE = 1.0


@asynccontextmanager
async def unnoticed(server: Server) -> AsyncGenerator[None]:
    """After the block, a bystander's ping is answered within a second, by the same processes."""
    before = server.pids()
    async with open_client(server) as bystander:
        yield
        with trio.fail_after(PATIENCE):
            assert await bystander.quiet() == []
    assert server.alive
    assert server.pids() == before
