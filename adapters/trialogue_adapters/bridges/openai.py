"""A ChatService over any server with an OpenAI-compatible `/v1/chat/completions`: over httpx2, on Trio.

Cancelling a turn closes its HTTP connection at once, which is the only thing that such servers understand as "stop".
What is asked is made by `prepare`: by default the conversation so far and the message; with documents in front, what
they say about it. The conversation is remembered as the user saw it: an answer that was cut stands up to the cut.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar

import trio

from trialogue import TurnReceipt
from trialogue_adapters.bridges.completions import TOO_LONG, Completion, overlong
from trialogue_adapters.bridges.event_stream import StreamedEvent
from trialogue_adapters.bridges.upstream import TurnFailed, Upstream, broke_off, checked_url, shown_url
from trialogue_adapters.history import History, Turn

PATH = "/chat/completions"
NAME = "the language model"
KEY_HINT = "TRIALOGUE_LLM_API_KEY"

USAGE_SECONDS = 1.0
"""How long after an answer's last text its usage is waited for: some never send it, and some never end a response."""

CLOSING_SECONDS = 0.1
"""How long after `[DONE]` the end of the response is waited for, so that the connection can be used again."""

PROBE_SECONDS = 3.0

LLAMA_CPP = "llama.cpp"
"""What it calls itself. While it reads a prompt it looks at its connection once a second, unless it has progress to
report: asked for that (other servers would refuse the field), it frees the slot of a cancelled prompt in milliseconds.
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What a turn asks, and what was said before it. `brief`: the first try was too long for the model."""

    text: str
    session_id: str
    options: Mapping[str, Any]
    turns: Sequence[Turn]
    brief: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is sent, and the sources that clients are told before its answer."""

    messages: Sequence[Mapping[str, Any]]
    sources: Sequence[Mapping[str, Any]] | None = None


Prepare = Callable[[Question], Awaitable[Prompt]]
"""May raise TurnFailed. Cancelled with the turn."""


def dialogue(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Past turns as chat messages; `…` stands where an answer was cut."""
    messages = []
    for turn in turns:
        messages.append({"role": "user", "content": turn.question})
        messages.append({"role": "assistant", "content": turn.answer + ("" if turn.ending == "completed" else " …")})
    return messages


class Conversation:
    """The plain way to prepare: a system message, the turns so far, the question."""

    def __init__(self, system: str | None = None) -> None:
        self._lead = [{"role": "system", "content": system}] if system else []

    async def __call__(self, question: Question) -> Prompt:
        turns = () if question.brief else question.turns
        return Prompt([*self._lead, *dialogue(turns), {"role": "user", "content": question.text}])


class OpenAIService:
    """Serve it with `--service-runtime trio`.

    Args:
        url: as SDKs want it, with `/v1`. Raises ValueError.
        key: sent as a bearer token.
        system: the system message, unless `prepare` makes the whole prompt.
        prepare: if it has an `aclose`, that is called at the end.
        parameters: more fields of each request, such as `temperature` or `max_tokens`.
    """

    runtime: ClassVar[str] = "trio"

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        system: str | None = None,
        prepare: Prepare | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        base = checked_url(url).removesuffix(PATH)
        self._base = base
        self._model = model
        self._parameters = dict(parameters or {})
        self._prepare = prepare or Conversation(system)
        self._upstream = Upstream(base + PATH, name=NAME, key=key, key_hint=KEY_HINT)
        self._history = History()
        self._is_llama_cpp = False

    def __repr__(self) -> str:
        return f"<OpenAIService {self._model} at {shown_url(self._base)}>"

    async def probe(self) -> str:
        """Ask the server what models it has; one line for the operator, also when it cannot be reached (yet)."""
        where = f"{self._model} at {shown_url(self._base)}"
        try:
            listed = await self._upstream.get(f"{self._base}/models", PROBE_SECONDS)
            models = [entry["id"] for entry in listed["data"]]
            self._is_llama_cpp = any(entry.get("owned_by") == "llamacpp" for entry in listed["data"])
        except TurnFailed as failure:
            return f"{where} (warning: {failure.message})"
        except (LookupError, TypeError, AttributeError):
            return where  # it has no such list: not every server does
        if models and self._model not in models:
            return f"{where} (warning: it lists {', '.join(map(str, models[:5]))}, and not this model)"
        return where

    async def aclose(self) -> None:
        await self._upstream.aclose()
        close = getattr(self._prepare, "aclose", None)
        if close:
            await close()

    async def ended(self, receipt: TurnReceipt, text: str) -> None:
        self._history.ended(receipt.session_id, receipt.ending.value, text)

    async def stream_rag_pipeline(
        self, message: str, session_id: str, options: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Any, None]:
        """metadata, pieces of text, done; or one error. A prompt that is too long is asked once more, briefer."""
        turns = self._history.turns(session_id)
        self._history.asked(session_id, message)
        informed = spoken = False
        for brief in (False, True):
            try:
                prompt = await self._prepare(Question(message, session_id, options or {}, turns, brief))
                if not informed:
                    informed = True
                    yield self._metadata(session_id, prompt)
                completion = Completion(NAME)
                async with aclosing(self._complete(prompt, completion)) as pieces:
                    async for piece in pieces:
                        spoken = True
                        yield piece
            except TurnFailed as failure:
                if failure.code == TOO_LONG and not brief and not spoken:
                    continue
                yield failure.event()
                return
            yield self._done(prompt, completion)
            return

    async def _complete(self, prompt: Prompt, completion: Completion) -> AsyncGenerator[str, None]:
        """Pieces of text; what else is told goes into `completion`. Raises TurnFailed."""
        try:
            async with self._upstream.post(self._request(prompt)) as reply:
                self._is_llama_cpp = reply.server == LLAMA_CPP
                if reply.streams:
                    async with aclosing(reply.events()) as events:
                        while (event := await _next(events, completion)) is not None:
                            if text := completion.feed(event.data):
                                yield text
                else:
                    yield completion.feed(await reply.body())
                if not completion.over:
                    raise broke_off(NAME)
        except TurnFailed as failure:
            raise self._judged(failure) from failure

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        return {
            "stream_options": {"include_usage": True},
            **({"return_progress": True} if self._is_llama_cpp else {}),
            **self._parameters,
            "model": self._model,
            "messages": list(prompt.messages),
            "stream": True,
        }

    def _judged(self, failure: TurnFailed) -> TurnFailed:
        """A refusal, in terms of models where it is one of these."""
        if failure.code == "UPSTREAM-400" and (too_long := overlong(NAME, failure.detail)):
            return too_long
        said = failure.detail.lower()
        unknown = "model" in said and any(word in said for word in ("not found", "not exist", "not_found"))
        if failure.code in ("UPSTREAM-400", "UPSTREAM-404") and unknown:
            told = f"{NAME} {self._model!r} is not known to its server"
            return TurnFailed("UPSTREAM-404", told, "The operator must check --model.", detail=failure.detail)
        if failure.code == "UPSTREAM-404":
            return TurnFailed(failure.code, failure.message, "The operator must check --llm-url: it ends in /v1.")
        return failure

    def _metadata(self, session_id: str, prompt: Prompt) -> dict[str, Any]:
        data = {"session_id": session_id, "answerer": "openai", "model": self._model}
        return {"event": "metadata", "data": {**data, "sources": prompt.sources}}

    def _done(self, prompt: Prompt, completion: Completion) -> dict[str, Any]:
        info = {
            "name": completion.model or self._model,
            "finish_reason": completion.finish_reason or "stop",
            "answerer": "openai",
        }
        usage = {"usage": completion.usage} if completion.usage else {}
        return {"event": "done", "data": {"sources": prompt.sources, **usage, "model_info": info}}


async def _next(events: AsyncGenerator[StreamedEvent, None], completion: Completion) -> StreamedEvent | None:
    """The next event; None when the answer, or the patience with what may follow its text, has ended."""
    patience = CLOSING_SECONDS if completion.closed else USAGE_SECONDS if completion.over else math.inf
    with trio.move_on_after(patience):
        return await anext(events, None)
    return None
