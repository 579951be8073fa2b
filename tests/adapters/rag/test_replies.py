from __future__ import annotations

import pytest

from trialogue_adapters.history import Turn
from trialogue_adapters.rag.index import Size
from trialogue_adapters.rag.replies import direct

SIZE = Size(7, 30)
CUT = (Turn("first?", "old", "completed"), Turn("why so?", "Because\n\nof the", "interrupted"))


@pytest.mark.parametrize(
    "question",
    [
        "what did you just say?",
        "What were you saying",
        "Sorry, what did you say just now?",
        "repeat that",
        "Please repeat your last answer.",
        "say that again",
        "What was your previous answer?",
    ],
)
def test_recall_in_english(question: str) -> None:
    reply = direct(question, "en", CUT, SIZE)
    assert reply == (
        "You asked “why so?”, and I said:\n\n> Because\n>\n> of the\n\nI was interrupted there by your next message."
    )


@pytest.mark.parametrize(
    "question",
    [
        "방금 뭐라고 했어?",
        "아까 무슨 말 했어",
        "뭐라고 했어?",
        "다시 말해줘",
        "방금 한 말 다시 알려줘",
        "방금 뭐라고 하셨나요?",
    ],
)
def test_recall_in_korean(question: str) -> None:
    reply = direct(question, "ko", CUT, SIZE)
    assert reply is not None
    assert "why so?" in reply
    assert "중단" in reply


@pytest.mark.parametrize(
    ("ending", "words"), [("completed", None), ("cancelled", "You stopped me there."), ("failed", "broke off")]
)
def test_recall_says_how_it_ended(ending: str, words: str | None) -> None:
    reply = direct("what did you say?", "en", (Turn("q", "the end", ending),), SIZE)
    assert reply is not None
    assert words in reply if words else reply.endswith("> the end")


def test_recall_without_a_past() -> None:
    assert direct("what did you just say?", "en", (), SIZE) == "I have said nothing yet in this session."
    assert direct("방금 뭐라고 했어?", "ko", (), SIZE) == "이 세션에서는 아직 아무 말도 하지 않았습니다."


@pytest.mark.parametrize("question", ["Hello!", "hi, who are you?", "What can you do?", "help"])
def test_greetings_in_english(question: str) -> None:
    assert "7 documents" in (direct(question, "en", (), SIZE) or "")


@pytest.mark.parametrize("question", ["안녕하세요", "너는 누구야?", "안녕, 뭘 할 수 있어?"])
def test_greetings_in_korean(question: str) -> None:
    assert "문서 7개" in (direct(question, "ko", (), SIZE) or "")


@pytest.mark.parametrize(
    "question",
    [
        "what does the docs say about queues?",
        "what did you say the with statement does with files?",
        "how do I repeat that in a loop?",
        "hello world in Python",
        "다시 연결하면 어떻게 돼?",
        "방금 연결이 끊기면 어떻게 되나요?",
        "!" * 10_000 + "x",
        "방금 " * 3_000,
    ],
)
def test_questions_for_the_documents_pass(question: str) -> None:
    assert direct(question, "en", CUT, SIZE) is None
