"""Answers made of the documents' own sentences, each with the `[n]` of the source it stands in.

No model is asked and nothing is invented: every sentence can be found in its source, and a first line says that this
is an extract. When nothing fits, it says so. All of it is synchronous and quick (a few milliseconds); the service
streams what comes out in chunks of a few words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .documents import CODE_INDENT
from .index import Hit
from .text import sentences, tokens

MIN_SCORE = 0.33  # below: the words only happen to occur
CLEAR_SCORE = 0.5  # below: said to be loosely related
MAX_SENTENCES = 6
MAX_WORDS = 150
WORDS_PER_CHUNK = 3
WORTH = 0.45  # sentences far behind the best one are left out
SAME = 0.6  # share of common words above which a sentence repeats another

_FOOTNOTE = re.compile(r"\s*\[(?:\d+|#\w*)\]")
_BULLET = re.compile(r"^(?:[-*+•]|\d{1,3}[.)])\s+")
_ABOUT_VERSIONS = re.compile(r"(?:Changed|New|Deprecated|Added|Removed) (?:in|since) version|See also|PEP \d+ - ")
_CHUNK = re.compile(rf"(?:\S+\s*){{1,{WORDS_PER_CHUNK}}}")

_TEXTS = {
    "en": {
        "extract": "An extract from the documents (their own sentences; no language model wrote this):",
        "loose": "Nothing in the documents answers this directly; these sentences come closest (an extract, not "
        "written by a language model):",
        "nothing": "I found nothing about this in the documents, so I cannot answer it. Try other words, or ask about "
        "something that they cover. (This answerer quotes documents; it makes nothing up.)",
    },
    "ko": {
        "extract": "문서에서 발췌한 답변입니다(문서의 문장 그대로이며 언어 모델이 쓴 글이 아닙니다):",
        "loose": "문서에 이 질문에 바로 답하는 내용은 없고, 가장 가까운 문장은 다음과 같습니다"
        "(발췌이며 언어 모델이 쓴 글이 아닙니다):",
        "nothing": "문서에서 이 질문에 관한 내용을 찾지 못해 답할 수 없습니다. 다른 낱말로 묻거나 문서가 다루는 내용을 "
        "물어 주세요. (이 답변기는 문서를 인용할 뿐, 지어내지 않습니다.)",
    },
}


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence, where it stands (`source` counts from 0 in the order of the hits), and how well it fits."""

    text: str
    source: int
    place: int
    value: float


def relevant(hits: Sequence[Hit]) -> list[Hit]:
    """The hits worth showing: above the floor, and not far behind the best."""
    floor = max(MIN_SCORE, 0.6 * hits[0].score) if hits else 0.0
    return [hit for hit in hits if hit.score >= floor]


def pick(
    hits: Sequence[Hit], weights: Mapping[str, float], most: int = MAX_SENTENCES, words: int = MAX_WORDS
) -> list[Quote]:
    """The best sentences of the hits, without repetitions, in reading order: by source, then by place.

    Half as many when the best hit is only loosely related.
    """
    most = most if hits and hits[0].score >= CLEAR_SCORE else most // 2
    ranked = sorted(_quotes(hits, weights), key=lambda quote: (-quote.value, quote.source, quote.place))
    chosen: list[tuple[Quote, frozenset[str]]] = []
    left = words
    for quote in ranked:
        bag = frozenset(tokens(quote.text))
        size = len(quote.text.split())
        if quote.value < WORTH * ranked[0].value:
            break
        if size > left or any(len(bag & other) > SAME * min(len(bag), len(other)) for _, other in chosen):
            continue
        chosen.append((quote, bag))
        left -= size
        if len(chosen) == most:
            break
    return sorted((quote for quote, _ in chosen), key=lambda quote: (quote.source, quote.place))


def answer(hits: Sequence[Hit], quotes: Sequence[Quote], language: str) -> str:
    """The whole answer, from what `relevant` and `pick` left; without quotes it says that nothing was found."""
    texts = _TEXTS[language]
    if not quotes:
        return texts["nothing"]
    head = texts["extract"] if hits[0].score >= CLEAR_SCORE else texts["loose"]
    lines = [" ".join(f"{quote.text} [{n + 1}]" for quote in quotes if quote.source == n) for n in range(len(hits))]
    return "\n\n".join([head, *filter(None, lines)])


def chunks(text: str) -> Iterator[str]:
    """Pieces of a few words; joined they are the text."""
    lead = len(text) - len(text.lstrip())
    for i, piece in enumerate(_CHUNK.finditer(text, lead)):
        yield text[:lead] + piece[0] if i == 0 else piece[0]


def _quotes(hits: Sequence[Hit], weights: Mapping[str, float]) -> Iterator[Quote]:
    total = sum(weights.values()) or 1.0
    best = hits[0].score if hits else 1.0
    for source, hit in enumerate(hits):
        titled = {term for term in tokens(hit.title) if term in weights}
        for place, sentence in enumerate(_quotable(hit.body), 1):
            found = {term for term in tokens(sentence) if term in weights}
            if not found:
                continue
            # What the heading says, the sentence under it need not repeat: half counts for free.
            said = sum(weights[t] for t in found) + 0.5 * sum(weights[t] for t in titled - found)
            value = said / total + (0.25 if place == 1 else 0.1 / place)
            yield Quote(sentence, source, place, value * (0.4 + 0.6 * hit.score / best))


def _quotable(body: str) -> Iterator[str]:
    """Sentences that stand on their own: no code, no lead-in to code, no "Changed in version"."""
    paragraphs = ["", *body.split("\n\n"), ""]
    for before, paragraph, after in zip(paragraphs, paragraphs[1:], paragraphs[2:], strict=False):
        if paragraph.startswith(CODE_INDENT):
            continue
        parts = sentences(_BULLET.sub("", _FOOTNOTE.sub("", paragraph)))
        if parts and before.startswith(CODE_INDENT) and parts[0][0].islower():  # goes on after an example
            del parts[0]
        if parts and after.startswith(CODE_INDENT) and parts[-1][-1:] not in ".!?":
            del parts[-1]
        for part in parts:
            if 4 <= len(part.split()) <= 70 and not part.endswith(":") and not _ABOUT_VERSIONS.match(part):
                yield part
