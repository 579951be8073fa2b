"""What was said in each session: the last few questions, and each answer as far as it was really sent.

An interrupted answer stands up to where it was cut, with its ending; a retracted one leaves nothing. Bounded twice:
turns per session, and sessions (the one that was silent longest is forgotten first). Not for several threads: the
service's loop owns it. It stands below the bridges and the embedded RAG, because both remember, and imports nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

TURNS = 4
SESSIONS = 10_000
QUESTION_CHARS = 500
ANSWER_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, its answer as far as it was sent, and how it ended (`completed`, `interrupted`, …)."""

    question: str
    answer: str
    ending: str


class _Session:
    __slots__ = ("asked", "turns")

    def __init__(self) -> None:
        self.asked = ""
        self.turns: deque[Turn] = deque(maxlen=TURNS)


class History:
    def __init__(self, sessions: int = SESSIONS) -> None:
        self._limit = sessions
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def __repr__(self) -> str:
        return f"<History of {len(self._sessions)} sessions>"

    def __len__(self) -> int:
        return len(self._sessions)

    def asked(self, session_id: str, question: str) -> None:
        """A turn has begun; its question waits here for its ending."""
        session = self._sessions.setdefault(session_id, _Session())
        session.asked = question[:QUESTION_CHARS]
        self._sessions.move_to_end(session_id)
        while len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)

    def ended(self, session_id: str, ending: str, text: str) -> None:
        """The turn is over and `text` of it was sent. Nothing sent, or retracted: nothing happened."""
        session = self._sessions.get(session_id)
        if session is None or not session.asked or not text.strip():
            return
        if ending != "retracted":
            session.turns.append(Turn(session.asked, text[:ANSWER_CHARS], ending))
        session.asked = ""

    def turns(self, session_id: str) -> tuple[Turn, ...]:
        """Oldest first."""
        session = self._sessions.get(session_id)
        return tuple(session.turns) if session is not None else ()
