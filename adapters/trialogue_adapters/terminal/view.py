"""What stands on the screen: a function of the turns' state, drawn frame by frame. No terminal, no task, no clock.

A frame is two texts: what is printed now, once, and scrolls away (`above`); and what is drawn anew each time, beneath
it and above the input line (`live`). One turn is shown at a time, as a session works; what was asked meanwhile waits.
"""

from __future__ import annotations

from dataclasses import dataclass

from trialogue_adapters.client import Ending, Source, Turn
from trialogue_adapters.terminal.clean import clean
from trialogue_adapters.terminal.markdown import Painter
from trialogue_adapters.terminal.words import Words

DIM, BOLD, WARNING, FAILURE = "dim", "bold", "yellow", "red"
PREVIEW_CHARS = 100


@dataclass(frozen=True, slots=True)
class Frame:
    """Both are painted, and empty or ending with a newline."""

    above: str
    live: str


class View:
    """`add` turns, `say` what happens beside them, and take a `frame` now and then."""

    def __init__(self, words: Words, painter: Painter) -> None:
        self.stopping = False
        self.status = ""
        self._words = words
        self._painter = painter
        self._waiting: list[Turn] = []
        self._current: Turn | None = None
        self._edition = 0
        self._settled = 0
        self._printed = ""

    @property
    def busy(self) -> bool:
        """Is there something that may change?"""
        return bool(self._current or self._waiting or self._printed)

    @property
    def current(self) -> Turn | None:
        """The turn that a stop would stop: the one that is shown, else the one that was asked last."""
        return self._current or (self._waiting[-1] if self._waiting else None)

    def add(self, turn: Turn) -> None:
        """Show this turn, when it is its time."""
        self._waiting.append(turn)

    def say(self, text: str, style: str = DIM) -> None:
        """A line of our own, printed with the next frame."""
        self._printed += self._painter.line(text, style)

    def frame(self, height: int) -> Frame:
        """What is new, and what is drawn in at most `height` lines."""
        while self._advance():
            pass
        live = self._live().splitlines(keepends=True)
        above, self._printed = self._printed, ""
        return Frame(above, "".join(live[-max(height, 1) :]))

    def rest(self) -> str:
        """What has not been printed yet, painted: for when nothing is drawn any more."""
        printed, self._printed = self.frame(1).above, ""
        return printed + (self._painter.blocks(clean(self._current.text)[self._settled :]) if self._current else "")

    def _advance(self) -> bool:
        """Print what is settled. Says whether another turn's time may have come."""
        if self._current is None and not self._begin():
            return False
        turn = self._current
        assert turn
        if turn.edition != self._edition:
            self._edition, self._settled = turn.edition, 0
            self.say(self._words.restarted, WARNING)
        rest = clean(turn.text)[self._settled :]
        done = len(rest) if turn.ending else self._painter.settled(rest)
        if rest[:done].strip():
            self._printed += self._painter.blocks(rest[:done]) + "\n"
        self._settled += done
        if turn.ending is None:
            return False
        self._finish(turn, turn.ending)
        return True

    def _begin(self) -> bool:
        """Take the turn whose time has come, if there is one."""
        ready = (turn for turn in self._waiting if turn.ending or turn.phase not in ("sending", "queued"))
        turn = next(ready, None)
        if turn is None:
            return False
        self._waiting.remove(turn)
        self._current, self._edition, self._settled, self.stopping = turn, turn.edition, 0, False
        self._printed += self._question(turn)
        return True

    def _finish(self, turn: Turn, ending: Ending) -> None:
        if turn.sources:
            self.say(self._words.sources, DIM)
            for number, source in enumerate(turn.sources, 1):
                self.say(f"  {number}. {describe(source)}", DIM)
        if ending in ("failed", "rejected") and turn.error:
            self.say(f"{turn.error}", FAILURE)
            for solution in turn.error.solutions:
                self.say(f"  {solution}", DIM)
        elif ending != "stop":
            self.say(f"— {self._words.endings[ending]}", WARNING)
        elif not turn.whole:
            self.say(f"— {self._words.endings['incomplete']}", WARNING)
        self._printed += "\n"
        self._current, self.stopping = None, False

    def _live(self) -> str:
        lines = []
        if self._current:
            lines.append(self._painter.tail(clean(self._current.text)[self._settled :]))
            lines.append(self._painter.line(f"[{self._phase(self._current)}]", DIM))
        lines += (self._question(turn, f"[{self._phase(turn)}]") for turn in self._waiting)
        if self.status:
            lines.append(self._painter.line(self.status, WARNING))
        return "".join(lines)

    def _phase(self, turn: Turn) -> str:
        if self.stopping and turn is self._current:
            return self._words.stopping
        if turn.phase == "sending" and self.status:
            return self._words.held
        return f"{self._words.phases[turn.phase]}{f' {turn.place}' if turn.place else ''}"

    def _question(self, turn: Turn, aside: str = "") -> str:
        whose = "" if turn.own else f"({self._words.elsewhere}) "
        aside = f" {aside}" if aside else ""
        return self._painter.line(f"> {whose}{turn.question or '…'}{aside}", DIM if aside else BOLD)


def describe(source: Source) -> str:
    """A source in a line: its title, its score, the beginning of its preview."""
    title, score, preview = (source.get(name) for name in ("title", "score", "content_preview"))
    shown = " ".join(str(preview or "").split())
    if len(shown) > PREVIEW_CHARS:
        shown = f"{shown[:PREVIEW_CHARS]}…"
    rated = f" ({score:.2f})" if isinstance(score, int | float) else ""
    return f"{title or '?'}{rated}{f': {shown}' if shown else ''}"
