"""Questions about the conversation rather than about the documents: "what did you just say?", "who are you?".

They are answered from the history, truthfully: as far as the answer was sent, and saying so when it was cut short.
A small model or a search would only make something up. The patterns are narrow on purpose; a question that merely
contains such words goes to the documents.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from trialogue_adapters.history import Turn

from .index import Size

LONGEST = 100  # longer ones are no such questions, and patterns stay quick

_RECALL = re.compile(
    r"(?:sorry,?\s+|wait,?\s+|so,?\s+)?(?:"
    r"what (?:did|were) you (?:just |last )?(?:say|saying|tell me|answer)(?: (?:just now|before|last|again|to me))?"
    r"|what was (?:that|your (?:last |previous )?answer)|(?:please )?(?:repeat|say) (?:that|it|your (?:last )?answer)"
    r"(?: again| once more)?|come again"
    r"|(?:방금|아까|금방|조금 전에?|마지막에?|직전에)\s*(?:뭐라고|무슨 (?:말|얘기|대답)|뭘|무엇을|뭐)[^?.!]{0,16}"
    r"|(?:뭐라고|무슨 말)\s*(?:했|하셨|말했)[^?.!]{0,10}|다시 (?:한번 )?(?:말해|얘기해|대답해)[^?.!]{0,8}"
    r"|(?:방금|아까) (?:한|했던) (?:말|대답|답변)[^?.!]{0,12}"
    r")[\s?.!~]*",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"(?:hi|hello|hey|good (?:morning|evening|afternoon)|안녕(?:하세요|하십니까)?|반가워요?)?[\s!.,~?]*"
    r"(?:(?:who|what) are you|what can you do|what can i ask(?: you)?|help"
    r"|(?:너는?|넌|당신은) 누구(?:야|니|세요|십니까|인가요)?|(?:뭘|무엇을) (?:할|물어볼|도와줄) 수 있어요?)?[\s!.,~?]*",
    re.IGNORECASE,
)

_CUT = {
    "en": {
        "interrupted": " I was interrupted there by your next message.",
        "cancelled": " You stopped me there.",
        "failed": " It broke off there because of an error.",
    },
    "ko": {
        "interrupted": " 여기까지 말하다가 다음 메시지가 와서 중단되었습니다.",
        "cancelled": " 여기까지 말했을 때 취소하셨습니다.",
        "failed": " 여기까지 말하다가 오류로 끊겼습니다.",
    },
}


def direct(question: str, language: str, turns: Sequence[Turn], size: Size) -> str | None:
    """The reply, or None when the question is one for the documents."""
    text = question.strip()
    if len(text) > LONGEST:
        return None
    if _RECALL.fullmatch(text):
        return _recall(language, turns)
    if _GREETING.fullmatch(text):
        return _greet(language, size)
    return None


def _recall(language: str, turns: Sequence[Turn]) -> str:
    if not turns:
        return (
            "이 세션에서는 아직 아무 말도 하지 않았습니다."
            if language == "ko"
            else "I have said nothing yet in this session."
        )
    last = turns[-1]
    quoted = "\n".join(f"> {line}".rstrip() for line in last.answer.strip().splitlines())
    cut = _CUT[language].get(last.ending, "")
    if language == "ko":
        return f"“{last.question}”라는 질문에 이렇게 말했습니다:\n\n{quoted}\n\n{cut.strip()}".rstrip()
    return f"You asked “{last.question}”, and I said:\n\n{quoted}\n\n{cut.strip()}".rstrip()


def _greet(language: str, size: Size) -> str:
    if language == "ko":
        return f"안녕하세요. 저는 문서 {size.documents}개에서 답을 찾아 드립니다. 문서가 다루는 내용을 물어 주세요."
    return f"Hello. I answer questions from {size.documents} documents: ask me about something that they cover."
