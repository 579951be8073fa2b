from __future__ import annotations

import time

import pytest

from trialogue_adapters.rag.text import is_korean, query_terms, sentences, shorten, tokens


def test_words_are_folded_and_singular() -> None:
    assert list(tokens("Statements, Café! ＡＢＣ queries class is")) == [
        "statement",
        "cafe",
        "abc",
        "query",
        "class",
        "is",
    ]


def test_hangul_becomes_pairs_of_syllables_and_a_single_one_stays() -> None:
    assert list(tokens("세션을 문 trio의")) == ["세션", "션을", "문", "trio", "의"]


def test_decomposed_hangul_is_the_same_word() -> None:
    assert list(tokens("\u1109\u1166\u1109\u1167\u11ab")) == ["세션"]


@pytest.mark.parametrize("text", ['"a" NEAR(b, 2)*', "x -y ^z {c}: d", "🙂 * ( ) \x00 '; --", "col:umn AND OR NOT"])
def test_no_token_can_be_query_syntax(text: str) -> None:
    assert all(token.isalnum() for token in tokens(text))


def test_stop_words_go() -> None:
    assert query_terms("what does the session do?")[0] == ["session"]
    assert query_terms("why?") == ([], frozenset())


def test_korean_asking_words_go() -> None:
    assert query_terms("세션은 무엇인가요?")[0] == ["세션", "션은"]


@pytest.mark.parametrize("question", ["what does the with statement do", "what is `with`?", "with 문은 무엇인가요"])
def test_a_keyword_that_is_pointed_at_may_match_a_title(question: str) -> None:
    assert "with" not in query_terms(question)[1]


def test_a_keyword_in_passing_may_not() -> None:
    assert query_terms("how do I live with a cat")[1] == {"with"}


def test_sentences_are_not_cut_at_abbreviations_or_item_numbers() -> None:
    text = "1. Use a tool, e.g. Trio. It works. See 3.11 too! 정말입니다. 그렇습니다."
    assert sentences(text) == ["1. Use a tool, e.g. Trio.", "It works.", "See 3.11 too!", "정말입니다.", "그렇습니다."]


def test_a_megabyte_without_a_real_sentence_is_cut_in_time() -> None:
    began = time.perf_counter()
    assert len(sentences("A. " * 300_000)) > 100
    assert time.perf_counter() - began < 5


def test_shorten_cuts_between_words() -> None:
    assert shorten("one  two\nthree", 40) == "one two three"
    assert shorten("one two three", 9) == "one two…"
    assert len(shorten("x" * 100, 10)) == 10


def test_is_korean() -> None:
    assert is_korean("What is 세션?")
    assert is_korean("ㅋㅋ")
    assert not is_korean("日本語 and English")
