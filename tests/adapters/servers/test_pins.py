"""What our servers rely on in pinned libraries: a name that has moved is noticed here, and not by a deployer."""

from __future__ import annotations

import inspect
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypercorn.protocol.h2
import hypercorn.protocol.h11
import hypercorn.trio.run
import pytest
import trio
import trio_websocket
import wsproto
import wsproto.events
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import Handshake, WSStream
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.tcp_server import TCPServer
from trio_websocket import WebSocketConnection, WebSocketRequest, WebSocketServer
from wsproto.connection import Connection
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import FrameDecoder, ParseFailed
from wsproto.handshake import server_extensions_handshake

from trialogue_adapters.deployment import KNOWN_HYPERCORN
from trialogue_adapters.servers.hypercorn import defaults

PINS = {"hypercorn": "0.18.0", "trio-websocket": "0.12.2", "wsproto": "1.3.2"}


@pytest.mark.parametrize(("package", "pinned"), PINS.items())
def test_the_versions_are_the_pinned_ones(package: str, pinned: str) -> None:
    assert version(package) == pinned
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    assert f'"{package}=={pinned}"' in pyproject.read_text(encoding="utf-8")


SIGNATURES: list[tuple[Any, list[str]]] = [
    (TCPServer.__init__, ["self", "app", "config", "context", "state", "stream"]),
    (TCPServer.run, ["self"]),
    (TCPServer.protocol_send, ["self", "event"]),
    (TCPServer._read_data, ["self"]),
    (H11Protocol._check_protocol, ["self", "event"]),
    (TaskGroup.spawn_app, ["self", "app", "config", "scope", "send"]),
    (_handle, ["app", "config", "scope", "receive", "send", "sync_spawn", "call_soon"]),
    (
        WSStream.__init__,
        ["self", "app", "config", "context", "task_group", "ssl", "client", "server", "send", "stream_id"],
    ),
    (WSStream.handle, ["self", "event"]),
    (WSStream.app_send, ["self", "message"]),
    (WSStream._handle_events, ["self"]),
    (WSStream._send_error_response, ["self", "status_code"]),
    (WSStream._send_wsproto_event, ["self", "event"]),
    (WSStream._accept, ["self", "message"]),
    (WSStream._send_pings, ["self"]),
    (H11WSConnection.__init__, ["self", "h11_connection"]),
    (Handshake.__init__, ["self", "headers", "http_version"]),
    (Handshake.is_valid, ["self"]),
    (Handshake.accept, ["self", "subprotocol", "additional_headers"]),
    (WebSocketServer._handle_connection, ["self", "stream"]),
    (WebSocketConnection._send, ["self", "event"]),
    (WebSocketConnection._reader_task, ["self"]),
    (WebSocketConnection._get_request, ["self"]),
    (WebSocketConnection._handle_message_event, ["self", "event"]),
    (WebSocketConnection._handle_ping_event, ["self", "event"]),
    (WebSocketConnection._handle_close_connection_event, ["self", "event"]),
    (WebSocketConnection._handle_request_event, ["self", "event"]),
    (WebSocketConnection._close_stream, ["self"]),
    (WebSocketConnection._accept, ["self", "request", "subprotocol", "extra_headers"]),
    (WebSocketConnection.send_message, ["self", "message"]),
    (WebSocketConnection._abort_web_socket, ["self"]),
    (wsproto.WSConnection.receive_data, ["self", "data"]),
    (Connection.__init__, ["self", "connection_type", "extensions", "trailing_data"]),
    (Extension.frame_inbound_header, ["self", "proto", "opcode", "rsv", "payload_length"]),
    (PerMessageDeflate.frame_inbound_payload_data, ["self", "proto", "data"]),
    (PerMessageDeflate.frame_inbound_complete, ["self", "proto", "fin"]),
    (PerMessageDeflate.accept, ["self", "offer"]),
    (ParseFailed.__init__, ["self", "msg", "code"]),
    (server_extensions_handshake, ["requested", "supported"]),
]


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES, ids=[f.__qualname__ for f, _ in SIGNATURES])
def test_what_we_override_or_call_has_the_same_parameters(function: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_hypercorns_settings_have_the_names_that_we_set() -> None:
    assert [name for name in defaults(20.0) if not hasattr(Config, name)] == []


def test_the_version_that_is_hardened_is_the_pinned_one() -> None:
    assert PINS["hypercorn"] == KNOWN_HYPERCORN


def test_the_names_that_are_replaced_stand_where_they_are_looked_up() -> None:
    assert hypercorn.trio.run.TCPServer is TCPServer
    assert hypercorn.protocol.h11.WSStream is WSStream
    assert hypercorn.protocol.h2.WSStream is WSStream
    assert "TCPServer," in inspect.getsource(hypercorn.trio.run.worker_serve)
    assert "self.stream = WSStream(" in inspect.getsource(hypercorn.protocol.h11.H11Protocol._create_stream)


ATTRIBUTES: list[tuple[Any, str]] = [
    (TCPServer, "self.stream = stream"),
    (TCPServer, "self.idle_task = TrioSingleTask()"),
    (WSStream, "self.app_put"),
    (WSStream, "self.handshake"),
    (WSStream, "self.connection"),
    (WSStream, "self.state"),
    (WSStream, "self.closed"),
    (hypercorn.protocol.h11.H11Protocol, "self.send = send"),
    (hypercorn.protocol.h11.H11Protocol, "self.stream: HTTPStream | WSStream | None = None"),
    (hypercorn.protocol.h2.H2Protocol, "self.streams: dict[int, HTTPStream | WSStream] = {}"),
    (WebSocketConnection, "self._wsproto"),
    (WebSocketConnection, "self._stream"),
    (WebSocketConnection, "self._close_reason"),
    (WebSocketServer, "self._handler"),
    (WebSocketRequest, "self._event"),
    (wsproto.events.Request, "host: str"),
    (WebSocketConnection, "self._message_parts"),
    (WebSocketConnection, "self._close_handshake"),
    (WebSocketConnection, "self._reader_running"),
    (H11WSConnection, "self.buffer"),
    (PerMessageDeflate, "self._decompressor"),
    (PerMessageDeflate, "self._inbound_compressed"),
    (PerMessageDeflate, "self._inbound_is_compressible"),
    (FrameDecoder, "extension.frame_inbound_header(self, opcode, rsv, payload_len)"),
    (Connection, "yield CloseConnection(code=exc.code, reason=str(exc))"),
]


@pytest.mark.parametrize(("owner", "text"), ATTRIBUTES, ids=[f"{owner.__name__} {text}" for owner, text in ATTRIBUTES])
def test_the_attributes_that_we_read_are_there(owner: Any, text: str) -> None:
    assert text in inspect.getsource(owner)


async def test_trios_socket_is_the_standard_librarys_inside() -> None:
    with trio.socket.socket() as ours:
        assert isinstance(ours._sock, socket.socket)  # type: ignore[attr-defined]


def test_the_library_says_what_it_is() -> None:
    assert trio_websocket.__version__ == PINS["trio-websocket"]
