"""The event dicts of a turn, made in one place: what a client is told, and in which words.

Sources stand in the order of their citation numbers. Nothing here may name a path of this machine: a document is
known by its name relative to the docs folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .errors import LocalModelError
from .index import Hit
from .local_model import NAME, Finished
from .text import shorten

Kind = Literal["extractive", "local"]
Event = dict[str, Any]

PREVIEW_CHARS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """What a turn will say. Without `text` the local model says it, from `hits`."""

    hits: tuple[Hit, ...]
    weights: Mapping[str, float]
    text: str | None
    note: str | None = None

    @property
    def answerer(self) -> Kind:
        return "local" if self.text is None else "extractive"

    def sources(self) -> list[dict[str, Any]]:
        return sources(self.hits)


def sources(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    return [
        {
            "title": hit.title,
            "score": round(hit.score, 3),
            "content_preview": shorten(hit.body, PREVIEW_CHARS),
            "document": hit.document,
            "citation": n,
        }
        for n, hit in enumerate(hits, 1)
    ]


def metadata(plan: Plan, session_id: str) -> Event:
    data: dict[str, Any] = {"session_id": session_id, "sources": plan.sources(), "answerer": plan.answerer}
    if plan.answerer == "local":
        data["model"] = NAME
    if plan.note is not None:
        data["note"] = plan.note
    return {"event": "metadata", "data": data}


def chunk(text: str) -> Event:
    return {"event": "chunk", "data": text}


def done(plan: Plan, usage: dict[str, int], model_info: dict[str, Any]) -> Event:
    info = {**model_info, "answerer": plan.answerer}
    return {"event": "done", "data": {"sources": plan.sources(), "usage": usage, "model_info": info}}


def finished(plan: Plan, end: Finished) -> Event:
    usage = {"completion_tokens": end.completion_tokens, "prompt_tokens": end.prompt_tokens}
    info = {"name": NAME, "tokens_per_second": end.tokens_per_second, "finish_reason": end.reason}
    return done(plan, usage, info)


def empty_question() -> Event:
    return _error("RAG-400", "the question is empty", "Ask something.")


def bad_top_k(most: int) -> Event:
    problem = f"options.top_k must be a whole number from 1 to {most}"
    return _error("RAG-400", problem, f"Leave top_k out, or send a number from 1 to {most}.")


def model_failed(error: LocalModelError) -> Event:
    return _error("RAG-503", str(error), "Ask again.", "Start with --answer extractive, which needs no model.")


def _error(code: str, message: str, *solutions: str) -> Event:
    return {"event": "error", "error_code": code, "message": message, "solutions": list(solutions)}
