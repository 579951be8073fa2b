"""`core/errors.py`: the table is whole, in both languages, and as the wire contract says."""

from __future__ import annotations

import pytest

from trialogue.core.errors import ERRORS, CloseCode, ErrorSpec, Fault

CONTRACT = {
    **{f"WS-{n:03}": n not in (1, 4) for n in range(1, 11)},
    **{f"RAG-{n:03}": True for n in range(1, 5)},
}


def test_every_code_of_the_contract_is_there_and_retryable_as_it_says() -> None:
    assert {code: ERRORS[code].retryable for code in CONTRACT} == CONTRACT
    assert set(ERRORS) == {*CONTRACT, "STREAM-001"}


@pytest.mark.parametrize("spec", ERRORS.values(), ids=list(ERRORS))
def test_texts_are_whole(spec: ErrorSpec) -> None:
    for text in (spec.ko, spec.en):
        assert text.message
        assert all(text.remedies)
        assert text.remedies
    assert any("가" <= char <= "힣" for char in spec.ko.message)
    assert spec.en.message.isascii()


def test_the_detail_is_filled_in_and_nothing_is_left_when_there_is_none() -> None:
    assert Fault("WS-003", "The queue is full (8).").render("en")[0].endswith("The queue is full (8).")
    assert Fault("WS-003").render("en")[0] == "Another answer is being worked on."
    assert "{" not in Fault("WS-001", "{detail} {0}").render("en")[0].replace("{detail} {0}", "")


def test_a_pipelines_own_code_and_texts_pass_verbatim() -> None:
    fault = Fault("GEN-042", message="Out of quota", solutions=("Pay",))
    assert fault.render("ko") == ("Out of quota", ["Pay"])
    assert fault.spec.code == "STREAM-001"
    assert Fault("GEN-042").render("en")[1]


def test_close_codes() -> None:
    assert [int(code) for code in CloseCode] == [1000, 1003, 1008, 1009, 1011, 1012, 1013, 4000]
