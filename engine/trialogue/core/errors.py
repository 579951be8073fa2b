"""Every error a client can meet: its code, whose fault it is, whether to retry, and its texts in two languages.

One table, imported by everybody and importing nothing of ours, so that describing an error can never form a circle.
The codes and close codes are the wire contract's; a pipeline's own code passes through verbatim (`Fault.message`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

Lang = Literal["ko", "en"]
Party = Literal["client", "server", "pipeline"]


class CloseCode(IntEnum):
    """WebSocket close codes that we send. A client may come back after all but 1003, 1008 and 1009."""

    NORMAL = 1000
    BINARY = 1003
    POLICY = 1008
    TOO_BIG = 1009
    CRASHED = 1011
    RESTART = 1012
    OVERLOADED = 1013
    TOO_SLOW = 4000


@dataclass(frozen=True, slots=True)
class Text:
    """What an error says in one language; `{detail}` is filled from the fault. `remedies` is never empty."""

    message: str
    remedies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """One row of the error table. `retryable`: is it worth sending the same content again, as a new message?"""

    code: str
    party: Party
    retryable: bool
    ko: Text
    en: Text
    retry_after_ms: int | None = None

    def text(self, lang: Lang) -> Text:
        return self.ko if lang == "ko" else self.en


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that went wrong, as data.

    Args:
        code: a code of `ERRORS`, or a pipeline's own.
        detail: what exactly is wrong; goes into the text's `{detail}`. Never content, never a secret.
        message, solutions: a pipeline's own texts, passed on verbatim in place of ours.
        unreadable: the frame was not even JSON; one dialect has a name of its own for that.
    """

    code: str
    detail: str = ""
    message: str | None = None
    solutions: tuple[str, ...] = ()
    unreadable: bool = False

    @property
    def spec(self) -> ErrorSpec:
        """The table's row for this code; a pipeline's own code is described by STREAM-001's."""
        return ERRORS.get(self.code, ERRORS["STREAM-001"])

    def render(self, lang: Lang) -> tuple[str, list[str]]:
        """The message and the (never empty) list of solutions in `lang`."""
        text = self.spec.text(lang)
        message = self.message or text.message.replace("{detail}", self.detail).strip()
        return message, list(self.solutions or text.remedies)


def _spec(
    code: str,
    party: Party,
    ko: tuple[str, ...],
    en: tuple[str, ...],
    retry_after_ms: int | None = None,
    *,
    retryable: bool = True,
) -> ErrorSpec:
    return ErrorSpec(code, party, retryable, Text(ko[0], ko[1:]), Text(en[0], en[1:]), retry_after_ms)


ERRORS: dict[str, ErrorSpec] = {
    spec.code: spec
    for spec in (
        _spec(
            "WS-001",
            "client",
            ("요청이 올바르지 않습니다. {detail}", "표시된 필드를 고쳐 다시 보내 주세요."),
            ("The request is not valid. {detail}", "Correct the named field and send it again."),
            retryable=False,
        ),
        _spec(
            "WS-002",
            "server",
            ("채팅 서비스가 아직 준비되지 않았습니다.", "잠시 후 다시 시도해 주세요."),
            ("The chat service is not ready yet.", "Try again in a moment."),
            2000,
        ),
        _spec(
            "WS-003",
            "server",
            (
                "지금 다른 답변을 처리하고 있습니다. {detail}",
                "답변이 끝난 뒤 다시 보내 주세요.",
                "진행 중인 답변을 취소할 수 있습니다.",
            ),
            (
                "Another answer is being worked on. {detail}",
                "Send it again when the answer has ended.",
                "Or cancel the running answer.",
            ),
            1000,
        ),
        _spec(
            "WS-004",
            "client",
            ("session_id가 이 연결의 세션과 다릅니다.", "연결할 때 쓴 session_id를 보내 주세요."),
            ("The session_id is not this connection's.", "Send the session_id that you connected with."),
            retryable=False,
        ),
        _spec(
            "WS-005",
            "client",
            ("요청이 너무 많습니다. {detail}", "잠시 후 다시 시도해 주세요."),
            ("Too many requests. {detail}", "Wait a moment, then try again."),
            1000,
        ),
        _spec(
            "WS-006",
            "server",
            ("서버가 재시작을 준비하고 있습니다.", "다시 연결한 뒤 보내 주세요."),
            ("The server is about to restart.", "Reconnect, then send it again."),
            1000,
        ),
        _spec(
            "WS-007",
            "server",
            ("서버 내부 오류로 이 답변을 잃었습니다.", "새 메시지로 다시 보내 주세요."),
            ("The server failed; this answer is lost.", "Send it again as a new message."),
        ),
        _spec(
            "WS-008",
            "server",
            (
                "이 답변을 만들던 서버가 사라졌습니다.",
                "받은 내용은 유효합니다. 새 메시지로 다시 보내 주세요.",
            ),
            (
                "The server that produced this answer was lost.",
                "What you received stays valid; send it again as a new message.",
            ),
        ),
        _spec(
            "WS-009",
            "server",
            ("대화 기록 저장소에 연결할 수 없습니다.", "잠시 후 다시 시도해 주세요."),
            ("The conversation store cannot be reached.", "Try again in a moment."),
            2000,
        ),
        _spec(
            "WS-010",
            "server",
            ("서버가 처리할 수 있는 양을 넘었습니다.", "잠시 후 다시 시도해 주세요."),
            ("The server is at capacity.", "Try again in a moment."),
            2000,
        ),
        _spec(
            "RAG-001",
            "pipeline",
            (
                "답변을 만드는 중 오류가 발생했습니다.",
                "다시 시도해 주세요.",
                "계속되면 관리자에게 알려 주세요.",
            ),
            (
                "The answer pipeline failed.",
                "Try again as a new message.",
                "If it keeps failing, tell the operator.",
            ),
        ),
        _spec(
            "RAG-002",
            "pipeline",
            ("제한 시간 안에 답변이 시작되지 않았습니다.", "다시 시도하거나 질문을 줄여 주세요."),
            ("The answer did not begin in time.", "Try again, or shorten the question."),
        ),
        _spec(
            "RAG-003",
            "pipeline",
            (
                "답변이 도중에 멈췄습니다.",
                "받은 내용은 유효합니다. 새 메시지로 다시 시도해 주세요.",
            ),
            ("The answer stalled.", "What you received stays valid; try again as a new message."),
        ),
        _spec(
            "RAG-004",
            "pipeline",
            ("답변 시간이 제한을 넘었습니다.", "받은 내용은 유효합니다. 질문을 나누어 보내 주세요."),
            ("The answer took too long in all.", "What you received stays valid; split the question."),
        ),
        _spec(
            "STREAM-001",
            "pipeline",
            ("답변 파이프라인이 오류를 알렸습니다. {detail}", "다시 시도해 주세요."),
            ("The answer pipeline reported an error. {detail}", "Try again as a new message."),
            retryable=False,
        ),
    )
}
