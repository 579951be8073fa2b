"""What is no valid frame gets WS-001 (or WS-004) naming the field, in the client's language; the session goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.raw_client import BINARY, CONTINUATION, TEXT, Client, is_end, open_client
from support.server import Server

LIMIT = 64 * 1024
DIGITS = "9" * 5000


def message(**changes: Any) -> dict[str, Any]:
    """A valid message but for the changes; `...` removes a field."""
    fields = {"type": "message", "message_id": "bad", "content": "hello", "session_id": "S", **changes}
    return {name: value for name, value in fields.items() if value is not ...}


NO_OBJECTS = {
    "not JSON": "hello",
    "empty": "",
    "half an object": '{"type":"message",',
    "null": "null",
    "a list": "[]",
    "a list of a message": json.dumps([message()]),
    "a number": "1",
    "a text": '"x"',
    "true": "true",
    "a number of 5,000 digits": DIGITS,
    "deep lists": "[" * 20_000 + "]" * 20_000,
    "deep objects": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "unbalanced depth": "[" * 60_000,
    "two objects": "{}{}",
}

BAD_FIELDS: dict[str, tuple[Any, str, str]] = {
    "unknown type": (message(type="shout"), "type", "bad"),
    "type null": (message(type=None), "type", "bad"),
    "type a number": (message(type=5), "type", "bad"),
    "type a list": (message(type=["message"]), "type", "bad"),
    "type empty": (message(type=""), "type", "bad"),
    "a server's type": (message(type="stream_end"), "type", "bad"),
    "no message_id": (message(message_id=...), "message_id", "unknown"),
    "message_id null": (message(message_id=None), "message_id", "unknown"),
    "message_id a number": (message(message_id=1), "message_id", "unknown"),
    "message_id empty": (message(message_id=""), "message_id", "unknown"),
    "message_id of 129": (message(message_id="x" * 129), "message_id", "unknown"),
    "message_id unprintable": (message(message_id="a\nb"), "message_id", "unknown"),
    "no content": (message(content=...), "content", "bad"),
    "content null": (message(content=None), "content", "bad"),
    "content a number": (message(content=1), "content", "bad"),
    "content a list": (message(content=["hello"]), "content", "bad"),
    "content an object": (message(content={"text": "hello"}), "content", "bad"),
    "content empty": (message(content=""), "content", "bad"),
    "content blank": (message(content=" \n\t\u3000"), "content", "bad"),
    "content of 10,001": (message(content="가" * 10_001), "content", "bad"),
    "no session_id": (message(session_id=...), "session_id", "bad"),
    "session_id null": (message(session_id=None), "session_id", "bad"),
    "session_id a number": (message(session_id=1), "session_id", "bad"),
    "session_id empty": (message(session_id=""), "session_id", "bad"),
    "session_id of 129": (message(session_id="x" * 129), "session_id", "bad"),
    "on_busy unknown": (message(on_busy="sometimes"), "on_busy", "bad"),
    "on_busy a number": (message(on_busy=1), "on_busy", "bad"),
    "options a list": (message(options=[]), "options", "bad"),
    "options a text": (message(options="x"), "options", "bad"),
    "cancel by a number": ({"type": "cancel", "message_id": 1}, "message_id", "unknown"),
    "cancel by an empty id": ({"type": "cancel", "message_id": ""}, "message_id", "unknown"),
    "ack without an index": ({"type": "ack", "message_id": "a"}, "index", "a"),
    "ack with a text": ({"type": "ack", "message_id": "a", "index": "1"}, "index", "a"),
    "ack below zero": ({"type": "ack", "message_id": "a", "index": -1}, "index", "a"),
    "typing without active": ({"type": "typing"}, "active", "unknown"),
    "typing with a number": ({"type": "typing", "active": 1}, "active", "unknown"),
    "auth without a token": ({"type": "auth"}, "token", "unknown"),
    "ping with an object": ({"type": "ping", "id": {}}, "id", "unknown"),
}

HUGE_NUMBERS = {
    "as message_id": (f'{{"type":"message","message_id":{DIGITS},"content":"c","session_id":"S"}}', "message_id"),
    "as content": (f'{{"type":"message","message_id":"bad","content":{DIGITS},"session_id":"S"}}', "content"),
    "as an ack's index": (f'{{"type":"ack","message_id":"bad","index":{DIGITS}}}', "index"),
    "as type": (f'{{"type":{DIGITS}}}', "type"),
}


async def refusal(client: Client, text: str) -> dict[str, Any]:
    """The one answer to a bad frame; after it, the connection does its work."""
    await client.send_text(text)
    (answer,) = await client.quiet()
    assert (await client.turn(await client.say()))[-1]["finish_reason"] == "stop"
    return answer


async def first_end(client: Client) -> dict[str, Any]:
    while not is_end(body := await client.next()):
        pass
    return body


def is_korean(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


def of_session(client: Client, fields: dict[str, Any]) -> str:
    own = {"session_id": client.session_id} if fields.get("session_id") == "S" else {}
    return json.dumps({**fields, **own}, ensure_ascii=False)


@pytest.mark.parametrize("name", NO_OBJECTS)
async def test_what_is_no_json_object_is_ws_001(server: Server, name: str) -> None:
    async with open_client(server) as client:
        answer = await refusal(client, NO_OBJECTS[name])
    assert (answer["type"], answer["error_code"], answer["message_id"]) == ("stream_error", "WS-001", "unknown")
    assert "JSON" in answer["message"]


@pytest.mark.parametrize("name", BAD_FIELDS)
async def test_a_bad_field_is_ws_001_and_named(server: Server, name: str) -> None:
    fields, field, message_id = BAD_FIELDS[name]
    async with open_client(server) as client:
        answer = await refusal(client, of_session(client, fields))
    assert (answer["type"], answer["error_code"], answer["message_id"]) == ("stream_error", "WS-001", message_id)
    assert field in answer["message"]
    assert answer["solutions"]


@pytest.mark.parametrize("name", HUGE_NUMBERS)
async def test_a_number_of_5000_digits_is_ws_001_and_named(server: Server, name: str) -> None:
    text, field = HUGE_NUMBERS[name]
    async with open_client(server) as client:
        answer = await refusal(client, text.replace('"S"', json.dumps(client.session_id)))
    assert answer["error_code"] == "WS-001"
    assert field in answer["message"] or "JSON" in answer["message"]


@pytest.mark.parametrize("inside", [DIGITS, "1e999", "-1e999", "NaN", "[" * 5000 + "]" * 5000, '"\\ud800"'])
async def test_odd_values_in_options_or_ids_harm_nobody(server: Server, inside: str) -> None:
    async with open_client(server) as client:
        await client.send_text(
            f'{{"type":"message","message_id":"odd","content":"c","session_id":"{client.session_id}",'
            f'"options":{{"odd":{inside}}}}}'
        )
        answer = await first_end(client)
        assert answer["type"] == "stream_end" or answer["error_code"] == "WS-001"
        await client.send_text(f'{{"type":"ping","id":{inside}}}')
        await client.quiet()
        assert (await client.turn(await client.say()))[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("query", "headers", "korean"),
    [
        ({}, {}, True),
        ({"lang": "ko"}, {"Accept-Language": "en"}, True),
        ({"lang": "en"}, {"Accept-Language": "ko"}, False),
        ({}, {"Accept-Language": "en-US,en;q=0.9,ko;q=0.8"}, False),
        ({}, {"Accept-Language": "en;q=0.3,ko;q=0.8"}, True),
        ({}, {"Accept-Language": "de,fr;q=0.9"}, True),
    ],
)
async def test_texts_are_in_the_connections_language(
    server: Server, query: dict[str, str], headers: dict[str, str], korean: bool
) -> None:
    async with open_client(server, query=query, headers=headers) as client:
        answer = await refusal(client, of_session(client, message(content="")))
    assert is_korean(answer["message"]) is korean
    assert all(is_korean(solution) is korean for solution in answer["solutions"])
    assert "content" in answer["message"]


@pytest.mark.parametrize("name", BAD_FIELDS)
async def test_english_texts_have_no_korean(server: Server, name: str) -> None:
    fields, field, _ = BAD_FIELDS[name]
    async with open_client(server, query={"lang": "en"}) as client:
        await client.send_text(of_session(client, fields))
        answer = await client.next()
    assert field in answer["message"]
    assert not is_korean(json.dumps(answer, ensure_ascii=False))


@pytest.mark.parametrize("kind", ["message", "cancel", "typing", "ping"])
async def test_the_session_id_of_another_session_is_ws_004(server: Server, kind: str) -> None:
    fields = {"message_id": "m", "content": "c", "active": True}
    async with open_client(server) as client:
        answer = await refusal(client, json.dumps({"type": kind, "session_id": "somebody-else", **fields}))
    assert answer["error_code"] == "WS-004"


@pytest.mark.parametrize("letter", ["x", "가", "😀"])
async def test_a_content_of_10000_characters_is_taken(server: Server, letter: str) -> None:
    async with open_client(server) as client:
        await client.send(message_id="long", content=letter * 10_000, session_id=client.session_id)
        assert (await client.turn("long"))[-1]["finish_reason"] == "stop"
    assert await server.recorded("opened", letter * 10_000)


async def test_a_bad_frame_does_not_disturb_the_running_turn(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=40, pace=0.01)
        await client.wait_for("stream_token")
        await client.send_text("null")
        turn = await client.turn(message_id)
    assert [body["error_code"] for body in turn if body["type"] == "stream_error"] == ["WS-001"]
    assert turn[-1]["total_tokens"] == 40


async def test_a_bad_frame_is_told_to_its_sender_only(server: Server) -> None:
    async with open_client(server) as client, open_client(server, client.session_id) as other:
        await refusal(client, "null")
        frames = await other.until("stream_end")
    assert "stream_error" not in [body["type"] for body in frames]


@pytest.mark.parametrize("payload", [b"", b"\x00\x01", b'{"type":"ping"}'])
async def test_a_binary_frame_closes_with_1003(server: Server, payload: bytes) -> None:
    async with open_client(server) as client:
        await client.send_frame(payload, BINARY)
        assert (await client.end()).code == 1003


def padded(size: int, letter: str = "x") -> bytes:
    """A valid ping of about that many bytes, never more."""
    frame = b'{"type":"ping","id":"p","pad":"%s"}'
    room = size - len(frame % b"")
    text = letter * (room // len(letter.encode()))
    return frame % text.encode()


async def test_64_kib_are_taken(server: Server) -> None:
    async with open_client(server) as client:
        frame = padded(LIMIT)
        assert len(frame) == LIMIT
        await client.send_frame(frame)
        assert (await client.next())["type"] == "pong"


@pytest.mark.parametrize("letter", ["x", "가", "😀"])
async def test_more_than_64_kib_in_bytes_close_with_1009(server: Server, letter: str) -> None:
    async with open_client(server) as client:
        await client.send_frame(padded(LIMIT + 8, letter))
        assert (await client.end()).code == 1009


async def test_more_than_64_kib_in_fragments_close_with_1009(server: Server) -> None:
    part = "가" * 5000
    async with open_client(server) as client:
        await client.send_frame(b'{"type":"ping","id":"', TEXT, final=False)
        for _ in range(5):  # the fifth is past the limit: one more would meet a closed socket
            await client.send_frame(part.encode(), CONTINUATION, final=False)
        assert (await client.end()).code == 1009


async def test_a_frame_that_announces_too_much_is_closed_before_it_is_whole(server: Server) -> None:
    async with open_client(server) as client:
        await client.send_frame(b"x" * (LIMIT + 1), length=1 << 30)
        assert (await client.end()).code == 1009


async def test_binary_of_more_than_64_kib_closes(server: Server) -> None:
    async with open_client(server) as client:
        await client.send_frame(b"x" * (LIMIT + 1), BINARY)
        assert (await client.end()).code in (1003, 1009)


async def test_an_oversize_frame_is_a_drop_the_turn_goes_on(server: Server) -> None:
    async with open_client(server) as client:
        message_id = await client.say(tokens=30, pace=0.01)
        await client.wait_for("stream_token")
        await client.send_frame(b"x" * (LIMIT + 1))
        await client.end()
    assert (await server.recorded("ended", message_id))["ending"] == "completed"


async def test_a_message_in_fragments_is_one_message(server: Server) -> None:
    async with open_client(server) as client:
        text = json.dumps({"message_id": "f", "content": "안녕", "session_id": client.session_id}, ensure_ascii=False)
        data = text.encode()
        cuts = [data[n : n + 1] for n in range(len(data))]
        await client.send_frame(cuts[0], TEXT, final=False)
        for cut in cuts[1:-1]:
            await client.send_frame(cut, CONTINUATION, final=False)
        await client.send_frame(cuts[-1], CONTINUATION)
        assert (await client.turn("f"))[-1]["type"] == "stream_end"
