"""The trio-websocket listener's reading of a request: judged before the library sees any of it.

What is wrong with it is an HTTP answer with a JSON body, and its sender gets to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import h11
import trio
import wsproto
from wsproto.utilities import RemoteProtocolError

from trialogue_adapters.servers.guard import Stream, linger
from trialogue_adapters.servers.handshake import (
    EARLY,
    MAX_HEAD_BYTES,
    PATH,
    Rejected,
    check_head,
    check_upgrade,
    is_upgrade,
)

RECEIVE_BYTES = 4096


async def shake_hands(stream: Stream, paths: Sequence[str]) -> wsproto.WSConnection | None:
    """Read the request. None: it was refused, and its sender has been told."""
    if isinstance(stream, trio.SSLStream):
        await stream.do_handshake()
    protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    try:
        protocol.receive_data(await _read_request(stream, paths))
    except RemoteProtocolError as error:
        rejected = Rejected(400, str(error))
    except Rejected as error:
        rejected = error
    else:
        return protocol
    await stream.send_all(_http_answer(rejected))
    await linger(stream)
    return None


async def _read_request(stream: Stream, paths: Sequence[str]) -> bytes:
    """The head of a request to upgrade. A peer that says nothing is left to the handshake's deadline.

    Raises Rejected: 404 at another path, 405 and 426 for plain HTTP, 414 and 431 for too much of it, else 400.
    """
    head = bytearray()
    while (end := head.find(b"\r\n\r\n")) < 0:
        if len(head) > MAX_HEAD_BYTES:
            raise Rejected(431, f"more than {MAX_HEAD_BYTES} bytes of headers")
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise trio.BrokenResourceError("the peer left before its request was whole")
        head += data
    request, rest = bytes(head[: end + 4]), head[end + 4 :]
    _check_request(request, paths)
    if rest:
        raise Rejected(400, EARLY)
    return request


def _check_request(head: bytes, paths: Sequence[str]) -> None:
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * MAX_HEAD_BYTES)
    reader.receive_data(head)
    try:
        request = reader.next_event()
    except h11.RemoteProtocolError as error:
        raise Rejected(400, f"not a request: {error}") from None
    assert isinstance(request, h11.Request)
    check_head(request.target, request.headers)
    if request.target.partition(b"?")[0].decode() not in paths:
        raise Rejected(404, f"there is only {PATH} here")
    if request.method != b"GET":
        raise Rejected(405, "GET only")
    if not is_upgrade(request.headers):
        raise Rejected(426, "this is a WebSocket endpoint")
    if request.http_version != b"1.1":
        raise Rejected(400, "HTTP/1.1 only")
    check_upgrade(request.headers)


def _http_answer(rejected: Rejected) -> bytes:
    writer = h11.Connection(h11.SERVER)
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(rejected.body))),
        ("connection", "close"),
    ]
    if rejected.status == 426:
        headers += [("upgrade", "websocket"), ("sec-websocket-version", "13")]
    parts = (
        writer.send(
            h11.Response(status_code=rejected.status, headers=headers, reason=HTTPStatus(rejected.status).phrase)
        ),
        writer.send(h11.Data(data=rejected.body)),
    )
    return b"".join(part for part in parts if part)
