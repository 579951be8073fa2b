"""Bad requests, each with the status that answers it."""

from __future__ import annotations

import pytest

from rude.bystander import unnoticed
from support.raw_client import CLOSE, Closed, chat_path, close_payload, frame, fresh, open_wire, request
from support.server import Server

KIB = 1024


def upgrade(**headers: str | None) -> bytes:
    return request(chat_path(fresh("s")), {name.replace("_", "-"): value for name, value in headers.items()})


def with_lines(*lines: bytes) -> bytes:
    """A good handshake, and these lines in its head."""
    return upgrade().replace(b"\r\n\r\n", b"".join(b"\r\n" + line for line in lines) + b"\r\n\r\n")


KEPT = (404, 405, 426)
"""As answers to plain HTTP these may leave the connection open for the next request."""

CASES: dict[str, tuple[bytes, int]] = {
    # More than was asked for.
    "one byte after the request": (upgrade() + b"x", 400),
    "a frame after the request": (upgrade() + frame(b'{"type":"ping"}'), 400),
    "half a frame after the request": (upgrade() + b"\x81", 400),
    "a close frame after the request": (upgrade() + frame(close_payload(1000), CLOSE), 400),
    "an unmasked frame after the request": (upgrade() + frame(b"x", masked=False), 400),
    "a second request behind the first": (upgrade() + upgrade(), 400),
    "a body": (upgrade(Content_Length="5") + b"hello", 400),
    "a body that never comes": (upgrade(Content_Length="5"), 400),
    "a chunked body": (upgrade(Transfer_Encoding="chunked") + b"1\r\nx\r\n0\r\n\r\n", 400),
    "64 KiB after the request": (upgrade() + b"x" * 64 * KIB, 400),
    # Too much of it.
    "a URL of 9 KiB": (request(chat_path(fresh("s")) + "&a=" + "x" * 9 * KIB), 414),
    "a URL of 100 KiB": (request(chat_path(fresh("s")) + "&a=" + "x" * 100 * KIB), 431),
    "a header of 17 KiB": (upgrade(X="x" * 17 * KIB), 431),
    "a header of 100 KiB": (upgrade(X="x" * 100 * KIB), 431),
    "101 headers more": (with_lines(*[b"a: b"] * 101), 431),
    "3,000 headers": (with_lines(*[b"a: b"] * 3000), 431),
    "a head without an end": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, 431),
    "a thousand query fields": (request("/chat-ws?" + "&".join(["a=1"] * 1000)), 400),
    # Whom it is for.
    "no Host": (upgrade(Host=None), 400),
    "two Hosts": (with_lines(b"Host: other"), 400),
    "an empty Host": (upgrade(Host=""), 400),
    "a Host with a space": (upgrade(Host="a b"), 400),
    "a Host with a path": (upgrade(Host="a/b"), 400),
    "a Host in latin-1": (upgrade(Host="h\xf6st"), 400),
    "a Host with a port that is none": (upgrade(Host="a:port"), 400),
    # What RFC 6455 asks for.
    "no key": (upgrade(Sec_WebSocket_Key=None), 400),
    "a short key": (upgrade(Sec_WebSocket_Key="c2hvcnQ="), 400),
    "a key that is not base64": (upgrade(Sec_WebSocket_Key="!" * 24), 400),
    "two keys": (with_lines(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), 400),
    "no version": (upgrade(Sec_WebSocket_Version=None), 426),
    "version 8": (upgrade(Sec_WebSocket_Version="8"), 426),
    "two versions": (with_lines(b"Sec-WebSocket-Version: 13"), 426),
    "no Connection": (upgrade(Connection=None), 426),
    "a Connection that is kept alive": (upgrade(Connection="keep-alive"), 426),
    "no Upgrade": (upgrade(Upgrade=None), 426),
    "an upgrade to something else": (upgrade(Upgrade="websockets"), 426),
    "an upgrade to h2c": (upgrade(Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQCAAAAAAIAAAAA"), 426),
    "a POST": (request(chat_path(fresh("s")), method="POST"), 405),
    "a method of its own": (request(chat_path(fresh("s")), method="BREW"), 405),
    "HTTP/1.0": (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    # Where to.
    "another path": (request("/chat-wss?session_id=a"), 404),
    "a path in absolute form": (request("http://localhost/chat-ws?session_id=a"), 404),
    "no session": (request("/chat-ws"), 400),
    "two sessions": (request("/chat-ws?session_id=a&session_id=b"), 400),
    "a session with a newline": (request("/chat-ws?session_id=a%0A"), 400),
    "a session that is no UTF-8": (request("/chat-ws?session_id=%FF"), 400),
    "a bad percent escape": (request("/chat-ws?session_id=%zz%"), 400),
    "a session of 129": (request("/chat-ws?session_id=" + "x" * 129), 400),
    # No HTTP.
    "a target in latin-1": (upgrade().replace(b"/chat-ws", b"/chat-ws\xe9"), 400),
    "a header name with a space": (with_lines(b"Bad Name: x"), 400),
    "a header without a colon": (with_lines(b"bad"), 400),
    "a NUL in a header": (with_lines(b"a: b\x00c"), 400),
    "a length below zero": (upgrade(Content_Length="-1"), 400),
    "two lengths": (with_lines(b"Content-Length: 1", b"Content-Length: 2"), 400),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "nulls": (b"\0" * 1000 + b"\r\n\r\n", 400),
    "a WebSocket frame": (frame(b"hello") + b"\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_bad_request_is_refused_and_nobody_else_notices(server: Server, name: str) -> None:
    data, status = CASES[name]
    async with unnoticed(server), open_wire(server) as wire:
        await wire.shove(data)
        assert (await wire.head())[0] == status
        if status in KEPT:
            await wire.half_close()
        with pytest.raises(Closed):  # and that was it: the server closes
            await wire.until(b"no such thing")
