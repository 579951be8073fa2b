"""The client library alone: a scripted socket, a clock that the test moves, no server. What it says, and when."""

from __future__ import annotations

from typing import Any

import pytest

from support.scripted_socket import Client

pytestmark = pytest.mark.browser


@pytest.fixture
def client(module_page: Any) -> Client:
    return Client(module_page)


def test_a_message_and_its_place_in_the_log(client: Client) -> None:
    assert client.url == "wss://chat.test/chat-ws?session_id=s1"
    client.ready()
    mid = client.send("hi")
    assert client.sent == [{"type": "message", "message_id": mid, "content": "hi", "session_id": "s1"}]
    client.hears(type="user_message", message_id=mid, content="hi", on_busy="interrupt", offset=1)
    client.hears(type="pong", id="x")  # a reply: it has no place
    client.hears(type="stream_start", message_id=mid, offset=4)
    assert client.run("chat.position") == "7:4"
    client.hears(type="stream_token", message_id=mid, token="a", index=0, offset=1, epoch=9)
    assert client.run("chat.position") == "9:1"
    assert client.run("chat.unfinished") == [mid]
    client.hears(type="stream_end", message_id=mid, finish_reason="stop", offset=2)
    assert client.run("chat.unfinished") == []
    client.drop()
    client.comes_back()
    assert client.url.endswith("&after=9:2")


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 4000])
def test_codes_after_which_it_comes_back(client: Client, code: int) -> None:
    client.ready()
    client.drop(code)
    assert client.state["state"] == "waiting"
    client.comes_back()


@pytest.mark.parametrize("code", [1000, 1003, 1008, 1009])
def test_codes_that_are_final(client: Client, code: int) -> None:
    client.ready()
    client.drop(code)
    assert (client.state["state"], client.state["code"]) == ("stopped", code)
    client.wait(120_000)
    assert client.sockets == 1
    client.run("chat.retryNow()")  # but the user may insist
    assert client.sockets == 2


def test_the_waits_grow_and_a_stable_connection_forgives(client: Client) -> None:
    waits = []
    for _ in range(9):
        client.drop()
        waits.append(client.state["retryMs"])
        client.comes_back()
    for attempt, wait in enumerate(waits):
        full = min(30_000, 500 * 2**attempt)
        assert full / 2 <= wait <= full
    client.ready()
    client.wait(6_000)
    client.drop()
    assert client.state["retryMs"] <= 500


def test_goaway_holds_messages_and_names_the_time(client: Client) -> None:
    client.ready()
    client.hears(type="goaway", reason="drain", retry_after_ms=8_000)
    mid = client.send("for the next one")
    assert client.sent == []
    client.drop(1012)
    assert 8_000 <= client.state["retryMs"] <= 10_000
    client.comes_back()
    client.ready("gap", "8:0")
    assert [frame["message_id"] for frame in client.sent] == [mid]


def test_messages_typed_while_away_queue_behind_each_other(client: Client) -> None:
    first, second = client.send("one"), client.send("two")
    client.ready()
    assert [(f["message_id"], f.get("on_busy")) for f in client.sent] == [(first, None), (second, "enqueue")]


def test_what_was_not_accepted_is_sent_again_under_its_id(client: Client) -> None:
    client.ready()
    mid = client.send("hi")
    client.drop()
    client.comes_back()
    client.ready("replayed")
    assert [frame["message_id"] for frame in client.sent] == [mid]
    client.hears(type="stream_status", message_id=mid, phase="duplicate")
    client.drop()
    client.comes_back()
    client.ready("replayed")
    assert client.sent == []  # accepted, and no hole: its ending follows by itself


def test_after_a_hole_it_asks_for_the_endings_it_missed(client: Client) -> None:
    client.ready()
    gone, runs, waits = (client.send(text) for text in ("gone", "runs", "waits"))
    for offset, mid in enumerate((gone, runs, waits), 1):
        client.hears(type="user_message", message_id=mid, content="x", on_busy="enqueue", offset=offset)
    client.drop()
    client.comes_back()
    client.ready("gap", "8:40", running=runs, queued=[waits])
    assert [(frame["message_id"], frame["on_busy"]) for frame in client.sent] == [(gone, "enqueue")]


def test_a_refusal_is_not_sent_again(client: Client) -> None:
    client.ready()
    mid = client.send("hi")
    client.hears(type="stream_error", message_id=mid, error_code="WS-003", message="busy", solutions=["wait"])
    client.drop()
    client.comes_back()
    client.ready("replayed")
    assert client.sent == []


def test_cancel(client: Client) -> None:
    never_left = client.send("one")
    client.run("(id) => chat.cancel(id)", never_left)
    (ending,) = client.run("heard")
    assert (ending["type"], ending["finish_reason"], ending["local"]) == ("stream_end", "cancelled", True)
    client.ready()
    assert client.sent == []
    mid = client.send("two")
    client.run("(id) => chat.cancel(id)", mid)
    client.run("chat.cancel()")
    assert client.sent[1:] == [{"type": "cancel", "message_id": mid}, {"type": "cancel"}]
    client.drop()
    client.run("(id) => chat.cancel(id)", mid)  # it may have left: say both again, in this order
    client.comes_back()
    client.ready("replayed")
    assert [(frame["type"], frame["message_id"]) for frame in client.sent] == [("message", mid), ("cancel", mid)]


def test_acks_are_joined_and_go_before_what_interrupts(client: Client) -> None:
    client.ready()
    client.run("for (let i = 0; i < 50; i++) chat.ack('m', i)")
    assert client.sent == []
    client.wait(500)
    assert client.sent == [{"type": "ack", "message_id": "m", "index": 49}]
    client.run("chat.ack('m', 60)")
    client.send("stop talking")
    assert [frame["type"] for frame in client.sent] == ["ack", "ack", "message"]


def test_an_idle_connection_is_asked_and_a_dead_one_given_up(client: Client) -> None:
    client.ready()
    client.wait(15_000)
    client.hears(type="presence", connections=1)
    client.wait(15_000)
    assert client.sent == []
    client.wait(5_001)
    assert [frame["type"] for frame in client.sent] == ["ping"]
    client.hears(type="pong", id=client.sent[0]["id"])
    client.wait(30_010)
    assert client.state["state"] == "waiting"
    assert client.run("sockets[0].closed") == 4001  # never 1000: that would stop the running turn
    client.comes_back()


def test_a_handshake_that_never_ends_is_given_up(client: Client) -> None:
    client.wait(15_001)
    assert client.state["state"] == "waiting"


def test_close_is_a_stop_and_reconnect_is_not(client: Client) -> None:
    client.ready()
    client.run("chat.reconnect('wss://chat.test/chat-ws?session_id=s1&lang=en')")
    assert client.run("sockets[0].closed") == 4001
    assert client.url == "wss://chat.test/chat-ws?session_id=s1&lang=en&after=7:0"
    client.ready("replayed")
    client.run("chat.close()")
    assert client.run("sockets[1].closed") == 1000
    client.wait(120_000)
    assert client.sockets == 2


def test_a_server_without_the_subprotocol_is_told_so(client: Client) -> None:
    client.run("sockets[0].protocol = ''; sockets[0].onopen()")
    assert client.state["state"] == "stopped"


def test_nonsense_harms_nothing(client: Client) -> None:
    client.ready()
    for text in ("", "{", "null", "[]", "1", '"x"', "{}", '{"type":5}', '{"type":"stream_token","offset":"x"}'):
        client.run("(data) => sockets[0].onmessage({ data })", text)
    assert client.run("chat.position") == "7:0"
    client.send("hi")
    assert len(client.sent) == 1


def test_the_keeping_of_unfinished_messages_has_a_bound(client: Client) -> None:
    for number in range(32):
        client.send(str(number))
    assert client.run("() => { try { chat.send('x') } catch (e) { return e.name } }") == "RangeError"


def test_ids_without_a_secure_context(client: Client) -> None:
    ids = client.run(
        """async () => {
          const { randomId } = await import("/static/trialogue.js");
          Object.defineProperty(crypto, "randomUUID", { value: undefined, configurable: true });
          return [randomId(), randomId()];
        }"""
    )
    assert ids[0] != ids[1]
    for made in ids:
        assert len(made) == 36
        assert made[14] == "4"
