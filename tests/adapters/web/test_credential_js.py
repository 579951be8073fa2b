"""The client library with a credential: what it fetches when, and what it does without one. On a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.browser

HARNESS = """async () => {
  const { Trialogue } = await import("/static/trialogue.js");
  window.sockets = []; window.states = []; window.mints = [];
  window.WebSocket = class {
    constructor(url, protocols) {
      Object.assign(this, { url, protocol: protocols[0], sent: [], closed: null });
      sockets.push(this);
    }
    send(text) { this.sent.push(JSON.parse(text)); }
    close(code) { this.closed = code; }
  };
  const mint = () => new Promise((give, fail) => mints.push({ give, fail }));
  window.chat = new Trialogue("wss://chat.test/chat-ws?session_id=s1", { mint });
  chat.on("state", (change) => states.push(change));
  chat.open();
}"""


class Client:
    def __init__(self, page: Any) -> None:
        self.page = page
        self.run = page.evaluate
        self.run(HARNESS)

    def wait(self, ms: int) -> None:
        self.page.clock.run_for(ms)
        self.run("() => new Promise((done) => queueMicrotask(done))")

    def minted(self, token: str | None, seconds: float = 100) -> None:
        self._answers({"ws_token": token, "expires_in": seconds} if token else None)

    def refused(self) -> None:
        self._answers(answer=False)

    def _answers(self, answer: Any) -> None:
        self.run("async (answer) => { mints.at(-1).give(answer); await null; await null; await null; }", answer)

    def ready(self) -> None:
        frame = {"type": "session_ready", "position": "7:0", "resumed": "new", "running": None, "queued": []}
        self.hears(**frame)

    def hears(self, **frame: Any) -> None:
        self.run("(frame) => sockets.at(-1).onmessage({ data: JSON.stringify(frame) })", frame)

    def drop(self, code: int = 1006) -> None:
        self.run("(code) => sockets.at(-1).onclose({ code, reason: '' })", code)

    def count(self, what: str) -> int:
        return int(self.run(f"{what}.length"))

    @property
    def url(self) -> str:
        return str(self.run("sockets.at(-1).url"))

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.run("states.at(-1)"))

    @property
    def sent(self) -> list[dict[str, Any]]:
        return list(self.run("sockets.at(-1).sent"))


@pytest.fixture
def client(module_page: Any) -> Client:
    return Client(module_page)


def test_a_token_is_fetched_before_each_connect(client: Client) -> None:
    assert (client.count("sockets"), client.state["state"]) == (0, "connecting")
    client.run("chat.open()")  # it is on its way
    assert client.count("mints") == 1
    client.minted("t1")
    assert client.url == "wss://chat.test/chat-ws?session_id=s1&ws_token=t1"
    client.ready()
    client.drop()
    client.wait(client.state["retryMs"] + 1)
    assert (client.count("mints"), client.count("sockets")) == (2, 1)
    client.minted("t2")
    assert client.url == "wss://chat.test/chat-ws?session_id=s1&after=7:0&ws_token=t2"


def test_where_none_is_needed_it_connects_without(client: Client) -> None:
    client.minted(None)
    assert client.url == "wss://chat.test/chat-ws?session_id=s1"


def test_where_none_is_given_it_stops_until_it_is_told_to_try_again(client: Client) -> None:
    client.refused()
    assert (client.state["state"], client.state["code"], client.count("sockets")) == ("stopped", 1008, 0)
    client.wait(120_000)
    assert client.count("mints") == 1
    client.run("chat.retryNow()")
    client.minted("t")
    assert client.count("sockets") == 1


def test_a_fetch_that_fails_is_tried_again_later(client: Client) -> None:
    client.run("async () => { mints.at(-1).fail(new TypeError('offline')); await null; await null; await null; }")
    assert client.state["state"] == "waiting"
    client.wait(client.state["retryMs"] + 1)
    assert client.count("mints") == 2


def test_a_fetch_that_never_answers_is_given_up(client: Client) -> None:
    client.wait(15_001)
    assert client.state["state"] == "waiting"
    client.minted("late")
    assert client.count("sockets") == 0


def test_it_is_renewed_in_time_as_often_as_it_takes(client: Client) -> None:
    client.minted("t1", 20)
    client.ready()
    client.wait(15_500)
    assert client.count("mints") == 1
    client.wait(600)
    client.minted("t2", 10)
    assert {"type": "auth", "token": "t2"} in client.sent
    client.wait(8_500)
    client.minted("t3", 0)
    assert {"type": "auth", "token": "t3"} in client.sent
    assert client.count("mints") == 3
    client.wait(500)
    assert client.count("mints") == 3
    assert client.count("sockets") == 1


@pytest.mark.parametrize("leave", ["chat.close()", "chat.reconnect()"])
def test_who_has_left_renews_nothing(client: Client, leave: str) -> None:
    client.minted("t1", 10)
    client.ready()
    client.run(leave)
    before = client.count("mints")
    client.wait(9_000)
    assert client.count("mints") == before


def test_leaving_while_it_is_fetched_opens_nothing(client: Client) -> None:
    client.run("chat.close()")
    client.minted("t1", 10)
    client.wait(60_000)
    assert (client.count("sockets"), client.count("mints"), client.state["state"]) == (0, 1, "stopped")


def test_an_expired_credential_is_replaced_and_another_1008_is_final(client: Client) -> None:
    client.minted("t1")
    client.ready()
    client.hears(type="goaway", reason="expired", retry_after_ms=0)
    client.drop(1008)
    client.wait(1)
    client.minted("t2")
    assert client.url.endswith("&ws_token=t2")
    client.ready()
    client.drop(1008)
    assert client.state["state"] == "stopped"
