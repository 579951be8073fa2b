"""Hostile Markdown: nothing runs or is loaded, nothing borrows the page's looks or names, nothing takes its time."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

pytestmark = pytest.mark.browser

DRAW = """async (text) => {
    const { GrowingMarkdown } = await import('/static/growing.js');
    const into = document.body.appendChild(document.createElement('div'));
    const begun = performance.now();
    new GrowingMarkdown(into).draw(text, true, Infinity);
    const ms = performance.now() - begun;
    const names = [...into.querySelectorAll('*')];
    return {
        ms, text: into.textContent,
        tags: [...new Set(names.map((node) => node.localName))],
        attributes: [...new Set(names.flatMap((node) => node.getAttributeNames()))],
        targets: names.map((node) => node.getAttribute('href')).filter((href) => href !== null),
    };
}"""

TAGS = {"a", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p"}
TAGS |= {"pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"}
ATTRIBUTES = {"align", "class", "href", "rel", "start", "tabindex", "target", "title"}

PAYLOADS = [
    "<script>pwned=1</script>",
    "<img src=x onerror=pwned=1>",
    "<IMG SRC=x OnErRoR=pwned=1>",
    "<svg><script>pwned=1</script></svg>",
    "<svg/onload=pwned=1>",
    "<svg><animate onbegin=pwned=1 attributeName=x dur=1s></svg>",
    '<iframe srcdoc="<script>parent.pwned=1</script>"></iframe>',
    "<object data=javascript:pwned=1></object><embed src=javascript:pwned=1>",
    '<form action=javascript:pwned=1><input type=submit id=send><button formaction="javascript:pwned=1">x</form>',
    "<style>*{display:none}</style>",
    '<link rel=stylesheet href=http://evil.test/x.css><base href="http://evil.test/">',
    '<meta http-equiv=refresh content="0;url=javascript:pwned=1">',
    "<details open ontoggle=pwned=1>x</details>",
    "<video><source onerror=pwned=1></video><audio src=x onerror=pwned=1>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=pwned=1>",
    "<noscript><p title='</noscript><img src=x onerror=pwned=1>'>",
    "<template><script>pwned=1</script></template>",
    "<a id=scroll name=input href=#>clobber</a><form id=turns><input name=attributes></form>",
    "[x](javascript:pwned=1)",
    "[x](JaVaScRiPt:pwned=1)",
    "[x](java\tscript:pwned=1)",
    "[x](&#106;avascript:pwned=1)",
    "[x](\x01javascript:pwned=1)",
    "[x](data:text/html,<script>pwned=1</script>)",
    "[x](data:text/html;base64,PHNjcmlwdD5wd25lZD0xPC9zY3JpcHQ+)",
    "[x](vbscript:pwned=1)",
    "[x](blob:http://chat.test/1)",
    "[x](file:///etc/passwd)",
    "<javascript:pwned=1>",
    "![x](javascript:pwned=1)",
    '![x](x"onerror="pwned=1)',
    "![x](https://tracker.test/pixel.png)",
    '[x](https://ok.test "title" onmouseover=pwned=1)',
    '[x](https://ok.test/"onmouseover="pwned=1)',
    "[x]: javascript:pwned=1\n\n[x] and [y][x]",
    '```"><img/src=x/onerror=pwned=1>\ncode\n```',
    "```toast notice strip bad\ncode\n```",
    "`<img src=x onerror=pwned=1>` and ``<script>``",
    "| <img src=x onerror=pwned=1> |\n|---|\n| [x](javascript:pwned=1) |",
    "- [ ] <input autofocus onfocus=pwned=1>",
    "# <a name=x href=javascript:pwned=1>x</a>",
    "<p class=question data-testid=user-message style='position:fixed;inset:0'>fake</p>",
    "<!--><img src=x onerror=pwned=1>-->",
    "<![CDATA[<img src=x onerror=pwned=1>]]>",
    "<?php echo '<script>pwned=1</script>' ?>",
    "\ud83d\ude00<x onclick=pwned=1 contenteditable autofocus onfocus=pwned=1 tabindex=1>",
]


@pytest.fixture
def page(module_page: Any) -> Any:
    module_page.asked = []
    module_page.on("request", lambda request: module_page.asked.append(request.url))
    return module_page


def test_nothing_runs_and_nothing_is_loaded(page: Any) -> None:
    for payload in PAYLOADS:
        for text in (payload, f"before\n\n{payload}\n\nafter", f"> - {payload}"):
            drawn = page.evaluate(DRAW, text)
            assert set(drawn["tags"]) <= TAGS, payload
            assert set(drawn["attributes"]) <= ATTRIBUTES, payload
            for target in drawn["targets"]:
                assert target.startswith(("https://ok.test", "https://tracker.test/")), payload
    page.evaluate("document.querySelectorAll('a').forEach((a) => a.dispatchEvent(new MouseEvent('mouseover')))")
    page.clock.run_for(100)
    assert page.evaluate("window.pwned") is None
    assert [url for url in page.asked if "/static/" not in url] == []
    classes = page.evaluate("[...new Set([...document.querySelectorAll('[class]')].flatMap((e) => [...e.classList]))]")
    assert {c for c in classes if not re.fullmatch(r"language-[\w+#.-]{1,20}", c)} <= {"code", "code-head", "plain"}


DEEP = {
    "quotes": ">" * 20_000 + "x",
    "lists": "\n".join("  " * n + "- x" for n in range(400)),
    "brackets": "[" * 20_000,
    "images": "![" * 10_000,
    "stars": "*a " * 10_000,
    "mixed emphasis": "**_" * 5_000,
    "backticks": "".join("`" * n + "a" for n in range(1, 200)),
    "angles": "<" * 20_000,
    "open tags": "<b>" * 10_000,
    "parentheses": "[a](" * 5_000,
    "table": "|" * 5_000 + "\n" + "|-" * 5_000,
}


# The lists take 1.2 s of the 3 on an idle machine, the most of all: they are judged where fewer tests run beside them.
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "lists")) for name in DEEP])
def test_huge_nesting_is_shown_and_does_not_take_the_page(page: Any, name: str) -> None:
    drawn = page.evaluate(DRAW, DEEP[name])
    print(json.dumps({name: round(drawn["ms"])}))
    assert drawn["ms"] < 3000
    assert set(drawn["tags"]) <= TAGS
    assert page.evaluate("1 + 1") == 2
