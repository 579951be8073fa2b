from __future__ import annotations

from trialogue_adapters.history import Turn
from trialogue_adapters.rag.index import Hit
from trialogue_adapters.rag.prompt import build

HITS = [Hit("a.md", "Refunds", "A refund is paid within two weeks. " * 3, 0.9)] * 5
WEIGHTS = {"refund": 3.0}


def test_the_prompt_holds_the_sentences_the_history_and_the_question() -> None:
    turns = (Turn("older?", "no", "completed"), Turn("before?", "yes, " * 200, "interrupted"))
    system, user, assistant, question = build("When is a refund paid?", HITS, WEIGHTS, turns)
    assert system["role"] == "system"
    assert user == {"role": "user", "content": "before?"}
    assert len(assistant["content"]) <= 200
    assert question["content"].count("A refund is paid within two weeks.") == 1
    assert question["content"].count("When is a refund paid?") == 2


def test_it_is_bounded_whatever_is_asked() -> None:
    hits = [Hit("a.md", "R", " ".join(f"Refund w{n} goes to x{n} and y{n} now." for n in range(400)), 0.9)] * 5
    turns = (Turn("q" * 500, "a" * 2_000, "completed"),)
    full = sum(len(message["content"]) for message in build("refund " * 2_000, hits, WEIGHTS, turns))
    brief = sum(len(message["content"]) for message in build("refund " * 2_000, hits, WEIGHTS, turns, brief=True))
    assert full < 3_500
    assert brief < 900
