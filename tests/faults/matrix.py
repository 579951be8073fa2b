"""What is expected of each fault at each point of a turn: a table to be read, and the docs' rendering of it.

A cell tells how the turn ends, as whoever is there, or comes back, reads it from the log: its finish reason or its
error code. "fine" stands where no turn is running: nothing happens, and the session's next message is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from support.pages import DOCS, WrittenPart

TABLE = WrittenPart(DOCS / "faults.md", "<!-- the table begins -->\n", "<!-- the table ends -->\n")


class Row(NamedTuple):
    """One fault at the six points."""

    idle: str
    accepted: str
    tokens: str
    last: str
    two: str
    replay: str


POINTS = {
    "idle": "idle",
    "accepted": "accepted, no token",
    "tokens": "mid tokens",
    "last": "last token sent, no end yet",
    "two": "mid tokens, two connections",
    "replay": "during a replay",
}

# fmt: off
# ruff: noqa: E501 - one line for each row
FAMILIES: Mapping[str, Mapping[str, Row]] = {
    "the client goes": {                 # idle    accepted       tokens         last           two            replay
        "closes (1000)":               Row("fine", "cancelled",   "cancelled",   "cancelled",   "stop",        "cancelled"),
        "FIN":                         Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
        "half-close":                  Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
        "RST":                         Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
        "vanishes":                    Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
        "stops reading":               Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
        "cut in the middle of a frame": Row("fine", "stop",       "stop",        "stop",        "stop",        "stop"),
    },
    "the client asks": {
        "cancel":                      Row("fine", "cancelled",   "cancelled",   "cancelled",   "cancelled",   "cancelled"),
        "a new message":               Row("fine", "interrupted", "interrupted", "interrupted", "interrupted", "interrupted"),
        "the same message_id again":   Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
        "a second tab":                Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
    },
    "the service": {
        "raises":                      Row("fine", "RAG-001",     "RAG-001",     "RAG-001",     "RAG-001",     "RAG-001"),
        "hangs":                       Row("fine", "RAG-002",     "RAG-003",     "RAG-003",     "RAG-003",     "RAG-003"),
        "never ends":                  Row("fine", "RAG-004",     "RAG-004",     "–",           "RAG-004",     "RAG-004"),
        "yields junk":                 Row("fine", "RAG-001",     "RAG-001",     "RAG-001",     "RAG-001",     "RAG-001"),
        "swallows a cancel":           Row("fine", "cancelled",   "cancelled",   "cancelled",   "cancelled",   "cancelled"),
        "yields after a cancel":       Row("fine", "cancelled",   "cancelled",   "cancelled",   "cancelled",   "cancelled"),
    },
    "the service's thread": {
        "blocks":                      Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
    },
    "the engine": {
        "the session's actor crashes": Row("fine", "WS-007",      "WS-007",      "WS-007",      "WS-007",      "WS-007"),
    },
    "the process": {
        "SIGTERM":                     Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
        "SIGTERM, out of time":        Row("fine", "WS-006",      "WS-006",      "WS-006",      "WS-006",      "WS-006"),
        "no descriptor left":          Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
        "the connection cap reached":  Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
    },
    "somebody else": {
        "a hostile neighbour":         Row("fine", "stop",        "stop",        "stop",        "stop",        "stop"),
    },
}
# fmt: on


def rendered(families: Mapping[str, Mapping[str, Mapping[str, str] | Row]]) -> str:
    """The table in Markdown. A row may also be what a run saw, by point; "–" where there was nothing to run."""
    lines = ["| | fault | " + " | ".join(POINTS.values()) + " |", "|---" * (2 + len(POINTS)) + "|"]
    for family, rows in families.items():
        for number, (fault, row) in enumerate(rows.items()):
            cells = row._asdict() if isinstance(row, Row) else row
            shown = " | ".join(_shown(cells.get(point, "–")) for point in POINTS)
            lines.append(f"| {'' if number else family} | {fault} | {shown} |")
    return "\n".join(lines) + "\n"


def _shown(cell: str) -> str:
    return cell if cell in ("fine", "–") else f"`{cell}`"
