"""`servers/frames.py`: what is too much is refused at the first byte that is, and nothing just below it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, TextMessage
from wsproto.frame_protocol import CloseReason, Opcode, ParseFailed, RsvBits

from support.raw_client import BINARY, CONTINUATION, PING, TEXT, frame
from trialogue_adapters.servers.frames import (
    CLOSED,
    MAX_CONTROLS,
    MAX_FRAGMENTS,
    MAX_MESSAGE_BYTES,
    BoundedDeflate,
    FrameGuard,
    deflated,
    extensions,
)

MIB = 1 << 20


def server(*, deflate: bool = False) -> Connection:
    ours = extensions(deflate=deflate)
    if deflate:
        assert ours[-1].accept("permessage-deflate") == "client_no_context_takeover"
    return Connection(ConnectionType.SERVER, ours)


def heard(connection: Connection, *data: bytes) -> list[Event]:
    events: list[Event] = []
    for piece in data:
        connection.receive_data(piece)
        events += connection.events()
    return events


def refusal(events: Iterable[Event]) -> int | None:
    codes = [int(event.code) for event in events if isinstance(event, CloseConnection)]
    return codes[0] if codes else None


def packed(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.data for event in events if isinstance(event, TextMessage))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_limit_is_taken_and_one_byte_more_is_not(opcode: int) -> None:
    connection = server()
    assert refusal(heard(connection, frame(b"x" * MAX_MESSAGE_BYTES, opcode))) is None
    assert refusal(heard(connection, frame(b"x" * (MAX_MESSAGE_BYTES + 1), opcode)[:14])) == 1009


def test_a_head_is_enough() -> None:
    assert refusal(heard(server(), frame(b"", length=1 << 40))) == 1009


@given(st.lists(st.integers(1, MAX_MESSAGE_BYTES), min_size=2, max_size=8))
def test_fragments_count_together(sizes: list[int]) -> None:
    connection, sent = server(), 0
    for n, size in enumerate(sizes):
        sent += size
        found = refusal(heard(connection, frame(b"x" * size, CONTINUATION if n else TEXT, final=False)))
        assert found == (1009 if sent > MAX_MESSAGE_BYTES else None)
        if found:
            return


def test_each_message_is_counted_anew_and_pings_are_not_counted() -> None:
    connection = server()
    half = b"x" * (MAX_MESSAGE_BYTES // 2)
    for _ in range(3):
        assert refusal(heard(connection, frame(half, final=False), frame(b"x" * 100, PING))) is None
        assert refusal(heard(connection, frame(half, CONTINUATION))) is None


def test_so_many_fragments_and_no_more() -> None:
    connection = server()
    first, more, last = frame(b"", final=False), frame(b"", CONTINUATION, final=False), frame(b"", CONTINUATION)
    for _ in range(2):
        assert refusal(heard(connection, first + more * (MAX_FRAGMENTS - 2) + last)) is None
    assert refusal(heard(connection, first + more * (MAX_FRAGMENTS - 1))) is None
    assert refusal(heard(connection, more)) == 1008


def test_nothing_is_parsed_after_a_refusal() -> None:
    connection = server()
    events = heard(connection, frame(b"", length=1 << 40) + frame(b"x"), frame(b"y"))
    assert [type(event) for event in events] == [CloseConnection]


def test_compression_is_used_only_where_it_was_agreed_to() -> None:
    assert refusal(heard(server(), frame(packed(b"hello"), reserved=4))) == 1002
    assert text_of(heard(server(deflate=True), frame(packed(b"hello"), reserved=4))) == "hello"
    assert text_of(heard(server(deflate=True), frame(b"hello"))) == "hello"
    not_offered = Connection(ConnectionType.SERVER, extensions(deflate=True))
    assert refusal(heard(not_offered, frame(packed(b"hello"), reserved=4))) == 1002


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=5), st.integers(1, 7))
def test_what_is_inflated_is_what_was_deflated(messages: list[bytes], pieces: int) -> None:
    connection = server(deflate=True)
    for message in messages:
        data = packed(message)
        step = len(data) // pieces + 1
        cuts = [data[start : start + step] for start in range(0, len(data), step)]
        frames = [
            frame(cut, CONTINUATION if n else BINARY, final=n == len(cuts) - 1, reserved=0 if n else 4)
            + (b"" if n == len(cuts) - 1 else frame(b"", PING))
            for n, cut in enumerate(cuts)
        ]
        events = heard(connection, *frames)
        assert b"".join(event.data for event in events if isinstance(event, BytesMessage)) == message
        assert refusal(events) is None


def test_inflated_bytes_are_what_is_limited() -> None:
    connection = server(deflate=True)
    for _ in range(2):  # and each message anew
        assert refusal(heard(connection, frame(packed(b"x" * MAX_MESSAGE_BYTES), reserved=4))) is None
    assert refusal(heard(connection, frame(packed(b"x" * (MAX_MESSAGE_BYTES + 1)), reserved=4))) == 1009


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_a_bomb_is_refused_as_it_goes_off(cut: int) -> None:
    """Whichever way it comes in: what has been made of it never is more than a message."""
    data = packed(b" " * 60 * MIB)
    connection, made = server(deflate=True), 0
    for start in range(0, len(data), cut):
        piece = frame(
            data[start : start + cut], CONTINUATION if start else TEXT, final=False, reserved=0 if start else 4
        )
        events = heard(connection, piece)
        made += sum(len(event.data) for event in events if isinstance(event, TextMessage))
        if refusal(events):
            break
    else:
        pytest.fail("it went off")
    assert refusal(events) == 1009
    assert made <= MAX_MESSAGE_BYTES


def test_junk_is_1007() -> None:
    assert refusal(heard(server(deflate=True), frame(b"\xff" * 100, reserved=4))) == 1007


@pytest.mark.parametrize(
    "offer", ["permessage-deflate; client_max_window_bits=x", "permessage-deflate; server_max_window_bits=99"]
)
def test_an_offer_that_makes_no_sense_is_declined(offer: str) -> None:
    assert BoundedDeflate().accept(offer) is None


def test_what_we_compress_is_one_stream() -> None:
    connection = server(deflate=True)
    encode, unpacker = deflated(connection), zlib.decompressobj(-15)
    payloads = ['{"type":"stream_token","token":"안녕"}'.encode()] * 3
    data, texts, sizes = encode(payloads), [], []
    while data:
        assert data[0] == 0xC1
        size = data[1]
        sizes.append(size)
        texts.append(unpacker.decompress(data[2 : 2 + size] + b"\x00\x00\xff\xff"))
        data = data[2 + size :]
    assert texts == payloads
    assert sizes[2] < sizes[0] / 2  # the window is kept


def test_what_takes_the_place_of_an_ended_connection_does_nothing() -> None:
    assert CLOSED.state is ConnectionState.CLOSED
    assert list(CLOSED.events()) == []
    assert repr(FrameGuard()) == "<FrameGuard 0 bytes in 0 fragments>"


def test_so_many_control_frames_a_second_and_no_more() -> None:
    now = 0.0
    guard = FrameGuard(lambda: now)

    def ping() -> None:
        guard.frame_inbound_header(None, Opcode.PING, RsvBits(rsv1=False, rsv2=False, rsv3=False), 0)

    for now in range(3):  # noqa: B007 - the clock reads it
        for _ in range(MAX_CONTROLS):
            ping()
    with pytest.raises(ParseFailed) as caught:
        ping()
    assert caught.value.code is CloseReason.POLICY_VIOLATION
