"""One streamed answer of an OpenAI-compatible `/v1/chat/completions`, read event by event. No IO.

Servers differ in what they leave out (`[DONE]`, usage, roles, even the ids), and some answer in one piece although a
stream was asked for. An answer is over when a `finish_reason` or `[DONE]` has come; one that stops before is not whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trialogue_adapters.bridges.upstream import TurnFailed, garbled

LAST = "[DONE]"
TOO_LONG = "UPSTREAM-413"
"""Of a prompt that does not fit the model's context: worth another try with less in it."""


class Completion:
    """What an answer has told so far, besides its text.

    `over`: nothing more of the text will come. `closed`: nothing at all will.
    """

    __slots__ = ("_name", "closed", "finish_reason", "model", "usage")

    def __init__(self, name: str) -> None:
        self._name = name
        self.closed = False
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.usage: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Completion {'over' if self.over else 'open'}, {self.finish_reason}, {self.usage}>"

    @property
    def over(self) -> bool:
        return self.closed or self.finish_reason is not None

    def feed(self, data: str) -> str:
        """The text that one event adds, often none. Raises TurnFailed. Hot: called per token."""
        if not data.startswith("{"):
            if data.strip() == LAST:
                self.closed = True
                return ""
            if not data.strip():
                return ""  # some keep the connection awake with empty events
        try:
            told = json.loads(data)
        except ValueError:
            raise garbled(self._name, data) from None
        if not isinstance(told, dict):
            raise garbled(self._name, data)
        if told.get("error"):
            raise self._failure(told["error"])
        if isinstance(told.get("usage"), dict):
            self.usage = told["usage"]
        if isinstance(told.get("model"), str):
            self.model = told["model"]
        choices = told.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        return self._text(choice) if isinstance(choice, dict) else ""

    def _text(self, choice: Mapping[str, Any]) -> str:
        """Of the first choice: its delta, or the whole message. A tool's call and a model's reasoning are no text."""
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        if self.finish_reason == "error":
            raise self._failure(choice)
        said = choice.get("delta") or choice.get("message")
        content = said.get("content") if isinstance(said, dict) else None
        return content if isinstance(content, str) else ""

    def _failure(self, error: Any) -> TurnFailed:
        """An error inside the stream. What it says is for the log."""
        detail = json.dumps(error)[:500]
        return overlong(self._name, detail) or TurnFailed(
            "UPSTREAM-500", f"{self._name} reported an error in the middle of its answer", detail=detail
        )


def overlong(name: str, detail: str) -> TurnFailed | None:
    """Does a server say, in its own words, that the prompt does not fit?"""
    said = detail.lower()
    if "context" in said and any(word in said for word in ("exceed", "maximum context", "too long", "context_length")):
        return TurnFailed(
            TOO_LONG, f"the question, with what belongs to it, is too long for {name}", "Shorten it.", detail=detail
        )
    return None
