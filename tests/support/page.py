"""The page in a browser, as its user has it, and the command behind it with a small service that keeps a pace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.server import Server, running

SERVICE = '''
import asyncio

HOSTILE = """Hello <script>window.pwned = 1</script><img src=x onerror="window.pwned = 2">
<svg onload="window.pwned = 3"></svg>

[click](javascript:window.pwned=4) ![pixel](https://tracker.invalid/pixel.png) <b data-testid="stop-button">bold</b>
<iframe srcdoc="<script>parent.pwned = 5</script>"></iframe>

<style>body { display: none }</style> <p style="color: red">p</p>

[fine](https://example.org/a?b=1) **strong** last"""


class Paced:
    async def stream_rag_pipeline(self, message, session_id, options=None):
        await asyncio.sleep(0.15)
        if "fail" in message:
            raise RuntimeError("the upstream went away")
        yield {"event": "metadata", "data": {"sources": [
            {"title": "guide.md", "score": 0.95, "content_preview": "<i>A session</i> is a conversation."},
            {"title": "notes.md", "score": 0.5, "content_preview": "more"}]}}
        if "hostile" in message:
            words = [HOSTILE[i : i + 7] for i in range(0, len(HOSTILE), 7)]
        else:
            words = [f"{message}-{i} " for i in range(200 if "long" in message else 12)]
        for word in words:
            yield {"event": "chunk", "data": word}
            await asyncio.sleep(0.02)
        yield {"event": "done", "data": {}}
'''


@contextlib.contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Server]:
    (folder / "paced_service.py").write_text(SERVICE)
    with running(folder, "hypercorn", flags, "paced_service:Paced") as server:
        yield server


class Chat:
    """The page as its user has it."""

    def __init__(self, page: Any, url: str) -> None:
        from playwright.sync_api import expect  # here, for the module must import without it

        self.page, self.expect = page, expect
        page.goto(url)
        self.ready()

    def __getattr__(self, name: str) -> Any:  # chat.user_message -> the elements of that test id
        return self.page.get_by_test_id(name.replace("_", "-"))

    def ready(self) -> None:
        self.expect(self.connection_status).to_have_attribute("data-state", "ready")

    def ask(self, text: str) -> None:
        self.chat_input.fill(text)
        self.chat_input.press("Enter")

    def ended(self, how: str, nth: int = -1) -> None:
        self.expect(self.assistant_message.nth(nth)).to_have_attribute("data-ending", how)

    def streaming(self, words: str, nth: int = -1) -> None:
        self.expect(self.assistant_message.nth(nth)).to_contain_text(words)
        self.ended("", nth)
