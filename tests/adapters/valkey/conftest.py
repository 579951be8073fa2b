"""Real servers for a module's tests, and stores that talk to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Any

import pytest

from support.heed import Noted
from support.valkey import StoreServer, debian_binary, store_server, valkey_binary

_numbers = count(1)

BINARIES = {"valkey": valkey_binary, "redis": debian_binary}

Opened = Callable[..., AbstractAsyncContextManager[tuple[Any, Noted]]]


@pytest.fixture(scope="module", params=BINARIES)
def any_server(request: pytest.FixtureRequest) -> Generator[StoreServer]:
    """The module's server: Valkey, and again Debian's Redis."""
    with store_server(BINARIES[request.param]()) as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Generator[StoreServer]:
    """The module's Valkey."""
    with store_server(valkey_binary()) as server:
        yield server


@pytest.fixture
def own_valkey() -> Generator[StoreServer]:
    """A Valkey for one test, to be mistreated."""
    with store_server(valkey_binary()) as server:
        yield server


@pytest.fixture
def key() -> tuple[str, str]:
    """A session that no other test has."""
    return ("ann", f"s-{next(_numbers)}")


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[tuple[Any, Noted]]:
    """A node's store at that URL, and who listens to it."""
    pytest.importorskip("coredis")
    from trialogue_adapters.valkey import Address, ValkeyStore

    store, heed = ValkeyStore(Address.parse(url), **options), Noted()
    async with store.open(heed):
        yield store, heed
