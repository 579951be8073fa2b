"""The page in a real browser, against the real command: `trialogue serve` with a small service that keeps a pace."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.page import Chat, serving
from support.server import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("page")) as server:
        yield server


class Relay:
    """A wire between browser and server that can be cut: both ends see their connection end, and no close frame."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()
        for pair in self._pairs:
            for end in pair:
                end.close()


@pytest.fixture
def open_chat(server: Server, new_context: Callable[..., Any]) -> Callable[..., Chat]:
    def open_it(url: str = server.address, **options: Any) -> Chat:
        return Chat(new_context(**options).new_page(), url)

    return open_it


def test_an_answer(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.expect(chat.connection_status).to_have_text("Connected")
    chat.expect(chat.stop_button).to_be_hidden()
    chat.ask("hello")
    chat.expect(chat.chat_input).to_have_value("")
    chat.expect(chat.loading_indicator).to_be_visible()
    chat.expect(chat.stop_button).to_be_visible()
    chat.streaming("hello-0")
    chat.expect(chat.loading_indicator).to_have_count(0)
    chat.ended("stop")
    chat.expect(chat.user_message).to_have_text(["hello"])
    chat.expect(chat.assistant_message).to_have_count(1)
    chat.expect(chat.assistant_message).to_contain_text("hello-10 hello-11")
    chat.expect(chat.stop_button).to_be_hidden()
    chat.ask("again")  # the input is usable, and focused
    chat.ended("stop", 1)
    chat.expect(chat.user_message).to_have_text(["hello", "again"])
    chat.expect(chat.assistant_message).to_have_count(2)


def test_sources(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("hello")
    chat.ended("stop")
    chat.expect(chat.sources.locator("summary")).to_have_text("Sources (2)")
    chat.expect(chat.page.get_by_text("guide.md")).to_be_hidden()
    chat.sources.locator("summary").click()
    chat.expect(chat.sources.locator("li").first).to_contain_text("guide.md")
    chat.expect(chat.sources.locator("li").first).to_contain_text("0.95")
    chat.expect(chat.sources.locator("li").first).to_contain_text("<i>A session</i>")  # a string, not markup


def test_a_message_interrupts_the_answer(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("long one")
    chat.streaming("long one-3")
    chat.ask("second")
    chat.ended("interrupted", 0)
    chat.expect(chat.assistant_message.first).to_contain_text("Interrupted by a newer message")
    before = chat.assistant_message.first.inner_text()
    chat.ended("stop", 1)
    chat.expect(chat.assistant_message.nth(1)).to_contain_text("second-11")
    assert chat.assistant_message.first.inner_text() == before  # nothing late


def test_stop(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("long one")
    chat.streaming("long one-3")
    chat.stop_button.click()
    chat.ended("cancelled")
    chat.expect(chat.assistant_message).to_contain_text("Stopped")
    chat.expect(chat.stop_button).to_be_hidden()
    chat.ask("next")
    chat.ended("stop", 1)


def test_a_failed_turn_says_what_to_do(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("fail please")
    chat.ended("failed")
    chat.expect(chat.assistant_message).to_contain_text("RAG-001")
    assert chat.assistant_message.locator("li").count() > 0
    chat.page.get_by_role("button", name="Ask again").click()
    chat.ended("failed", 1)
    chat.expect(chat.user_message).to_have_text(["fail please", "fail please"])


def test_empty_messages_are_not_sent(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.send_button.click()
    chat.ask("  \n ")
    chat.chat_input.fill("")
    chat.chat_input.press("Enter")
    chat.ask("real")
    chat.ended("stop")
    chat.expect(chat.user_message).to_have_text(["real"])


def test_shift_enter_breaks_the_line(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.chat_input.press_sequentially("one")
    chat.chat_input.press("Shift+Enter")
    chat.chat_input.press_sequentially("two")
    chat.expect(chat.chat_input).to_have_value("one\ntwo")
    chat.send_button.click()
    chat.expect(chat.user_message).to_have_text(["one\ntwo"])
    chat.ended("stop")


def test_enter_that_ends_a_composition_does_not_send(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat(locale="ko-KR")
    chat.expect(chat.connection_status).to_have_text("연결됨")
    chat.chat_input.focus()
    keyboard = chat.page.context.new_cdp_session(chat.page)
    keyboard.send("Input.imeSetComposition", {"text": "안녕", "selectionStart": 2, "selectionEnd": 2})
    chat.page.evaluate(
        "window.seen = []; addEventListener('keydown', (e) => seen.push(e.isComposing || e.keyCode === 229), true)"
    )
    # As an input method reports it: the key is 229, "somebody else's", while the composition is still open.
    keyboard.send(
        "Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    )
    assert chat.page.evaluate("seen") == [True]
    keyboard.send("Input.insertText", {"text": "안녕"})
    chat.expect(chat.chat_input).to_have_value("안녕")
    chat.expect(chat.user_message).to_have_count(0)
    chat.chat_input.press("Enter")
    chat.expect(chat.user_message).to_have_text(["안녕"])
    chat.ended("stop")


def test_reload_in_mid_answer_shows_the_question_and_goes_on(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("long one")
    chat.streaming("long one-5")
    chat.page.reload()
    chat.expect(chat.user_message).to_have_text(["long one"])
    chat.expect(chat.assistant_message).to_have_count(1)
    chat.streaming("long one-0 long one-1")
    chat.ended("stop")
    words = [f"long one-{i}" for i in range(200)]
    chat.expect(chat.assistant_message.locator(".markdown")).to_have_text(" ".join(words))


def test_reload_shows_what_was_said(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("hello")
    chat.ended("stop")
    chat.page.reload()
    chat.expect(chat.user_message).to_have_text(["hello"])
    chat.expect(chat.assistant_message).to_contain_text("hello-0 hello-1")
    chat.page.get_by_test_id("new-chat").click()
    chat.expect(chat.user_message).to_have_count(0)
    chat.ready()
    chat.page.reload()
    chat.ready()
    chat.expect(chat.user_message).to_have_count(0)


def test_a_second_tab_sees_the_same(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("long one")
    chat.streaming("long one-2")
    other = Chat(chat.page.context.new_page(), chat.page.url)
    other.expect(other.user_message).to_have_text(["long one"])
    other.streaming("long one-0 long one-1")
    chat.expect(chat.page.locator("#presence")).to_have_text("Open in 2 places")
    other.ask("from the other")
    for tab in (chat, other):
        tab.ended("interrupted", 0)
        tab.expect(tab.user_message).to_have_text(["long one", "from the other"])
        tab.ended("stop", 1)
        tab.expect(tab.assistant_message.nth(1)).to_contain_text("from the other-11")


def test_hostile_markdown_runs_nothing_and_loads_nothing(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    asked: list[str] = []
    chat.page.on("request", lambda request: asked.append(request.url))
    chat.ask("hostile")
    chat.ended("stop")
    body = chat.assistant_message.locator(".markdown")
    chat.expect(body.locator("strong")).to_have_text("strong")
    chat.expect(body).to_contain_text("<script>window.pwned = 1</script>")  # shown as what it is, inline …
    chat.expect(body).to_contain_text("<style>body { display: none }</style>")  # … and as a block
    assert chat.page.evaluate("window.pwned") is None
    assert body.locator("script, img, svg, iframe, style, [style], [onerror], [data-testid]").count() == 0
    links = body.locator("a[href]")
    targets = [links.nth(i).get_attribute("href") for i in range(links.count())]
    assert targets == ["https://tracker.invalid/pixel.png", "https://example.org/a?b=1"]  # an image is a link, unloaded
    for i in range(links.count()):
        assert links.nth(i).get_attribute("rel") == "noopener noreferrer"
        assert links.nth(i).get_attribute("target") == "_blank"
    assert asked == []


def test_a_cut_wire_is_mended_without_a_hole(open_chat: Callable[..., Chat], server: Server) -> None:
    relay = Relay(server.port)
    chat = open_chat(relay.url)
    chat.ask("long one")
    chat.streaming("long one-5")
    relay.cut()
    chat.expect(chat.connection_status).not_to_have_attribute("data-state", "ready")
    chat.ready()
    chat.ended("stop")
    words = [f"long one-{i}" for i in range(200)]
    chat.expect(chat.assistant_message.locator(".markdown")).to_have_text(" ".join(words))
    chat.expect(chat.user_message).to_have_text(["long one"])
    chat.expect(chat.page.locator(".divider")).to_have_count(0)
    chat.page.close()
    relay.close()


def test_a_lost_server_costs_no_question(new_context: Callable[..., Any], tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        chat = Chat(new_context().new_page(), first.address)
        chat.ask("long one")
        chat.streaming("long one-2")
        first.process.kill()
        chat.expect(chat.connection_status).to_have_attribute("data-state", "waiting")
        chat.ask("asked while away")
        chat.expect(chat.assistant_message.nth(1)).to_contain_text("Will be sent when back online")
    with serving(tmp_path, "--port", str(first.port)):
        chat.page.locator("#reconnect").dispatch_event(
            "click"
        )  # it may have come back by itself: then this does nothing
        chat.ready()
        chat.expect(chat.page.locator(".divider")).to_be_visible()  # honest: the log is a new one
        chat.ended("stop", 1)
        chat.expect(chat.assistant_message.nth(1)).to_contain_text("asked while away-11")
        chat.expect(chat.user_message).to_have_text(["long one", "asked while away"])


def test_language_and_narrow_dark_screen(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat(viewport={"width": 320, "height": 600}, color_scheme="dark")
    chat.ask("hello")
    chat.ended("stop")
    chat.page.get_by_test_id("language-toggle").click()
    chat.expect(chat.connection_status).to_have_text("연결됨")
    chat.expect(chat.sources.locator("summary")).to_have_text("출처 2개")
    assert chat.page.evaluate("document.documentElement.lang") == "ko"
    assert chat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    chat.page.reload()
    chat.expect(chat.connection_status).to_have_text("연결됨")


def test_tokens_are_not_read_out(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.page.evaluate(
        "window.said = [];"
        "new MutationObserver(() => said.push(announcer.textContent)).observe(announcer, { childList: true })"
    )
    chat.ask("hello")
    chat.ended("stop")
    chat.expect(chat.page.locator("#announcer")).to_be_empty()
    said = [text for text in chat.page.evaluate("said") if text]
    assert said[0] == "The answer has started"
    assert said[-1].startswith("Answer: hello-0")
    assert len(said) == 2
    live = chat.page.evaluate(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=log], [role=alert]')].map((e) => e.id)"
    )
    assert sorted(live) == ["announcer", "notice", "status"]
