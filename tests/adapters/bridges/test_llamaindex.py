"""`bridges/llamaindex.py` with the real llama-index-core: chat engines, query engines, models; cancels that arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from support.sinkhole import Sinkhole
from trialogue import Metadata, Turn
from trialogue_adapters.bridges import NotAService, open_service
from trialogue_adapters.bridges.llamaindex import LlamaIndexService, per_session

pytest.importorskip("llama_index.core")

from llama_index.core import MockEmbedding, SummaryIndex
from llama_index.core.base.response.schema import Response, StreamingResponse
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, ChatResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import TextNode

ANSWER = "Foxes like cheese."
NODE = TextNode(text="about foxes", metadata={"file_name": "fox.md", "file_path": "/srv/fox.md"})


def chat_engine(llm: Any) -> SimpleChatEngine:
    """Its usual memory is an SQLite connection that nobody can close, and that complains when it is collected."""
    return SimpleChatEngine.from_defaults(llm=llm, memory=ChatMemoryBuffer.from_defaults(token_limit=3_000))


class Slow(MockLLM):
    """A model that notes when it is closed."""

    closed: list[float] = []  # noqa: RUF012 - a field of pydantic's
    pace: float = 0.01

    @llm_chat_callback()
    async def astream_chat(self, messages: Any, **kwargs: Any) -> Any:
        async def stream() -> AsyncIterator[ChatResponse]:
            said = ""
            try:
                for n in range(1_000):
                    said += f"{n} "
                    yield ChatResponse(message=ChatMessage(role="assistant", content=said), delta=f"{n} ")
                    await asyncio.sleep(self.pace)
            finally:
                self.closed.append(time.perf_counter())

        return stream()


async def told(service: LlamaIndexService, message: str = ANSWER, session_id: str = "s") -> list[Any]:
    sink = Sinkhole()
    with trio.fail_after(5):
        async with open_service(service) as bridged:
            await bridged.service.run(Turn("m", message), session_id, sink)
    return sink.events


def text(events: list[Any]) -> str:
    return "".join(event for event in events if isinstance(event, str))


async def test_a_query_engine_tells_its_sources_and_streams() -> None:
    index = SummaryIndex([NODE], embed_model=MockEmbedding(4))
    engine = index.as_query_engine(llm=MockLLM(), streaming=True)
    metadata, *answer = await told(LlamaIndexService(engine.aquery))
    assert metadata == Metadata([{"title": "fox.md", "score": None, "content_preview": "about foxes"}])
    assert len(answer) > 10
    assert ANSWER in text(answer)  # this model repeats its prompt


async def test_a_chat_engine_for_each_session_remembers_its_own() -> None:
    engines = []

    def make() -> Any:
        engines.append(chat_engine(MockLLM()))
        return engines[-1]

    service = LlamaIndexService(per_session(make, sessions=2))
    for session_id in ("a", "a", "b"):
        assert ANSWER in text(await told(service, session_id=session_id))
    assert [len(engine.chat_history) for engine in engines] == [4, 2]
    await told(service, session_id="c")
    await told(service, session_id="a")  # forgotten: it was silent longest
    assert len(engines) == 4


async def test_a_cancel_stops_the_model_and_not_at_its_last_word() -> None:
    llm, sink = Slow(), Sinkhole()
    service = LlamaIndexService(per_session(lambda: chat_engine(llm)))
    async with open_service(service) as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, Turn("m", "x"), "s", sink)
        await sink.until(3)
        began = time.perf_counter()
        nursery.cancel_scope.cancel()
    took = time.perf_counter() - began
    print(f"\ncancel -> closed: {1000 * (llm.closed[0] - began):.1f} ms, joined after {1000 * took:.1f} ms")
    assert len(llm.closed) == 1
    assert took < 1  # without taking its task: ten seconds


async def test_a_model_alone() -> None:
    llm = Slow()
    llm.pace = 0

    async def ask(message: str) -> Any:
        return await llm.astream_chat([ChatMessage(content=message)])

    assert text(await told(LlamaIndexService(ask))).startswith("0 1 2 3 ")


async def test_a_blocking_stream_is_read_in_a_thread() -> None:
    def pieces() -> Iterator[str]:
        for word in ANSWER.split():
            time.sleep(0.01)
            yield f"{word} "

    events = await told(LlamaIndexService(lambda message: StreamingResponse(pieces())))
    assert events == ["Foxes ", "like ", "cheese. "]


@pytest.mark.parametrize("whole", [Response(ANSWER), ANSWER])
async def test_an_answer_in_one_piece(whole: Any) -> None:
    assert text(await told(LlamaIndexService(lambda message: whole))) == ANSWER


async def test_what_a_model_raises_fails_the_turn() -> None:
    class Broken(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata()

        def complete(self, *args: Any, **kwargs: Any) -> Any:
            raise LookupError("no such fox")

        stream_complete = complete

    service = LlamaIndexService(per_session(lambda: chat_engine(Broken())))
    with pytest.raises(LookupError, match="no such fox"):
        await told(service)


async def test_what_is_no_response_is_said() -> None:
    with pytest.raises(TypeError, match="int is no response"):
        await told(LlamaIndexService(lambda message: 5))


def test_one_chat_engine_for_everybody_is_refused() -> None:
    engine = chat_engine(MockLLM())
    with pytest.raises(NotAService, match="per_session"):
        LlamaIndexService(engine.astream_chat)
