from __future__ import annotations

from trialogue_adapters.rag import events
from trialogue_adapters.rag.errors import LocalModelError
from trialogue_adapters.rag.index import Hit
from trialogue_adapters.rag.local_model import NAME, Finished

PLAN = events.Plan((Hit("a.md", "Title", "body " * 100, 0.81234), Hit("b.md", "Other", "x", 0.5)), {}, "text")


def test_sources_are_numbered_and_previews_are_short() -> None:
    first, second = PLAN.sources()
    assert first == {
        "title": "Title",
        "score": 0.812,
        "content_preview": first["content_preview"],
        "document": "a.md",
        "citation": 1,
    }
    assert len(first["content_preview"]) <= events.PREVIEW_CHARS
    assert second["citation"] == 2


def test_the_answerer_is_said() -> None:
    local = events.Plan(PLAN.hits, {}, None)
    assert events.metadata(PLAN, "s")["data"]["answerer"] == "extractive"
    assert "model" not in events.metadata(PLAN, "s")["data"]
    assert events.metadata(local, "s")["data"]["model"] == NAME
    end = events.finished(local, Finished("length", 10, 5, 50.0))
    assert end["data"]["usage"] == {"completion_tokens": 5, "prompt_tokens": 10}
    assert end["data"]["model_info"] == {
        "name": NAME,
        "tokens_per_second": 50.0,
        "finish_reason": "length",
        "answerer": "local",
    }


def test_errors_carry_code_message_and_solutions() -> None:
    for event in (events.empty_question(), events.bad_top_k(10), events.model_failed(LocalModelError("x"))):
        assert event["event"] == "error"
        assert event["error_code"].startswith("RAG-")
        assert event["message"]
        assert all(event["solutions"])
