"""`servers/posts.py`: bodies that are too long, too slow, or not what they should be; a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trialogue_adapters.auth import Caller
from trialogue_adapters.servers.handshake import Rejected
from trialogue_adapters.servers.posts import BODY_SECONDS, CancelPost, StreamPost, check_post, read_body, read_post


class Body:
    """An ASGI `receive` that hands out pieces, and then (unless it is whole) nothing for ever."""

    def __init__(self, *pieces: bytes, whole: bool = True, gone: bool = False) -> None:
        self.messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        if whole:
            self.messages.append({"type": "http.request", "body": b"", "more_body": False})
        if gone:
            self.messages.append({"type": "http.disconnect"})

    async def __call__(self) -> dict[str, Any]:
        if not self.messages:
            await trio.sleep_forever()
        return self.messages.pop(0)


async def status_of(body: Body) -> int:
    with pytest.raises(Rejected) as refused:
        await read_body(body, 10)
    return refused.value.status


async def test_a_body_of_any_number_of_pieces() -> None:
    assert await read_body(Body(b"12345", b"", b"67890"), 10) == b"1234567890"
    assert await read_body(Body(), 10) == b""


async def test_one_that_is_too_long_or_does_not_come(autojump_clock: MockClock) -> None:
    assert await status_of(Body(b"12345", b"678901", whole=False)) == 413
    before = trio.current_time()
    assert await status_of(Body(b"12345", whole=False)) == 408
    assert trio.current_time() - before == BODY_SECONDS
    assert await status_of(Body(b"12345", whole=False, gone=True)) == 408


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=utf-8"]
)
def test_json_by_any_name(content_type: str) -> None:
    check_post("POST", Caller([(b"content-type", content_type.encode())]))


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_what_a_page_of_another_origin_could_send_is_no_json(content_type: str) -> None:
    with pytest.raises(Rejected) as refused:
        check_post("POST", Caller([(b"content-type", content_type.encode())]))
    assert refused.value.status == 415


def test_unknown_fields_are_a_newer_clients_and_nulls_are_absent() -> None:
    post = read_post(StreamPost, b'{"message":"hi","later":1,"session_id":null,"on_busy":"enqueue"}')
    assert (post.message, post.session_id, post.on_busy) == ("hi", None, "enqueue")
    assert read_post(CancelPost, b'{"session_id":"s"}').message_id is None


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"message":"x","session_id":"a b"}', "session_id"),
        (b'{"message":"x","message_id":"\\u0000"}', "message_id"),
        (b'{"message":"' + b"x" * 10_001 + b'"}', "message"),
        (b'{"message":"x","after":5}', "after"),
        (b"null", "the body"),
        (b"", "the body"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, named: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_post(StreamPost, body)
    assert refused.value.status == 400
    assert refused.value.reason.startswith(named)
    assert refused.value.code == "WS-001"
