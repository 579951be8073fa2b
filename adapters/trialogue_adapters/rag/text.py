"""Words, sentences and languages: the one place that decides what counts as a word.

The index and the questions must be cut by the same rule, or nothing is found; so both call `tokens`. Latin words are
lowercased, stripped of accents and of a plural `s`. Hangul is cut into overlapping pairs of syllables, because Korean
glues particles to its nouns (세션을, 세션이) and an index of whole words, or of trigrams, misses two-syllable words.
Nothing here knows about files, SQL or chat.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_TOKEN = 40
MAX_SENTENCE = 2_000
_HANGUL = "가-힣"
_RUN = re.compile(rf"[{_HANGUL}]+|[^\W_{_HANGUL}]+")
_HANGUL_CHAR = re.compile(rf"[{_HANGUL}ㄱ-ㆎ]")
_SENTENCE_END = re.compile(r"(?<=[.!?。…])[\"'”’)\]]*\s+(?=[\"'“‘(`*\[]*[A-Z0-9가-힣`_])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Mr|Mrs|Dr|No|Fig|approx)|(?:^|\s)\(?(?:[A-Za-z]|\d{1,2}))\.$")

# Words of a question that say nothing about its subject.
STOP = frozenset(
    re.findall(
        r"\w+",
        "a about an are be been can could did do does explain give had has have how i it its just me mean means my of "
        "on please shall should show tell that the their them there these they this those to us use used using want "
        "was we were what when where which who why will would you your",
    )
)
# Function words that are also words of Python: they count in a title only where the question points at them.
KEYWORDS = frozenset({"and", "as", "by", "else", "for", "from", "if", "in", "is", "not", "or", "while", "with"})
_POINTERS = ("statement", "keyword", "operator", "loop", "clause", "block", "문", "구문", "키워드", "연산자", "반복")
_QUOTED = re.compile(r"[\"'`“‘](\w+)[\"'`”’]")
_KOREAN_ASKING = re.compile(
    r"(무엇|무슨|뭐[야지가]?|뭔가|어떻게|어떤|어떠한|어디|언제|누가|왜|알려\s?(줘|주세요|달라)|설명해?\s?(줘|주세요)?|"
    r"인가요?|하나요|되나요|있나요|한가요|입니까|합니까|됩니까|해\s?줘|해\s?주세요|주세요|일까요?|까요)"
)


def is_korean(text: str) -> bool:
    """Whether any Hangul stands in the text: then it is answered in Korean."""
    return _HANGUL_CHAR.search(text) is not None


def tokens(text: str) -> Iterator[str]:
    """The searchable words of a text, in order: letters and digits only, so none can be query syntax."""
    for run in _RUN.finditer(_fold(text)):
        word = run[0]
        if _HANGUL_CHAR.match(word):
            yield from (word[i : i + 2] for i in range(max(1, len(word) - 1)))
        elif len(word) <= MAX_TOKEN:
            yield _singular(word)


def query_terms(question: str) -> tuple[list[str], frozenset[str]]:
    """What a question asks for: (terms to look for, those of them that may not match a title).

    "Why?" and "who are you?" ask for nothing that can be looked up: no terms.
    """
    question = _KOREAN_ASKING.sub(" ", question) if is_korean(question) else question
    words = [run[0] for run in _RUN.finditer(_fold(question))]
    quoted = {word.lower() for word in _QUOTED.findall(question)}
    kept: dict[str, None] = {}
    body_only: set[str] = set()
    for i, word in enumerate(words):
        if word in STOP:
            continue
        for term in tokens(word):
            kept.setdefault(term)
            if word in KEYWORDS and word not in quoted and not _pointed_at(words, i):
                body_only.add(term)
    return list(kept), frozenset(body_only)


def sentences(text: str) -> list[str]:
    """Sentences of one paragraph of prose; a full stop in an abbreviation or after `1` does not end one."""
    found: list[str] = []
    for part in _SENTENCE_END.split(" ".join(text.split())):
        if found and len(found[-1]) < MAX_SENTENCE and _ABBREVIATION.search(found[-1][-12:]):
            found[-1] = f"{found[-1]} {part}"
        elif part:
            found.append(part)
    return found


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters on one line, cut between words where possible."""
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    cut = flat[: limit - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space > limit // 2 else cut).rstrip(" ,;:") + "…"


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    bare = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return unicodedata.normalize("NFKC", "".join(bare)).lower()


def _singular(word: str) -> str:
    if len(word) < 4 or not word.isascii() or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    return f"{word[:-3]}y" if word.endswith("ies") and len(word) > 4 else word[:-1]


def _pointed_at(words: list[str], i: int) -> bool:
    """`with statement`, `for loop`, `with 문`: a neighbour says that the word itself is meant."""
    return any(word.startswith(_POINTERS) for word in words[i + 1 : i + 2] + words[max(0, i - 1) : i])
