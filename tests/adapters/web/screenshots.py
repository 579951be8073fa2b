"""The pictures of the page in docs/img/page: the real page in Chromium, before the embedded RAG (`make screenshots`).

Needs what the browser tests need, Pillow (`pip install pillow`), and for these letters the fonts Inter and Nanum
(`apt-get install fonts-inter fonts-nanum`). Answers are extracts from the project's own documents, slowed down so that
a picture can be taken while they stream. Nothing is retouched; 256 colours keep each below 150 KB.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from support.fault_proxy import cuttable
from support.page import FLAGS, Chat
from support.server import Server, running

FOLDER = Path(__file__).parents[3] / "docs/img/page"
MOST_BYTES = 150_000
SERVICE = """
from trialogue_adapters.rag import EmbeddedChatService

def service():
    return EmbeddedChatService(answer="extractive", pace=0.09)
"""
DESKTOP = {"viewport": {"width": 1080, "height": 800}, "device_scale_factor": 1.5}
PHONE = {"viewport": {"width": 390, "height": 800}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}

INTERRUPT = "What does the interrupt policy do?"
WITH = "How do with statements work in Python?"
KOREAN = "답변 중에 새 메시지를 보내면 어떻게 되나요?"
KOREAN_TOO = "연결이 끊기면 어떻게 이어 받나요?"


class Studio:
    def __init__(self, browser: Any, server: Server) -> None:
        self._browser = browser
        self.server = server

    @contextmanager
    def chat(self, url: str = "", **options: Any) -> Iterator[Chat]:
        context = self._browser.new_context(**{"locale": "en-US", **options})
        yield Chat(context.new_page(), url or self.server.address)
        context.close()


def words(chat: Chat, number: int, nth: int = -1) -> None:
    """Wait until so many words of that answer are there."""
    chat.page.wait_for_function(
        "([number, nth]) => [...document.querySelectorAll('[data-testid=assistant-message] .markdown')].at(nth)"
        "?.textContent.split(' ').length >= number",
        arg=[number, nth],
    )


def take(chat: Chat, name: str) -> None:
    chat.page.wait_for_timeout(250)  # what has just arrived is still moving
    picture = Image.open(io.BytesIO(chat.page.screenshot()))
    path = FOLDER / f"{name}.png"
    # A palette that is fair to the few pixels of a small coloured dot, not only to the paper's.
    few = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.name}: {picture.width} x {picture.height}, {size // 1000} KB")
    if size > MOST_BYTES:
        sys.exit(f"{path} is too big")


def interrupted_and_streaming(chat: Chat, first: str, second: str, queued: str, seen: int = 24) -> None:
    chat.ask(first)
    words(chat, seen)
    chat.ask(second)
    chat.ended("interrupted", 0)
    if queued:
        chat.chat_input.fill(queued)
        chat.chat_input.press("Control+Enter")
    words(chat, 30, 1)


def desktop(studio: Studio) -> None:
    with studio.chat(**{**DESKTOP, "viewport": {"width": 1080, "height": 880}}) as chat:
        interrupted_and_streaming(chat, INTERRUPT, WITH, "How does a client resume after a lost connection?")
        take(chat, "desktop-light-streaming")
    with studio.chat(**DESKTOP, color_scheme="dark") as chat:
        chat.ask(WITH)
        words(chat, 35)
        chat.chat_input.press("Escape")
        chat.ended("cancelled")
        chat.sources.locator("> summary").click()
        chat.sources.locator("li summary").first.click()
        take(chat, "desktop-dark-stopped-sources")
    with studio.chat(**DESKTOP, locale="ko-KR") as chat:
        interrupted_and_streaming(chat, KOREAN_TOO, KOREAN, "두 번째 탭에서는 무엇이 보이나요?", 16)
        take(chat, "desktop-light-korean")


def coming_back(studio: Studio) -> None:
    with cuttable(studio.server) as (port, cut), studio.chat(f"http://127.0.0.1:{port}/", **DESKTOP) as chat:
        other = Chat(chat.page.context.new_page(), chat.page.url)
        chat.page.bring_to_front()
        chat.ask(WITH)
        words(chat, 20)
        cut()
        chat.expect(chat.resume_banner).to_be_visible()
        other.ready()
        other.chat_input.press_sequentially("hm")
        chat.expect(chat.presence).to_contain_text("typing")
        take(chat, "desktop-light-back")


def phone(studio: Studio) -> None:
    with studio.chat(**PHONE) as chat:
        chat.ask(WITH)
        words(chat, 40)
        take(chat, "mobile-light-streaming")
    with studio.chat(**PHONE, locale="ko-KR", color_scheme="dark") as chat:
        chat.ask(KOREAN)
        words(chat, 20)
        chat.stop_button.click()
        chat.ended("cancelled")
        take(chat, "mobile-dark-korean-stopped")
    with studio.chat(**PHONE, color_scheme="dark") as chat:
        take(chat, "mobile-dark-welcome")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "slow.py").write_text(SERVICE)
        with running(Path(folder), "hypercorn", ["--linger", "5"], "slow:service") as server, sync_playwright() as p:
            browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            studio = Studio(browser, server)
            desktop(studio)
            coming_back(studio)
            phone(studio)
            browser.close()


if __name__ == "__main__":
    main()
