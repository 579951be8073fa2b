"""The page in a real browser against a server that wants a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.page import Chat, serving
from support.server import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys"


@pytest.fixture(scope="module")
def server(browser: Any, keys: Path) -> Iterator[Server]:
    keys.write_text("alice:key-of-alice\n")
    with serving(keys.parent, "--api-key-file", str(keys), "--ws-token-ttl", "4") as server:
        yield server


class Locked(Chat):
    """The page before it was let in."""

    def ready(self) -> None:
        self.expect(self.key_input).to_be_visible()
        self.expect(self.connection_status).to_have_attribute("data-state", "stopped")

    def show(self, key: str) -> None:
        self.key_input.fill(key)
        self.key_input.press("Enter")

    def let_in(self) -> None:
        self.expect(self.connection_status).to_have_attribute("data-state", "ready")
        self.expect(self.key_input).to_be_hidden()


@pytest.fixture
def locked(server: Server, new_context: Callable[..., Any]) -> Locked:
    return Locked(new_context().new_page(), server.address)


def test_a_key_is_asked_for_and_kept_in_this_tab_only(locked: Locked) -> None:
    locked.show("key-of-mallory")
    locked.expect(locked.page.get_by_role("alert").filter(has_text="not accepted")).to_be_visible()
    locked.show("key-of-alice")
    locked.let_in()
    locked.ask("hello")
    locked.ended("stop")
    locked.page.reload()
    locked.let_in()
    assert locked.page.evaluate("Object.values(localStorage).join()").count("key-of-alice") == 0
    assert "key-of-alice" not in locked.page.url
    other = locked.page.context.new_page()
    Locked(other, locked.page.url)


def test_the_token_is_renewed_while_an_answer_runs(locked: Locked) -> None:
    """The answer takes longer than a token lives, and there is one connection from its start to its end."""
    sockets: list[Any] = []
    locked.page.on("websocket", lambda socket: sockets.append(socket))
    locked.show("key-of-alice")
    locked.let_in()
    locked.ask("long one")
    locked.expect(locked.assistant_message).to_contain_text("long one-205 ", timeout=10_000)
    locked.ended("")  # more than four seconds have gone: the first token's whole life is over
    assert len(sockets) == 1
    locked.let_in()


def test_a_connection_whose_token_has_expired_comes_back_with_a_fresh_one(locked: Locked) -> None:
    """As after a laptop's sleep: the renewal's timer comes too late."""
    locked.page.add_init_script(
        "window.realTimeout = setTimeout; window.setTimeout = (f, ms, ...a) => "
        "realTimeout(f, ms > 2000 && ms < 4000 ? 60000 : ms, ...a);"
    )
    locked.page.reload()
    sockets: list[Any] = []
    locked.page.on("websocket", lambda socket: sockets.append(socket))
    locked.show("key-of-alice")
    locked.let_in()
    with locked.page.expect_event("websocket"):
        pass
    locked.let_in()
    assert len(sockets) == 2
    locked.ask("hello")
    locked.ended("stop")


def test_a_key_that_was_taken_back_is_asked_for_again(locked: Locked, keys: Path) -> None:
    locked.show("key-of-alice")
    locked.let_in()
    keys.write_text("alice:another\n")
    locked.page.reload()
    locked.ready()
    keys.write_text("alice:key-of-alice\n")
    locked.show("key-of-alice")
    locked.let_in()
