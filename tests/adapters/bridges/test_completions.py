"""`bridges/completions.py`: what servers send, and leave out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trialogue_adapters.bridges.completions import TOO_LONG, Completion, overlong
from trialogue_adapters.bridges.upstream import TurnFailed


def event(delta: Any = None, reason: str | None = None, **more: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more})


def fed(*data: str) -> tuple[str, Completion]:
    completion = Completion("the model")
    return "".join(map(completion.feed, data)), completion


def test_a_usual_answer() -> None:
    text, completion = fed(
        event({"role": "assistant", "content": None}, model="m"),
        event({"content": "Hel"}),
        event({"content": "lo"}),
        event({}, "length"),
        json.dumps({"choices": [], "usage": {"completion_tokens": 2}}),
        "[DONE]",
    )
    assert text == "Hello"
    assert (completion.finish_reason, completion.model) == ("length", "m")
    assert completion.usage == {"completion_tokens": 2}
    assert completion.closed
    assert "over" in repr(completion)


@pytest.mark.parametrize(
    ("last", "over"), [(event({}, "stop"), True), ("[DONE]", True), (event({"content": "x"}), False)]
)
def test_an_answer_is_over_by_a_reason_or_by_done(last: str, over: bool) -> None:
    assert fed(event({"content": "x"}), last)[1].over is over


@pytest.mark.parametrize(
    "data",
    [
        "",
        " ",
        "{}",
        event(None),
        event("text"),
        event({"content": ["parts"]}),
        event({"tool_calls": [{"index": 0}]}),
        event({"reasoning_content": "hm"}),
        json.dumps({"choices": None}),
        json.dumps({"choices": ["x"]}),
        json.dumps({"choices": [], "error": None, "usage": None, "prompt_progress": {"total": 5}}),
    ],
)
def test_what_holds_no_text_is_passed_over(data: str) -> None:
    text, completion = fed(data)
    assert text == ""
    assert not completion.over


def test_an_answer_in_one_piece() -> None:
    message = {"choices": [{"message": {"content": "all of it"}, "finish_reason": "stop"}], "usage": {"n": 1}}
    text, completion = fed(json.dumps(message, indent=1))
    assert (text, completion.over, completion.usage) == ("all of it", True, {"n": 1})


@pytest.mark.parametrize("data", ["{", "nonsense", "[1]", "17", '"text"', "null"])
def test_junk_is_a_failure(data: str) -> None:
    with pytest.raises(TurnFailed, match="cannot be understood") as caught:
        fed(data)
    assert caught.value.code == "UPSTREAM-502"


@pytest.mark.parametrize(
    "data", ['{"error": {"message": "of the GPU"}}', '{"error": "of the GPU"}', event({}, "error")]
)
def test_an_error_inside_the_stream_is_a_failure_whose_words_are_for_the_log(data: str) -> None:
    with pytest.raises(TurnFailed, match="reported an error") as caught:
        fed(data)
    assert "GPU" not in json.dumps(caught.value.event())
    assert caught.value.detail


@pytest.mark.parametrize(
    ("said", "too_long"),
    [
        ("request (5031 tokens) exceeds the available context size (2048 tokens)", True),
        ("This model's maximum context length is 8192 tokens. However, you requested 9000", True),
        ('{"code": "context_length_exceeded"}', True),
        ("the temperature is too long", False),
        ("context deadline", False),
    ],
)
def test_servers_say_in_many_words_that_a_prompt_is_too_long(said: str, too_long: bool) -> None:
    failure = overlong("the model", said)
    assert (failure is not None and failure.code == TOO_LONG) is too_long
