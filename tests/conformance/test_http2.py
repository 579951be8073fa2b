"""WebSockets over HTTP/2 (RFC 8441), which hypercorn speaks over TLS: one connection, several sessions."""

from __future__ import annotations

import json
import ssl
from collections import defaultdict
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trustme
import wsproto.connection
from wsproto.events import CloseConnection, TextMessage

from support.raw_client import chat_path, frame, fresh
from support.server import PLAIN, Server, running


class Streams:
    """A client's end of one HTTP/2 connection; each stream a WebSocket."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.http.initiate_connection()
        self.events: defaultdict[int, list[Any]] = defaultdict(list)
        self.sockets: dict[int, wsproto.connection.Connection] = {}

    async def flush(self) -> None:
        await self.stream.send_all(self.http.data_to_send())

    async def open(self, path: str) -> int:
        number = self.http.get_next_available_stream_id()
        head = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":path": path, ":authority": "a"}
        self.http.send_headers(number, [*head.items(), ("sec-websocket-version", "13")])
        self.sockets[number] = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
        await self.flush()
        return number

    async def send(self, number: int, data: bytes) -> None:
        self.http.send_data(number, data)
        await self.flush()

    async def ask(self, number: int, session_id: str, **options: Any) -> None:
        body = {"message_id": "m", "content": "c", "session_id": session_id, "options": options}
        await self.send(number, frame(json.dumps(body).encode()))

    async def until(self, number: int, kind: type, word: str = "") -> None:
        """Read until something of that kind has come on that stream, and holds the word."""
        with trio.fail_after(5):
            while not any(isinstance(event, kind) and word in repr(event) for event in self.events[number]):
                for event in self.http.receive_data(await self.stream.receive_some()):
                    self._take(event)
                await self.flush()

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.sockets[event.stream_id].receive_data(event.data)
            self.events[event.stream_id] += self.sockets[event.stream_id].events()
        elif getattr(event, "stream_id", None):
            self.events[event.stream_id].append(event)


async def connect(server: Server, authority: trustme.CA) -> Streams:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    tls.set_alpn_protocols(["h2"])
    stream = await trio.open_ssl_over_tcp_stream(server.host, server.port, ssl_context=tls, https_compatible=True)
    await stream.do_handshake()
    streams = Streams(stream)
    await streams.flush()
    return streams


@pytest.mark.parametrize("listener", ["hypercorn", PLAIN])
async def test_sessions_share_a_connection_and_do_not_disturb_each_other(tmp_path: Path, listener: str) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    files = ("--certfile", str(tmp_path / "both.pem"), "--keyfile", str(tmp_path / "both.pem"))
    with running(tmp_path, listener, files) as server:
        streams = await connect(server, authority)
        async with streams.stream:
            first, second = fresh("s"), fresh("s")
            one, two = await streams.open(chat_path(first)), await streams.open(chat_path(second))
            bad = await streams.open(chat_path("not/valid"))
            for number in (one, two, bad):
                await streams.until(number, h2.events.ResponseReceived)
            assert "400" in repr(streams.events[bad][0].headers)
            await streams.ask(one, first, tokens=100, pace=0.01)
            await streams.until(one, TextMessage, "stream_token")
            rude = await streams.open(chat_path(fresh("s")))
            await streams.until(rude, h2.events.ResponseReceived)
            await streams.send(rude, frame(b"x", length=1 << 40))
            await streams.until(rude, CloseConnection, "1009")
            await streams.ask(two, second, tokens=3)
            await streams.until(two, TextMessage, "stream_end")
            await streams.until(one, TextMessage, "stream_end")
        assert server.alive
