"""What the terminal itself says, in the languages that the server knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trialogue.core.errors import Lang


@dataclass(frozen=True, slots=True)
class Words:
    """Texts with `{…}` are formatted."""

    hello: str
    hint: str
    again: str
    away: str
    back: str
    gap: str
    restarted: str
    sources: str
    elsewhere: str
    held: str
    present: str
    stopping: str
    empty: str
    phases: Mapping[str, str] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)


ENGLISH = Words(
    hello="Connected to {address}, session {session}.",
    hint="Ask, also while it answers: that interrupts. Ctrl-C stops the answer, twice leaves.",
    again="Ctrl-C again leaves.",
    away="Connection lost ({reason}); back in {seconds} s.",
    back="Connected again: the answer goes on where it stopped.",
    gap="Connected again, but the server no longer has everything.",
    restarted="The server lost this answer and begins it anew.",
    sources="Sources",
    elsewhere="asked on another device",
    held="will be sent",
    present="{count} devices are here.",
    stopping="stopping",
    empty="Nothing was asked: standard input is empty.",
    phases={
        "sending": "sending",
        "queued": "queued",
        "waiting": "waiting",
        "retrieving": "retrieving",
        "generating": "generating",
    },
    endings={
        "length": "cut off: the longest answer that the server allows",
        "cancelled": "stopped",
        "interrupted": "interrupted",
        "retracted": "retracted",
        "lost": "lost: nobody can say how it ended",
        "incomplete": "a part of this answer is gone",
    },
)

KOREAN = Words(
    hello="{address}에 연결되었습니다. 세션 {session}",
    hint="답변 중에도 질문할 수 있고, 그러면 답변이 끊깁니다. Ctrl-C는 답변 중지, 두 번 누르면 종료.",
    again="Ctrl-C를 한 번 더 누르면 종료합니다.",
    away="연결이 끊겼습니다({reason}). {seconds}초 뒤에 다시 연결합니다.",
    back="다시 연결되었습니다. 답변을 이어서 받습니다.",
    gap="다시 연결되었지만 서버에 일부가 남아 있지 않습니다.",
    restarted="서버가 이 답변을 잃어 처음부터 다시 시작합니다.",
    sources="출처",
    elsewhere="다른 기기에서 질문",
    held="곧 보냅니다",
    present="기기 {count}대가 연결되어 있습니다.",
    stopping="중지하는 중",
    empty="질문이 없습니다. 표준 입력이 비어 있습니다.",
    phases={
        "sending": "보내는 중",
        "queued": "대기열",
        "waiting": "기다리는 중",
        "retrieving": "찾는 중",
        "generating": "답변 중",
    },
    endings={
        "length": "서버가 허용하는 길이에서 잘렸습니다",
        "cancelled": "중지됨",
        "interrupted": "끊김",
        "retracted": "철회됨",
        "lost": "어떻게 끝났는지 알 수 없습니다",
        "incomplete": "답변의 일부가 사라졌습니다",
    },
)

LANGUAGES: Mapping[Lang, Words] = {"en": ENGLISH, "ko": KOREAN}


def language_of(environment: Mapping[str, str]) -> Lang:
    """The language that the environment asks for; English if we don't know it."""
    asked = next(filter(None, (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return "ko" if asked.startswith("ko") else "en"
