"""The page in a real browser, against the real command: `trialogue serve` with a small service that keeps a pace."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.page import Chat

pytestmark = pytest.mark.browser


def test_an_answer(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.expect(chat.connection_status).to_have_text("Connected")
    chat.expect(chat.stop_button).to_be_hidden()
    chat.ask("slowly")
    chat.expect(chat.chat_input).to_have_value("")
    chat.expect(chat.loading_indicator).to_be_visible()
    chat.expect(chat.stop_button).to_be_visible()
    chat.streaming("slowly-0")
    chat.expect(chat.loading_indicator).to_have_count(0)
    chat.ended("stop")
    chat.expect(chat.user_message).to_have_text(["slowly"])
    chat.expect(chat.assistant_message).to_have_count(1)
    chat.expect(chat.assistant_message).to_contain_text("slowly-10 slowly-11")
    chat.expect(chat.stop_button).to_be_hidden()
    chat.ask("again")  # the input is usable, and focused
    chat.ended("stop", 1)
    chat.expect(chat.user_message).to_have_text(["slowly", "again"])
    chat.expect(chat.assistant_message).to_have_count(2)


def test_sources(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("hello")
    chat.ended("stop")
    chat.expect(chat.sources.locator("> summary")).to_have_text("Sources (2)")
    chat.expect(chat.page.get_by_text("guide.md")).to_be_hidden()
    chat.sources.locator("> summary").click()
    chat.expect(chat.sources.locator("li").first).to_contain_text("guide.md")
    chat.expect(chat.sources.locator("li").first).to_contain_text("0.95")
    first = chat.sources.locator("li").first
    chat.expect(first.get_by_text("<i>A session</i>")).to_be_hidden()
    first.locator("summary").click()
    chat.expect(first.get_by_text("<i>A session</i>")).to_be_visible()  # a string, not markup
    chat.expect(chat.sources.locator("li").nth(1)).to_contain_text("relevance 12.00")
    assert chat.sources.locator("meter").count() == 1  # 12 has no place on a bar from 0 to 1
    assert chat.sources.locator("a").evaluate_all("(a) => a.map((x) => x.href)") == ["https://example.org/guide"]


def test_a_message_interrupts_the_answer(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("long one")
    chat.streaming("long one-3")
    chat.ask("second")
    chat.ended("interrupted", 0)
    chat.expect(chat.assistant_message.first).to_contain_text("Interrupted by a newer message")
    before = chat.assistant_message.first.locator(".markdown").inner_text()
    chat.ended("stop", 1)
    chat.expect(chat.assistant_message.nth(1)).to_contain_text("second-11")
    assert chat.assistant_message.first.locator(".markdown").inner_text() == before  # nothing late


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


def test_language_and_narrow_dark_screen(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat(viewport={"width": 320, "height": 600}, color_scheme="dark")
    chat.ask("hello")
    chat.ended("stop")
    chat.page.get_by_test_id("language-toggle").click()
    chat.expect(chat.connection_status).to_have_text("연결됨")
    chat.expect(chat.sources.locator("> summary")).to_have_text("출처 2개")
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
