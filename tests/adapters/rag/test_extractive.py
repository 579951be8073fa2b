from __future__ import annotations

import pytest

from trialogue_adapters.rag.extractive import answer, chunks, pick, relevant
from trialogue_adapters.rag.index import Hit

WEIGHTS = {"refund": 3.0, "paid": 2.0}


def hit(body: str, score: float = 0.8, title: str = "Refunds") -> Hit:
    return Hit("refunds.md", title, body, score)


def test_the_best_sentences_stand_in_reading_order_with_their_source() -> None:
    hits = [
        hit("The office is closed on Sunday. Every refund is paid within two weeks."),
        hit("No refund was paid in May because of the flood.", 0.7),
    ]
    text = answer(hits, pick(hits, WEIGHTS), "en")
    assert text.splitlines()[0].startswith("An extract from the documents")
    assert text.splitlines()[2:] == [
        "Every refund is paid within two weeks. [1]",
        "",
        "No refund was paid in May because of the flood. [2]",
    ]


def test_code_lead_ins_footnotes_and_version_notes_are_not_quoted() -> None:
    body = (
        "The refund function is simple and can be called like this\n\n    refund(paid=True) and nothing else here\n\n"
        "and then the refund goes on after it.\n\n"
        "Here is the list of every refund:\n\n"
        "Changed in version 3.1: a refund is paid twice.\n\n3. A refund is paid once [1].\n\n- Any refund goes by post."
    )
    assert [quote.text for quote in pick([hit(body)], WEIGHTS)] == [
        "A refund is paid once.",
        "Any refund goes by post.",
    ]


def test_repetitions_are_left_out() -> None:
    one, two = "A refund is always paid in cash by us.", "A refund is always paid in cash by us today."
    assert len(pick([hit(one), hit(two)], WEIGHTS)) == 1


def test_it_is_bounded() -> None:
    animals = ("cat dog elk fox gnu hen pig rat sow yak " * 30).split()
    body = " ".join(f"A refund number{n} is paid to the {a} called name{n}." for n, a in enumerate(animals))
    quotes = pick([hit(body)], WEIGHTS)
    assert 1 <= len(quotes) <= 6
    assert sum(len(quote.text.split()) for quote in quotes) <= 150


def test_a_loose_relation_is_said_and_kept_short() -> None:
    hits = [hit("A refund is paid. The second refund goes to a cat. The third refund goes to ten dogs at sea.", 0.4)]
    text = answer(hits, pick(hits, WEIGHTS), "en")
    assert text.startswith("Nothing in the documents answers this directly")
    assert text.count("[1]") <= 3


@pytest.mark.parametrize(("language", "words"), [("en", "found nothing"), ("ko", "찾지 못해")])
def test_nothing_found_is_said_in_the_language_of_the_question(language: str, words: str) -> None:
    assert words in answer([], [], language)


def test_weak_hits_and_stragglers_are_not_relevant() -> None:
    hits = [hit("a", 0.8), hit("b", 0.6), hit("c", 0.45), hit("d", 0.1)]
    assert [one.body for one in relevant(hits)] == ["a", "b"]
    assert relevant([hit("a", 0.3)]) == []
    assert relevant([]) == []


@pytest.mark.parametrize("text", ["", "one", "one two three four", "\n\n  a b\n\nc d  e [1]\n", " x"])
def test_chunks_join_to_the_text(text: str) -> None:
    pieces = list(chunks(text))
    assert "".join(pieces) == (text if text.strip() else "")
    assert all(1 <= len(piece.split()) <= 3 for piece in pieces)
