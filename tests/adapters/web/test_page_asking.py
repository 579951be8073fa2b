"""What a user can do besides asking: queue, take back, edit, ask again, copy, press keys, choose a theme."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.page import Chat

pytestmark = pytest.mark.browser


@pytest.fixture
def chat(open_chat: Callable[..., Chat]) -> Chat:
    return open_chat(permissions=["clipboard-read", "clipboard-write"])


def test_queued_messages_wait_in_sight_and_can_be_taken_back(chat: Chat) -> None:
    chat.expect(chat.queue_button).to_be_hidden()
    chat.ask("long one")
    chat.streaming("long one-1")
    chat.expect(chat.queue_button).to_be_hidden()  # there is nothing to queue yet
    chat.chat_input.fill("second")
    chat.queue_button.click()
    chat.chat_input.fill("third")
    chat.chat_input.press("Control+Enter")
    chat.expect(chat.queue.get_by_test_id("user-message")).to_have_text(["second", "third"])
    chat.expect(chat.queue.get_by_test_id("assistant-message").nth(1)).to_have_text("Queued · number 2")
    chat.ended("", 0)  # undisturbed
    chat.queue.get_by_role("button", name="Take out of the queue").first.click()
    chat.expect(chat.queue.get_by_test_id("user-message")).to_have_text(["third"])
    chat.expect(chat.chat_input).to_be_focused()
    chat.ask("now")  # ahead of the queue, and so it stands there
    chat.expect(chat.user_message).to_have_text(["long one", "second", "now", "third"])
    chat.ended("interrupted", 0)
    chat.expect(chat.assistant_message.nth(1)).to_contain_text("Cancelled before its answer began")
    chat.ended("stop", 3)
    chat.expect(chat.queue).to_be_hidden()
    chat.expect(chat.assistant_message).to_have_count(4)


def test_escape_stops_and_the_receipt_says_what_was_seen(chat: Chat) -> None:
    chat.ask("long one")
    chat.streaming("long one-3")
    chat.expect(chat.page.locator("#hint")).to_contain_text("Esc stops")
    chat.chat_input.press("Escape")
    chat.ended("cancelled")
    chat.expect(chat.cut).to_contain_text("Stopped")
    seen = chat.assistant_message.locator(".markdown").inner_text().count("one-")
    chat.expect(chat.cut).to_contain_text(f"You saw all {seen} tokens that were generated · its source has stopped")


def test_a_stop_that_takes_its_time_is_shown(chat: Chat) -> None:
    chat.page.evaluate("""() => { const send = WebSocket.prototype.send; window.held = [];
        WebSocket.prototype.send = function (text) {
            text.includes('"cancel"') ? held.push(() => send.call(this, text)) : send.call(this, text);
        }; }""")
    chat.ask("long one")
    chat.streaming("long one-3")
    chat.expect(chat.assistant_message).to_have_attribute("data-phase", "generating")
    chat.stop_button.click()
    chat.expect(chat.assistant_message).to_have_attribute("data-phase", "stopping")
    chat.expect(chat.assistant_message).to_contain_text("Stopping")
    chat.page.evaluate("held.forEach((go) => go())")
    chat.ended("cancelled")


def test_edit_and_send_again(chat: Chat) -> None:
    chat.ask("long one")
    chat.streaming("long one-3")
    chat.chat_input.fill("a draft")
    chat.edit.click()
    chat.expect(chat.editing).to_be_visible()
    chat.expect(chat.chat_input).to_have_value("long one")
    chat.chat_input.press("Escape")  # leaves editing, and stops nothing
    chat.expect(chat.editing).to_be_hidden()
    chat.expect(chat.chat_input).to_have_value("a draft")
    chat.ended("")
    chat.chat_input.fill("")
    chat.chat_input.press("ArrowUp")
    chat.expect(chat.chat_input).to_have_value("long one")
    chat.ask("better")
    chat.ended("retracted", 0)  # it ran: it is taken back, and not only interrupted
    chat.expect(chat.assistant_message.first).to_contain_text("Replaced by the edited message")
    chat.ended("stop", 1)
    chat.expect(chat.user_message).to_have_text(["long one", "better"])
    chat.expect(chat.chat_input).to_have_value("")


def test_an_edited_message_in_the_queue_keeps_waiting(chat: Chat) -> None:
    chat.ask("long one")
    chat.streaming("long one-1")
    chat.chat_input.fill("second")
    chat.chat_input.press("Control+Enter")
    chat.queue.get_by_test_id("edit").click()
    chat.ask("second, better")
    chat.expect(chat.queue.get_by_test_id("user-message")).to_have_text(["second, better"])
    chat.ended("", 0)


def test_answer_again_and_copy(chat: Chat) -> None:
    chat.ask("markdown")
    chat.ended("stop")
    chat.copy_code.click()
    chat.expect(chat.page.get_by_role("button", name="Copied")).to_be_visible()
    code = "async with trio.open_nursery() as nursery:\n    nursery.start_soon(session.run)\n"
    assert chat.page.evaluate("navigator.clipboard.readText()") == code
    chat.copy_answer.click()
    chat.page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('## What it does'))")
    assert chat.page.evaluate("navigator.clipboard.readText()").endswith("> and a quotation to end with.\n\n")
    chat.regenerate.click()
    chat.ended("stop", 1)
    chat.expect(chat.user_message).to_have_text(["markdown", "markdown"])


def test_copying_without_a_clipboard_api(chat: Chat) -> None:
    """As on plain http from another host."""
    chat.ask("hello")
    chat.ended("stop")
    chat.page.evaluate("window.read = navigator.clipboard.readText.bind(navigator.clipboard)")
    chat.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    chat.copy_answer.click()
    chat.expect(chat.page.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.page.evaluate("read()").startswith("hello-0 hello-1")


def test_keys(chat: Chat) -> None:
    chat.ask("hello")
    chat.ended("stop")
    chat.page.locator("#scroll").focus()
    chat.page.keyboard.press("?")
    chat.expect(chat.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    chat.page.keyboard.press("Escape")
    chat.expect(chat.help).to_be_hidden()
    chat.page.locator("#scroll").focus()
    chat.page.keyboard.press("/")
    chat.expect(chat.chat_input).to_be_focused()
    chat.expect(chat.chat_input).to_have_value("")
    chat.chat_input.press_sequentially("and/or?")  # in the field they are letters
    chat.expect(chat.chat_input).to_have_value("and/or?")
    chat.page.keyboard.press("Alt+n")
    chat.expect(chat.user_message).to_have_count(0)


def test_the_theme_is_chosen_and_kept(chat: Chat) -> None:
    def paper() -> str:
        return str(chat.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = paper()
    chat.page.emulate_media(color_scheme="dark")
    dark = paper()
    assert dark != light
    chat.theme_toggle.click()
    chat.expect(chat.page.get_by_role("button", name="Theme: light")).to_be_visible()
    assert paper() == light
    chat.page.reload()
    assert paper() == light  # before any module has run
    chat.theme_toggle.click()
    chat.page.emulate_media(color_scheme="light")
    assert paper() == dark
    chat.theme_toggle.click()
    assert paper() == light
