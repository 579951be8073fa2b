"""What may be served, as what, and that it fits the policy that it is served under."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from trialogue_adapters import web

STATIC = web.ROOT
NAMES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())
OWN_SCRIPTS = [*sorted(STATIC.glob("*.js")), *web.CLIENT.glob("*.js")]


def text(name: str) -> str:
    found = web.read(name)
    assert found is not None
    return found[0].decode()


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("turns.css", "text/css; charset=utf-8"),
        ("page.js", "text/javascript; charset=utf-8"),
        ("vendor/marked.esm.js", "text/javascript; charset=utf-8"),
        ("vendor/purify.min.js", "text/javascript; charset=utf-8"),
        ("vendor/marked.LICENSE.txt", "text/plain; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_served(name: str, content_type: str) -> None:
    assert web.read(name) == ((STATIC / name).read_bytes(), content_type)


def test_the_client_is_served_beside_the_page_and_the_rest_of_its_package_is_not() -> None:
    served = {path.name for path in web.CLIENT.iterdir() if web.read(path.name)}
    assert served == {"trialogue.js"}
    assert web.read("trialogue.js") == ((web.CLIENT / "trialogue.js").read_bytes(), "text/javascript; charset=utf-8")


def test_everything_but_the_notes_is_served() -> None:
    assert [name for name in NAMES if web.read(name) is None] == ["vendor/README.md"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/",
        "..",
        "vendor",
        "vendor/",
        "nothing.js",
        "../__init__.py",
        "__init__.py",
        "vendor/../page.js",
        "./page.js",
        "/page.js",
        "page.js/",
        "PAGE.JS",
        "page.js\0",
        "%2e%2e/__init__.py",
        "..\\__init__.py",
        str(STATIC / "page.js"),
    ],
)
def test_not_served(name: str) -> None:
    assert web.read(name) is None


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.inline: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in {"script", "style"} and data.strip():
            self.inline.append(data)


@pytest.fixture
def page() -> _Page:
    parser = _Page()
    parser.feed(text("index.html"))
    return parser


def test_no_inline_script_or_style(page: _Page) -> None:
    assert page.inline == []
    assert [a for a in page.attributes if a[1] == "style" or a[1].startswith("on")] == []


def test_the_page_loads_only_what_is_served(page: _Page) -> None:
    addresses = [value for _, name, value in page.attributes if name in {"src", "href", "action", "srcset"}]
    assert "static/page.js" in addresses
    for address in addresses:  # relative: the page may be mounted anywhere
        assert web.read(address.removeprefix("static/")) is not None, address


def test_the_hooks_that_checks_hold_on_to(page: _Page) -> None:
    drawn_by_script = {"user-message", "assistant-message", "loading-indicator", "sources"}
    in_the_page = {value for _, name, value in page.attributes if name == "data-testid"}
    assert {"chat-input", "send-button", "stop-button", "connection-status"} <= in_the_page
    scripts = "".join(script.read_text() for script in OWN_SCRIPTS)
    for testid in drawn_by_script:
        assert scripts.count(f'dataset.testid = "{testid}"') == 1


@pytest.mark.parametrize("script", OWN_SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_only_served_neighbours(script: Path) -> None:
    for address in re.findall(r'^import\b.*?"([^"]+)";', script.read_text(), re.MULTILINE):
        assert address.startswith("./")
        assert web.read(address.removeprefix("./")) is not None, address


@pytest.mark.parametrize(
    "name", ["index.html", "page.css", "turns.css", "icon.svg", *(path.name for path in OWN_SCRIPTS)]
)
def test_no_address_of_another_host(name: str) -> None:
    # `wss://host` is the example in the client's head comment; an SVG names its namespace, which nobody fetches.
    body = text(name).replace("wss://host/", "").replace('"http://www.w3.org/2000/svg"', "")
    assert re.findall(r"(?:https?|wss?):?//[\w.]+|@import|url\(", body) == []


@pytest.mark.parametrize("script", OWN_SCRIPTS, ids=lambda path: path.name)
def test_no_string_becomes_html_or_code(script: Path) -> None:
    forbidden = (
        r"\.(?:inner|outer)HTML\b|insertAdjacentHTML|createContextualFragment|document\.write|\beval\(|new Function"
    )
    assert re.findall(forbidden, script.read_text()) == []


def test_both_languages_have_the_same_keys_and_every_key_in_use() -> None:
    source = text("i18n.js")
    tables = re.search(r"\n  ko: \{(.*?)\n  \},\n  en: \{(.*?)\n  \},\n", source, re.DOTALL)
    assert tables is not None
    korean, english = (set(re.findall(r'"([\w.]+)": "', table)) for table in tables.groups())
    assert korean == english
    assert set(re.findall(r'data-i18n[a-z-]*="([^"]+)"', text("index.html"))) <= korean
    for script in OWN_SCRIPTS:
        assert set(re.findall(r'\bt\("([^"]+)"', script.read_text())) <= korean


def test_vendored_files_are_the_ones_that_were_published() -> None:
    table = re.findall(r"^\| `(\S+)` \|.*`([0-9a-f]{64})` \|$", (STATIC / "vendor/README.md").read_text(), re.MULTILINE)
    assert len(table) == 2
    for name, digest in table:
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest


def test_the_policy_allows_nothing_inline() -> None:
    assert "default-src 'none'" in web.CONTENT_SECURITY_POLICY
    assert "unsafe" not in web.CONTENT_SECURITY_POLICY
