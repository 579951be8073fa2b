"""One Chromium and one server for the browser tests of this folder, and a fresh context for each test.

The page's own Content-Security-Policy is part of what is tested: whatever the browser reports on its console as an
error, a refused script or a refused style among it, fails the test that caused it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.page import FLAGS, Chat, serving
from support.server import Server
from trialogue_adapters import web


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install .[browser]")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real command with a service that keeps a pace, see support.page."""
    with serving(tmp_path_factory.mktemp("page")) as server:
        yield server


@pytest.fixture
def open_chat(server: Server, new_context: Callable[..., Any]) -> Callable[..., Chat]:
    """Open the page in a browser of its own, and wait until it is connected."""

    def open_it(url: str = server.address, **options: Any) -> Chat:
        return Chat(new_context(**options).new_page(), url)

    return open_it


@pytest.fixture
def new_context(browser: Any) -> Iterator[Callable[..., Any]]:
    """Make browser contexts (each with its own storage) whose complaints fail the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def watch(page: Any) -> None:
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if _is_a_complaint(message) else None)

    def make(**options: Any) -> Any:
        context = browser.new_context(**{"locale": "en-US", **options})
        context.on("page", watch)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def module_page(new_context: Callable[..., Any]) -> Any:
    """A blank page on whose host the static files lie, for tests of single modules; there is no server behind it."""

    def serve(route: Any) -> None:
        found = web.read(route.request.url.partition("/static/")[2])
        body, content_type = found or (b"<!doctype html>", "text/html")
        route.fulfill(body=body, content_type=content_type)

    page = new_context().new_page()
    page.route("**/*", serve)
    page.clock.install()
    page.goto("http://chat.test/")
    return page


def _is_a_complaint(message: Any) -> bool:
    # A lost connection and a 401 are reported as errors too; tests that cut the wire or show no key want exactly that.
    wanted = ("WebSocket connection to", "Failed to load resource: net::ERR_", "status of 401")
    return message.type == "error" and not any(text in message.text for text in wanted)
