"""The page that goes away and comes back: reload, second tab, a cut wire, a lost server; and what it says about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.fault_proxy import cuttable
from support.page import Chat, serving
from support.server import Server

pytestmark = pytest.mark.browser


def test_reload_in_mid_answer_shows_the_question_and_goes_on(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("whole one")
    chat.streaming("whole one-5")
    chat.page.reload()
    chat.expect(chat.user_message).to_have_text(["whole one"])
    chat.expect(chat.assistant_message).to_have_count(1)
    chat.expect(chat.resume_banner).to_have_text("Conversation replayed from the server · messages: 1")
    chat.streaming("whole one-0 whole one-1")
    chat.ended("stop")
    chat.shows_all_of("whole one", 90)


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


def test_who_types_in_another_tab_is_seen(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    other = Chat(chat.page.context.new_page(), chat.page.url)
    chat.expect(chat.presence).to_have_text("Open in 2 places")
    other.chat_input.press_sequentially("hm")
    chat.expect(chat.presence).to_have_text("Somebody is typing…")
    other.chat_input.fill("")
    chat.expect(chat.presence).to_have_text("Open in 2 places")
    other.page.close()
    chat.expect(chat.presence).to_be_hidden()


def test_a_cut_wire_is_mended_without_a_hole(open_chat: Callable[..., Chat], server: Server) -> None:
    with cuttable(server) as (port, cut):
        chat = open_chat(f"http://127.0.0.1:{port}/")
        chat.ask("whole one")
        chat.streaming("whole one-5")
        chat.expect(chat.resume_banner).to_be_hidden()
        cut()
        chat.expect(chat.connection_status).not_to_have_attribute("data-state", "ready")
        chat.ready()
        chat.expect(chat.resume_banner).to_be_visible()
        said = re.fullmatch(
            r"Back after \d\.\d s · (\d+) missed tokens replayed, none lost", chat.resume_banner.inner_text()
        )
        assert said
        assert 1 <= int(said[1]) < 90
        chat.ended("stop")
        chat.shows_all_of("whole one", 90)
        chat.expect(chat.user_message).to_have_text(["whole one"])
        chat.expect(chat.page.locator(".divider")).to_have_count(0)
        chat.resume_banner.get_by_role("button", name="Dismiss").click()
        chat.expect(chat.resume_banner).to_be_hidden()
        chat.expect(chat.chat_input).to_be_focused()
        chat.page.close()


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
