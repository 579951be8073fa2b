"""Where a store is: URLs that name one, and others; TLS that checks whom it talks to; a user with few rights."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from pathlib import Path

import pytest
import trio
import trustme

from support.heed import Writer
from support.pages import texts
from support.valkey import StoreError, StoreServer, debian_binary, store_server
from trialogue.core.events import Started, Tokens
from trialogue.core.letters import Types
from trialogue.log import Position
from trialogue.store import StoreGone, Verdict

pytest.importorskip("coredis")

from trialogue_adapters.valkey import Address, BadAddress

from .conftest import opened

(RIGHTS,) = texts("scale.md", "text")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://store", Address("store", 6379)),
        ("redis://store:1234/3", Address("store", 1234, db=3)),
        ("redis://:se%2Fcret@store", Address("store", 6379, password="se/cret")),
        ("redis://app:secret@[::1]:7000/0", Address("::1", 7000, username="app", password="secret")),
        ("unix:///run/valkey.sock?db=2", Address("", 6379, path="/run/valkey.sock", db=2)),
        ("rediss://store:1", Address("store", 1)),
    ],
)
def test_a_url_that_names_a_store(url: str, address: Address) -> None:
    parsed = Address.parse(url)
    assert parsed == address
    assert (parsed.tls is not None) is url.startswith("rediss")
    assert "secret" not in f"{parsed!r} {parsed}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://store", "must begin with"),
        ("store:6379", "must begin with"),
        ("", "must begin with"),
        ("redis://", "no host"),
        ("redis://store:port", "port is no number"),
        ("redis://store:99999", "port is no number"),
        ("redis://store:0", "port 0"),
        ("redis://store/one", "is a number"),
        ("redis://store/0?db=one", "is a number"),
        ("redis://app@store", "a user and no password"),
        ("redis://app:@store", "a user and no password"),
        ("redis://store#1", "percent-encoded"),
        ("unix://", "no path"),
        ("unix:///?db=1", "no path"),
        ("unix://run/valkey.sock", "third slash"),
        ("unix://:6379/run/valkey.sock", "third slash"),
        ("redis://store?ssl_cert_reqs=none", "unknown option 'ssl_cert_reqs'"),
        ("rediss://store?ssl_ca_certs=/nowhere", "cannot be loaded"),
        ("rediss://store?ssl_keyfile=key.pem", "needs ssl_certfile"),
        ("redis://store?ssl_ca_certs=", "unknown option 'ssl_ca_certs'"),
        ("redis://[::1", "percent-encoded"),
    ],
)
def test_a_url_that_names_none(url: str, words: str) -> None:
    with pytest.raises(BadAddress, match=words):
        Address.parse(url)


@pytest.mark.parametrize("mark", "/?#[]")
@pytest.mark.parametrize("before", ["hush", "12"])
@pytest.mark.parametrize("user", ["", "app"])
def test_a_password_that_is_not_encoded_is_not_shown(mark: str, before: str, user: str) -> None:
    """One that begins with a number reads like a port."""
    with pytest.raises(BadAddress, match="percent-encoded") as caught:
        Address.parse(f"redis://{user}:{before}{mark}34hush@store:6379/0")
    assert "hush" not in str(caught.value)
    assert "34" not in str(caught.value)


def test_tls_checks_the_certificate_and_the_name() -> None:
    context = Address.parse("rediss://store").tls
    assert context
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[StoreServer, Path, int]]:
    """A server with TLS (Debian's: the wheel's is built without), its authority's file and its port."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    with store_server(debian_binary()) as plain:
        port = plain.port
    files = {"cert": "cert.pem", "key": "key.pem", "ca-cert": "ca.pem"}
    flags = [word for what, name in files.items() for word in (f"--tls-{what}-file", str(folder / name))]
    with store_server(debian_binary(), "--tls-port", str(port), "--tls-auth-clients", "no", *flags) as server:
        yield server, folder / "ca.pem", port


async def test_over_tls(secure: tuple[StoreServer, Path, int], key: tuple[str, str]) -> None:
    _, authority, port = secure
    async with opened(f"rediss://localhost:{port}?ssl_ca_certs={authority}") as (store, heed):
        writer = Writer(store, heed, key)
        await writer.claim()
        assert await writer.write(Started("m", "s", "t")) is Verdict.WRITTEN
        assert len(await store.read(key)) == 2


@pytest.mark.parametrize("url", ["rediss://localhost:{port}", "rediss://127.0.0.1:{port}?ssl_ca_certs={authority}"])
async def test_an_unknown_authority_or_another_name_is_not_talked_to(
    secure: tuple[StoreServer, Path, int], url: str
) -> None:
    _, authority, port = secure
    with pytest.RaisesGroup(pytest.RaisesExc(StoreGone, match="certificate verify failed")):
        async with opened(url.format(port=port, authority=authority)):
            raise AssertionError("it opened")


async def test_the_user_that_the_page_tells_of_suffices(any_server: StoreServer, key: tuple[str, str]) -> None:
    """Everything that the port can do, as a user with no right that is not listed."""
    any_server.ask(*RIGHTS.replace("SECRET", "secret").split())
    url = f"redis://trialogue:secret@127.0.0.1:{any_server.port}"
    async with opened(url) as (store, heed), opened(url) as (other, inbox):
        writer = Writer(store, heed, key)
        await writer.claim()
        other.follow(key, Position(writer.epoch, 0), inbox.deliver)
        other.watch(store.node)
        assert await writer.write(Started("m", "s", "t"), Tokens("m", 0, ["a"])) is Verdict.WRITTEN
        assert await store.owner(key) == store.node
        assert await other.alive(store.node)
        assert len(await store.read(key, Position(writer.epoch, 2))) == 1
        store.touch(key, 100)
        store.trim(key, Position(writer.epoch, 1))
        store.send(other.node, Types(key, store.node, 1, active=True))
        await inbox.until(lambda: len(inbox.stored) == 3 and inbox.letters)
        await trio.sleep(1.2)  # a renewal
        assert (heed.names, inbox.names) == ([], [])
        store.delete(key)
        await gone(store, key)
    assert {entry[entry.index(b"object") + 1] for entry in any_server.ask("ACL", "LOG")} <= {b"client|setinfo"}


async def gone(store: object, key: tuple[str, str]) -> None:
    with trio.fail_after(2):
        while await store.read(key):  # type: ignore[attr-defined]
            await trio.sleep(0.01)


async def test_the_user_that_the_page_tells_of_can_do_no_more(valkey: StoreServer) -> None:
    valkey.ask(*RIGHTS.replace("SECRET", "secret").split())
    for words in (("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("GET", "another"), ("SCAN", "0")):
        assert "no permissions" in str(valkey.ask("ACL", "DRYRUN", "trialogue", *words)), words
    with pytest.raises(StoreError, match="WRONGPASS"):
        valkey.ask("AUTH", "trialogue", "wrong")
