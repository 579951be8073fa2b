"""TLS, by `--certfile` and `--keyfile`: the same service on the same port, spelt wss and https."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from pathlib import Path

import pytest
import trio
import trustme

from support.raw_client import Refused, chat_path, frame, kinds, open_client, open_wire, request, tokens
from support.server import LISTENERS, PLAIN, Server, running

PLAIN_GET = dict.fromkeys(["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"], None)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=[*LISTENERS, PLAIN])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with running(folder, request.param, certificate(folder, authority)) as server:
        server.tls = ssl.create_default_context()
        authority.configure_trust(server.tls)
        yield server


def certificate(folder: Path, authority: trustme.CA) -> tuple[str, ...]:
    """The flags that name one for 127.0.0.1."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    issued.private_key_pem.write_to_path(key)
    for part in issued.cert_chain_pems:
        part.write_to_path(chain, append=True)
    return ("--certfile", str(chain), "--keyfile", str(key))


async def test_the_address_says_https(server: Server) -> None:
    assert server.address.startswith("https://127.0.0.1:")


async def test_a_conversation_over_wss(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        turn = await client.turn(await client.say(tokens=30, pace=0.005))
        assert (turn[-1]["finish_reason"], turn[-1]["total_tokens"]) == ("stop", 30)
        assert len(tokens(turn)) == 30


async def test_an_answer_is_interrupted_over_wss(server: Server) -> None:
    async with open_client(server) as client:
        old = await client.say(tokens=1000, pace=0.01)
        await client.wait_for("stream_token")
        new = await client.say()
        turn = await client.turn(old)
        assert turn[-1]["finish_reason"] == "interrupted"
        assert (await client.turn(new))[-1]["finish_reason"] == "stop"


async def test_an_answer_that_is_larger_than_the_buffers_is_whole(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(texts=["x" * 20_000] * 3, tokens=0, at={})
        big = await client.turn(message_id)
        assert sum(map(len, tokens(big))) == 60_000
        many = await client.turn(await client.say(tokens=20_000))
        assert [body["index"] for body in many if body["type"] == "stream_token"] == list(range(20_000))


async def test_a_close_with_1000_stops_the_answer(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=1000, pace=0.01)
        await client.wait_for("stream_token")
        await client.close(1000)
    assert (await server.recorded("ended", message_id))["ending"] == "cancelled"


async def test_a_bad_frame_is_told_its_code(server: Server) -> None:
    async with open_client(server) as client:
        await client.wire.send(frame(b"x", length=1 << 40))
        assert (await client.end()).code == 1009


async def test_a_refusal_reaches_the_client(server: Server) -> None:
    with pytest.raises(Refused) as refused:
        async with open_client(server, "not/valid"):
            pass
    assert refused.value.status == 400
    assert "session_id" in refused.value.body.decode()


async def test_the_page_is_served_over_https(server: Server) -> None:
    async with open_wire(server) as wire:
        await wire.send(request("/", PLAIN_GET))
        answer = await wire.answer()
    if server.listener == "trio-websocket":
        assert answer.status == 404
    else:
        assert answer.status == 200
        assert b"<html" in answer.body


@pytest.mark.parametrize("data", [request(chat_path("a")), b"\x16\x03\x01\xff\xff" + b"x" * 1000, b"\0" * 70_000])
async def test_what_is_no_tls_harms_nobody(server: Server, data: bytes) -> None:
    pids = server.pids()
    async with open_client(server) as bystander:
        async with await trio.open_tcp_stream(server.host, server.port) as stream:
            with trio.fail_after(5):
                await stream.send_all(data)
                with pytest.raises((trio.BrokenResourceError, EOFError)):
                    await read_to_the_end(stream)
        assert await bystander.quiet() == []
    assert server.pids() == pids


async def read_to_the_end(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass
    raise EOFError


async def test_a_drain_says_1012_over_wss(tmp_path: Path, authority: trustme.CA) -> None:
    for listener in LISTENERS:
        folder = tmp_path / listener
        folder.mkdir()
        with running(folder, listener, certificate(folder, authority)) as server:
            server.tls = ssl.create_default_context()
            authority.configure_trust(server.tls)
            async with open_client(server) as client:
                message_id = await client.say(tokens=30, pace=0.01)
                await client.wait_for("stream_token")
                server.signal()
                assert kinds(await client.turn(message_id))[-1] == "stream_end"
                assert (await client.end()).code == 1012
            assert await server.exit_code() == 0
