"""The page for who does not see it or has no mouse: nothing serious for axe-core, and a focus ring everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support import node
from support.page import Chat

pytestmark = pytest.mark.browser

LOOK = """async () => {
    await Promise.all(document.getAnimations().filter((a) => a.effect.getTiming().iterations !== Infinity)
        .map((a) => a.finished));
    const { violations } = await axe.run();
    return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => [id, ...nodes.map(({ html, failureSummary }) => html + ' ' + failureSummary)]);
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    source = node.JS / "node_modules/axe-core/axe.min.js"
    if not source.exists():
        pytest.skip("axe-core is not installed: npm install --prefix tests/js (make test does it)")
    return source.read_text()


def findings(chat: Chat, axe: str) -> Any:
    """Through the debugger, which the page's own policy does not bind: that stays as it is served."""
    if chat.page.evaluate("typeof axe") == "undefined":
        chat.page.evaluate(axe)
    return chat.page.evaluate(LOOK)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_chat: Callable[..., Chat], axe: str, theme: str) -> None:
    chat = open_chat(color_scheme=theme)
    found = {"idle": findings(chat, axe)}
    chat.ask("long one")
    chat.expect(chat.loading_indicator).to_be_visible()
    found["waiting"] = findings(chat, axe)
    chat.streaming("long one-3")
    for text in ("a", "b"):
        chat.chat_input.fill(text)
        chat.chat_input.press("Control+Enter")
    chat.chat_input.fill("not yet sent")
    chat.expect(chat.queue.get_by_test_id("user-message")).to_have_count(2)
    found["streaming, with a queue"] = findings(chat, axe)
    chat.ask("markdown")
    chat.ended("interrupted", 0)
    chat.ended("stop", 3)
    chat.ask("fail")
    chat.ended("failed")
    chat.sources.first.locator("> summary").click()
    chat.sources.first.locator("li summary").first.click()
    chat.edit.first.click()
    found["with sources, cut, Markdown, a failure, editing"] = findings(chat, axe)
    chat.page.locator("#help").evaluate("(dialog) => dialog.showModal()")
    found["help"] = findings(chat, axe)
    assert {state: what for state, what in found.items() if what} == {}


def test_the_keyboard_reaches_everything_and_sees_where_it_is(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat()
    chat.ask("markdown")
    chat.ended("stop")
    chat.page.locator("h1").click()  # the next Tab goes on from there
    reached = []
    for _ in range(20):
        chat.page.keyboard.press("Tab")
        name, outline, size = chat.page.evaluate("""() => { const e = document.activeElement, s = getComputedStyle(e);
            return [e.dataset.testid ?? (e.id || e.localName), s.outlineStyle + s.outlineWidth,
                e.getBoundingClientRect().width]; }""")
        if name == "body":
            break  # once around
        reached.append(name)
        assert name == "chat-input" or outline == "solid2px", name
        assert size >= 24, name  # WCAG 2.2: the smallest target
    wanted = ["help-button", "theme-toggle", "language-toggle", "new-chat", "scroll", "edit", "copy-code"]
    wanted += ["copy-answer", "regenerate", "chat-input", "send-button"]
    assert [name for name in reached if name in wanted] == wanted
    assert chat.page.evaluate("getComputedStyle(document.querySelector('.field')).boxShadow") != "none"


def test_who_wants_no_motion_has_none(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat(reduced_motion="reduce")
    chat.ask("long one")
    chat.expect(chat.loading_indicator).to_be_visible()
    assert chat.page.evaluate("document.getAnimations().length") == 0
    chat.streaming("long one-3")
    assert chat.page.evaluate("document.getAnimations().length") == 0
