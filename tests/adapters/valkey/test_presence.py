"""What a node needs of a server is looked at when it comes: a server or a user that will not do is one clear line."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from support.pages import texts
from support.valkey import StoreServer, debian_binary, free_port, store_server
from trialogue.core.letters import NotMine
from trialogue.store import Key, StoreGone
from trialogue_adapters.valkey.presence import _check_server
from trialogue_adapters.valkey.resp import ErrorReply, Refused, Reply

from .conftest import BINARIES, opened

(RIGHTS,) = texts("scale.md", "text")
COMMANDS = [word for word in RIGHTS.split() if word.startswith("+")]

ALWAYS = ("+hello", "+auth", "+select")
"""What needs no right, or is not needed by this address."""


async def refused(url: str) -> str:
    """The one line that is said."""
    with pytest.RaisesGroup(StoreGone) as caught:
        async with opened(url):
            raise AssertionError("it opened")
    (error,) = caught.value.exceptions
    return str(error)


@pytest.mark.parametrize("right", [word for word in COMMANDS if word not in ALWAYS])
async def test_a_user_without_one_of_the_rights_is_told_which(valkey: StoreServer, right: str) -> None:
    valkey.ask(*RIGHTS.replace("SECRET", "secret").replace(f" {right}", "").split(), f"-{right[1:]}")
    line = await refused(f"redis://trialogue:secret@127.0.0.1:{valkey.port}")
    assert f"127.0.0.1:{valkey.port}: NOPERM" in line
    assert f"'{right[1:]}'" in line


async def test_a_user_of_other_keys_is_told_so(valkey: StoreServer) -> None:
    valkey.ask(*RIGHTS.replace("SECRET", "secret").replace("~trialogue:*", "~other:*").split())
    assert "NOPERM" in await refused(f"redis://trialogue:secret@127.0.0.1:{valkey.port}")


async def test_of_a_node_that_is_gone_nothing_is_kept(valkey: StoreServer, key: Key) -> None:
    async with opened(valkey.url) as (store, heed):
        async with opened(valkey.url) as (other, _):
            store.watch(other.node)
            other.send(store.node, NotMine(key, other.node))
            await heed.until(lambda: heed.letters)
        await heed.heard("node_gone", within=1)
        assert (store._watched, store._reader._numbers) == (set(), {})


@pytest.fixture(scope="module")
def locked() -> Generator[StoreServer]:
    """One that wants a password."""
    with store_server(debian_binary(), "--requirepass", "secret") as server:
        yield server


@pytest.mark.parametrize(
    ("user", "words"),
    [("", "wants a password"), (":wrong@", "WRONGPASS"), ("app:secret@", "WRONGPASS")],
)
async def test_who_is_not_let_in_is_told_why(locked: StoreServer, user: str, words: str) -> None:
    line = await refused(f"redis://{user}127.0.0.1:{locked.port}")
    assert words in line
    assert "secret" not in line


async def test_a_database_that_there_is_not(valkey: StoreServer) -> None:
    assert "out of range" in await refused(f"{valkey.url}/99")


async def test_a_server_without_tls(valkey: StoreServer) -> None:
    assert f"127.0.0.1:{valkey.port}: no answer over TLS within 2 s" in await refused(
        f"rediss://127.0.0.1:{valkey.port}"
    )


@pytest.mark.parametrize("binary", BINARIES)
async def test_a_clusters_node_is_not_served_from(binary: str) -> None:
    bus = ("--cluster-port", str(free_port()))  # else it is 10,000 above the other, which can be too high
    with store_server(BINARIES[binary](), "--cluster-enabled", "yes", *bus) as server:
        assert "it is a cluster, which is not supported" in await refused(server.url)


def hello(version: bytes, mode: bytes = b"standalone") -> Reply:
    return [b"server", b"redis", b"version", version, b"proto", 2, b"mode", mode, b"role", b"master", b"modules", []]


@pytest.mark.parametrize("version", [b"6.2.0", b"6.2", b"7.0.15", b"10.0.0", b"9.1.2-rc1"])
def test_a_server_that_will_do(version: bytes) -> None:
    _check_server([hello(version)])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (hello(b"6.0.16"), "its version is 6.0.16; 6.2 is the oldest"),
        (hello(b"5.9.0"), "its version is 5.9.0"),
        (hello(b""), "6.2 is the oldest"),
        (hello(b"7.2.4", b"sentinel"), "it is a sentinel, which is not supported"),
        (ErrorReply("ERR unknown command `HELLO`, with args beginning with: `2`, "), "older than Redis 6.2"),
        (ErrorReply("NOPERM this user has no permissions to run the 'hello' command"), "NOPERM"),
        (ErrorReply("LOADING Redis is loading the dataset in memory"), "LOADING"),
    ],
)
def test_a_server_that_will_not(said: Reply, words: str) -> None:
    """What those say that are not here to be asked."""
    with pytest.raises(Refused, match=words):
        _check_server([said])
