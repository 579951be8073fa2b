"""An answer that grows, against one drawing of the whole: however it was cut into tokens, the page ends up the same."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.browser

DOCUMENT = """# Title
Text with **bold**, `code` and a line
break.

1. one

2. two
   - inner

   more of two
3. three

10. ten

A paragraph

- a

- b
* another list

| h | i |
|---|---|
| 1 | 2 |
| 3 | 4 |

```python
def f():

    return "# not a title"
```
Setext
===

    indented code

    goes on

> quoted

> quoted again
lazily

<b>no html</b> and ***both*** ~~gone~~ https://example.org/x

[a]: https://example.org/a "A"

See [a] and [b][a].

---
last"""

SETUP = """async () => {
    const { GrowingMarkdown } = await import('/static/growing.js');
    const make = () => document.body.appendChild(document.createElement('div'));
    window.whole = (text) => {
        const into = make();
        new GrowingMarkdown(into).draw(text, true, Infinity);
        return into.innerHTML;
    };
    window.grown = (text, cuts, deadline = Infinity) => {
        const into = make(), growing = new GrowingMarkdown(into);
        for (const cut of cuts) growing.draw(text.slice(0, cut), false, deadline);
        let times = 0;
        while (!growing.draw(text, true, deadline)) times += 1;
        return [into.innerHTML, times];
    };
    window.GrowingMarkdown = GrowingMarkdown;
    window.make = make;
}"""


@pytest.fixture
def page(module_page: Any) -> Any:
    module_page.evaluate(SETUP)
    return module_page


def test_one_character_at_a_time_is_the_same_as_all_at_once(page: Any) -> None:
    whole = page.evaluate("whole", DOCUMENT)
    assert whole.count("<ol") == 1  # "2" was a paragraph before it was an item
    assert page.evaluate("(t) => grown(t, [...t].map((_, i) => i + 1))[0]", DOCUMENT) == whole


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_however_it_is_cut(page: Any, ending: str) -> None:
    text = DOCUMENT.replace("\n", ending)
    different = page.evaluate(
        """(text) => {
            const expected = whole(text);
            let seed = 7;
            const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
            return Array.from({ length: 25 }, () => {
                const cuts = [];
                for (let at = 0; at < text.length; at += 1 + random(40)) cuts.push(at);
                return cuts;
            }).filter((cuts) => grown(text, cuts)[0] !== expected);
        }""",
        text,
    )
    assert different == []


def test_in_portions_it_is_the_same(page: Any) -> None:
    text = "\n\n".join([DOCUMENT] * 8)
    whole = page.evaluate("whole", text)
    portioned, times = page.evaluate("(t) => grown(t, [], 0)", text)  # the deadline is always over
    assert portioned == whole
    assert times > 50


def test_finished_blocks_stay_the_same_nodes(page: Any) -> None:
    kept, grown = page.evaluate("""() => {
        const into = make(), growing = new GrowingMarkdown(into);
        growing.draw('first\\n\\nsecond', false, Infinity);
        const [first, second] = into.children, text = second.firstChild;
        growing.draw('first\\n\\nsecond grows\\n\\nthird', false, Infinity);
        const same = into.children[0] === first && into.children[1] === second && second.firstChild === text;
        return [same, second.textContent];
    }""")
    assert (kept, grown) == (True, "second grows")


def test_what_begins_anew_is_drawn_anew(page: Any) -> None:
    shown = page.evaluate("""() => {
        const into = make(), growing = new GrowingMarkdown(into);
        growing.draw('old\\n\\ntext\\n\\nhere', false, Infinity);
        growing.draw('new', false, Infinity);
        return into.innerHTML;
    }""")
    assert shown.strip() == "<p>new</p>"


def test_half_a_definition_is_no_definition(page: Any) -> None:
    text = "[a]: https://example.org/all-of-it\n\nsee [a]"
    assert 'href="https://example.org/all-of-it"' in page.evaluate("(t) => grown(t, [20, 25, 30])[0]", text)


def test_a_finished_block_is_given_its_finish_once(page: Any) -> None:
    assert (
        page.evaluate("""() => {
        let times = 0;
        const growing = new GrowingMarkdown(make(), () => { times += 1; });
        for (const text of ['a', 'a\\n\\nb', 'a\\n\\nb', 'a\\n\\nb\\n\\nc']) growing.draw(text, false, Infinity);
        growing.draw('a\\n\\nb\\n\\nc', true, Infinity);
        growing.draw('a\\n\\nb\\n\\nc', true, Infinity);
        return times;
    }""")
        == 5
    )  # three paragraphs, and the space between them
