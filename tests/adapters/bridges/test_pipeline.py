"""`bridges/pipeline.py`: the shapes of services and of what they yield."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import MappingProxyType
from typing import Any

import pytest

from trialogue import Done, Failure, Fault, Metadata, Progress
from trialogue_adapters.bridges.pipeline import NotAService, is_factory, resolve, translate

SHAPES: list[tuple[Any, Any]] = [
    ({"event": "chunk", "data": "x"}, "x"),
    ({"event": "chunk", "content": "x"}, "x"),
    ({"event": "chunk", "data": {"token": "x"}}, "x"),
    ({"event": "chunk", "data": ""}, ""),
    ({"event": "chunk", "data": None}, ""),
    ({"event": "chunk"}, ""),
    ("plain text", "plain text"),
    (MappingProxyType({"event": "chunk", "data": "x"}), "x"),
    ({"event": "metadata", "data": {"session_id": "s", "sources": [1], "k": 2}}, Metadata([1], "s", {"k": 2})),
    ({"event": "metadata", "session_id": "s", "sources": []}, Metadata([], "s", {})),
    ({"event": "metadata", "data": {"session_id": 5}}, Metadata(None, None, {})),
    ({"event": "metadata", "data": {"session_id": "x" * 129, "sources": "no"}}, Metadata(None, None, {})),
    ({"event": "done"}, Done()),
    ({"event": "done", "data": {"sources": [1], "usage": {"t": 1}}}, Done([1], {"usage": {"t": 1}})),
    ({"event": "done", "usage": 1}, Done(None, {"usage": 1})),
    ({"event": "error"}, Failure(Fault("STREAM-001"))),
    ({"event": "error", "data": "broke"}, Failure(Fault("STREAM-001", message="broke"))),
    (
        {"event": "error", "error_code": "GEN-1", "message": "m", "solutions": ["s", ""]},
        Failure(Fault("GEN-1", message="m", solutions=("s",))),
    ),
    (
        {"event": "error", "data": {"error_code": "GEN-1", "message": "m"}},
        Failure(Fault("GEN-1", message="m")),
    ),
    ({"event": "rerank", "data": {"n": 1}}, Progress({"event": "rerank", "n": 1})),
    ({"event": "rerank", "data": 3, "x": 1}, Progress({"event": "rerank", "x": 1, "data": 3})),
]


@pytest.mark.parametrize(("item", "event"), SHAPES, ids=[str(item)[:50] for item, _ in SHAPES])
def test_every_shape_is_read(item: Any, event: Any) -> None:
    assert translate(item) == event


JUNK = [None, 1, [], object(), b"x", {}, {"data": "x"}, {"event": 3}, {"event": "chunk", "data": 5}]


@pytest.mark.parametrize("item", JUNK, ids=lambda item: type(item).__name__)
def test_junk_is_named(item: Any) -> None:
    with pytest.raises(ValueError, match="the service yielded"):
        translate(item)


class WithOptions:
    def stream_rag_pipeline(self, message: str, session_id: str, options: Any = None) -> Any:
        return message, session_id, options


class WithoutOptions:
    def stream_rag_pipeline(self, message: str, session_id: str) -> Any:
        return message, session_id, None


class KeywordOptions:
    def stream_rag_pipeline(self, message: str, session_id: str, *, options: Any) -> Any:
        return message, session_id, options


class OtherName:
    def stream_rag_pipeline(self, message: str, session_id: str, opts: Any) -> Any:
        return message, session_id, opts


class Anything:
    def stream_rag_pipeline(self, *args: Any, **kwargs: Any) -> Any:
        return (*args, kwargs["options"])


async def generator(message: str, session_id: str, options: Any) -> AsyncIterator[Any]:
    yield message


@pytest.mark.parametrize(
    "service", [WithOptions(), KeywordOptions(), OtherName(), Anything()], ids=lambda s: type(s).__name__
)
def test_options_are_handed_over(service: Any) -> None:
    assert resolve(service, "asyncio").stream("m", "s", {"k": 1}) == ("m", "s", {"k": 1})


def test_a_service_need_not_take_options() -> None:
    assert resolve(WithoutOptions(), "asyncio").stream("m", "s", {"k": 1}) == ("m", "s", None)


def test_a_generator_function_is_a_service() -> None:
    assert hasattr(resolve(generator, "asyncio").stream("m", "s", {}), "__anext__")


@pytest.mark.parametrize("thing", [object(), 5, None, lambda: None, lambda message: None])
def test_what_is_no_service_is_said(thing: Any) -> None:
    with pytest.raises(NotAService, match="stream_rag_pipeline"):
        resolve(thing, "asyncio")


def test_what_makes_a_service_is_called_and_what_is_one_is_not() -> None:
    assert is_factory(WithOptions)
    assert is_factory(lambda: WithOptions())
    assert is_factory(lambda x=1, *rest: None)
    assert not is_factory(WithOptions())
    assert not is_factory(generator)
    assert not is_factory(5)
