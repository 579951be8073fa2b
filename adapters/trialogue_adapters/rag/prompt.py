"""What a model is asked about documents: the best of the best passages, a little history, the question.

The local model is small and reads ~100 tokens a second on one old core, so every word of `build` is waiting time
before the first token: the passages are cut down to the sentences that matter. It has no instructions about citing:
sources are events of the stream, and a model of this size invents numbers. A model behind a server is given whole
passages, numbered as the sources are, by `system`; the conversation is its caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trialogue_adapters.history import Turn

from .extractive import pick
from .index import Hit
from .local_model import Message
from .text import shorten

PASSAGES = 3
SENTENCES = 5
WORDS = 110
QUESTION_CHARS = 400
HISTORY_CHARS = 200

# Of five wordings tried on the default corpus, the one that stays closest to the text it is given.
_SYSTEM = "Summarize the text as an answer to the question. Keep to the words of the text."

PASSAGE_CHARS = 1_500  # of one passage: four of them are some 1,500 tokens
BRIEF_CHARS = 300

_ASSISTANT = "You answer questions from documents. Answer in the language of the question."
_FROM_THESE = "Use these passages, and name those that you use, like [1]. If they do not hold the answer, say so."
_FROM_NONE = "The documents hold nothing about the question that follows: say so if it asks about a fact."


def build(
    question: str, hits: Sequence[Hit], weights: Mapping[str, float], turns: Sequence[Turn], *, brief: bool = False
) -> list[Message]:
    """Chat messages. `brief` is for a prompt that turned out too long: less context, no history."""
    quotes = pick(hits[:PASSAGES], weights, *((2, 40) if brief else (SENTENCES, WORDS)))
    text = "\n".join(shorten(quote.text, 100 if brief else 400) for quote in quotes)
    asked = shorten(question, QUESTION_CHARS // 4 if brief else QUESTION_CHARS)
    messages = [{"role": "system", "content": _SYSTEM}]
    for turn in [] if brief else turns[-1:]:
        messages.append({"role": "user", "content": shorten(turn.question, HISTORY_CHARS)})
        messages.append({"role": "assistant", "content": shorten(turn.answer, HISTORY_CHARS)})
    task = f'Question: {asked}\n\nText:\n{text}\n\nAnswer the question "{asked}" briefly in the words of the text.'
    messages.append({"role": "user", "content": task})
    return messages


def system(hits: Sequence[Hit], *, brief: bool = False) -> str:
    """The system message for a model behind a server: what to do, and the passages."""
    if not hits:
        return f"{_ASSISTANT} {_FROM_NONE}"
    most = BRIEF_CHARS if brief else PASSAGE_CHARS
    passages = [f"[{n}] {hit.title}\n{hit.body[:most]}" for n, hit in enumerate(hits, 1)]
    return "\n\n".join([f"{_ASSISTANT} {_FROM_THESE}", *passages])
