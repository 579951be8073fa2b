"""The page in a browser, as its user has it, and the command behind it with a small service that keeps a pace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.server import Server, running

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SERVICE = '''
import asyncio
import itertools

SOURCES = [
    {"title": "guide.md", "score": 0.95, "content_preview": "<i>A session</i> is a conversation.",
     "url": "https://example.org/guide"},
    {"title": "notes.md", "score": 12, "content_preview": "more", "url": "javascript:window.pwned = 6"},
]
MARKDOWN = """## What it does

A *session* is an actor; see `hub.attach` and **the log**. It goes on:

1. first, with `code`
2. second, with a [link](https://example.org/a)

| name | what |
|---|---|
| a | b |

```python
async with trio.open_nursery() as nursery:
    nursery.start_soon(session.run)
```

> and a quotation to end with.

"""

HOSTILE = """Hello <script>window.pwned = 1</script><img src=x onerror="window.pwned = 2">
<svg onload="window.pwned = 3"></svg>

[click](javascript:window.pwned=4) ![pixel](https://tracker.invalid/pixel.png) <b data-testid="stop-button">bold</b>
<iframe srcdoc="<script>parent.pwned = 5</script>"></iframe>

<style>body { display: none }</style> <p style="color: red">p</p>

[fine](https://example.org/a?b=1) **strong** last"""


class Paced:
    async def stream_rag_pipeline(self, message, session_id, options=None):
        await asyncio.sleep(1 if "slowly" in message else 0.15)
        if "fail" in message:
            raise RuntimeError("the upstream went away")
        yield {"event": "metadata", "data": {"sources": SOURCES}}
        for n, word in enumerate(self.words(message)):
            yield {"event": "chunk", "data": word}
            if "thousand" not in message or n % 20 == 0:
                await asyncio.sleep(0.004 if "thousand" in message else 0.15 if "slowly" in message else 0.02)
        yield {"event": "done", "data": {}}

    def words(self, message):
        for name, text in (("markdown", MARKDOWN), ("hostile", HOSTILE)):
            if name in message:
                return [text[i : i + 17] for i in range(0, len(text), 17)]
        if "thousand" in message:
            return itertools.islice(itertools.cycle([MARKDOWN[i : i + 4] for i in range(0, len(MARKDOWN), 4)]), 10_000)
        number = 400 if "long" in message else 90 if "whole" in message else 12
        return [f"{message}-{i} " for i in range(number)]
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

    def shows_all_of(self, text: str, number: int) -> None:
        words = " ".join(f"{text}-{i}" for i in range(number))
        self.expect(self.assistant_message.last.locator(".markdown")).to_have_text(words)

    def ended(self, how: str, nth: int = -1) -> None:
        self.expect(self.assistant_message.nth(nth)).to_have_attribute("data-ending", how)

    def streaming(self, words: str, nth: int = -1) -> None:
        self.expect(self.assistant_message.nth(nth)).to_contain_text(words)
        self.ended("", nth)
