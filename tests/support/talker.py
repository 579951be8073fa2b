"""A ChatService that does what it is asked in words, for tests that can only type. Copied beside a server."""

import asyncio

MARKDOWN = """\
# Heading

Some **bold** text and `code`, [a link](https://example.org/x).

- one
- two

```python
def f(): return 1
```

| a | b |
|---|---|
| 1 | 2 |

evil \x1b]0;owned\x07 \x1b[2J \x9b31m &#x1b;[31m &#x202e;dlrow \ud7ff

the end"""


class Talker:
    """`count N` counts to N, twenty a second; `markdown` streams the above; `fail` fails; else a brief answer."""

    async def stream_rag_pipeline(self, message, session_id, options=None):
        yield {"event": "metadata", "data": {"sources": [{"title": "A guide", "score": 0.5, "content_preview": "how"}]}}
        verb, _, rest = message.partition(" ")
        if verb == "fail":
            raise ValueError("as told")
        numbers = (f"w{n}" for n in range(int(rest) if verb == "count" else 0))
        words = {"count": numbers, "markdown": MARKDOWN.split(" ")}
        for word in words.get(verb, ["you", "said", message]):
            yield {"event": "chunk", "data": f"{word} "}
            await asyncio.sleep(0.05 if verb == "count" else 0.002)
