"""What a client knows of its session, and what it has to say: positions, re-sending, cancels, acks. Sans-IO.

Frames go in by `receive`; frames that have to be sent pile up in `outgoing`, which whoever owns the connection empties.
It must never give one message a second id (the id is what makes re-sending safe), and never say twice what only once
is safe. The rules are `trialogue.js`'s, word for word where they can be.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trialogue_adapters.client.errors import TooMuch
from trialogue_adapters.client.fold import MAKES_A_TURN, Failure, Frame, TurnState

OnBusy = Literal["interrupt", "enqueue", "reject", "rollback"]

MAX_UNFINISHED = 32
"""Own messages without an ending that are kept for re-sending. When it is full, `submit` raises TooMuch."""
MAX_TURNS = 200
"""That are remembered here, whosoever they are; a Turn that somebody holds lives on."""
MAX_ANSWER_CHARS = 16 * 1024 * 1024
"""Of one answer: sixteen times what a server allows by default. One that is longer is cancelled, and fails here."""
FRAME_BYTES = 65_536


@dataclass(slots=True)
class Unfinished:
    """An own message that has no ending yet."""

    frame: dict[str, Any]
    transmitted: bool = False
    accepted: bool = False


@dataclass(slots=True)
class Changes:
    """What a frame has changed: turns, those of them that are new and not ours, and what is said beside turns."""

    turns: list[TurnState] = field(default_factory=list)
    foreign: list[TurnState] = field(default_factory=list)
    aside: Frame | None = None


class Conversation:
    """One session, as one client sees it."""

    def __init__(self, session_id: str, after: str | None = None) -> None:
        self.session_id = session_id
        self.outgoing: list[dict[str, Any]] = []
        self.turns: dict[str, TurnState] = {}
        self.connections = 0
        self.ready = False
        self.leaving = False
        self._epoch: int | None = None
        self._offset = 0
        if start := read_position(after):
            self._epoch, self._offset = start
        self._unfinished: dict[str, Unfinished] = {}
        self._cancels: dict[str | None, bool] = {}  # without a result yet; a dict, for its order
        self._acks: dict[str, int] = {}
        self._frame_bytes = FRAME_BYTES

    def __repr__(self) -> str:
        return f"<Conversation {self.session_id!r} at {self.position}, {len(self._unfinished)} unfinished>"

    # What is so.

    @property
    def position(self) -> str | None:
        """After which entry we go on; None before the first `session_ready`."""
        return None if self._epoch is None else f"{self._epoch}:{self._offset}"

    @property
    def unfinished(self) -> list[str]:
        """Ids of own messages without an ending."""
        return list(self._unfinished)

    # What we are asked to do.

    def submit(
        self, message_id: str, content: str, on_busy: OnBusy | None = None, options: Mapping[str, Any] | None = None
    ) -> TurnState:
        """Say something. While away it is kept, and sent after the return. Raises TooMuch."""
        if len(self._unfinished) >= MAX_UNFINISHED:
            raise TooMuch("unfinished", f"{MAX_UNFINISHED} messages have no ending yet", retryable=True)
        away = not self.ready or self.leaving  # a leaving server would refuse: keep it for the next
        # Typed one after another while away, they'd all go out at once, each interrupting the last: let them queue.
        held = away and any(not one.accepted for one in self._unfinished.values())
        policy = on_busy or ("enqueue" if held else None)
        frame: dict[str, Any] = {"type": "message", "message_id": message_id, "content": content}
        frame |= {"session_id": self.session_id} | ({"on_busy": policy} if policy else {})
        frame |= {"options": dict(options)} if options is not None else {}
        size = len(json.dumps(frame, ensure_ascii=False).encode("utf-8", "replace"))
        if size > self._frame_bytes:
            raise TooMuch("too_big", f"the message is {size} bytes, of at most {self._frame_bytes}")
        self._unfinished[message_id] = Unfinished(frame)
        self.flush_acks()  # what was seen until now, before this message interrupts it
        if not away:
            self._transmit(message_id)
        turn = self.turns[message_id] = TurnState(message_id, own=True, question=content)
        self._forget()
        return turn

    def cancel(self, message_id: str | None = None) -> list[TurnState]:
        """Stop that turn, or all of this session's. Asked again after a drop, until its result has come.

        Returns those that had never left, which so have their ending.
        """
        self.flush_acks()
        whose = [message_id] if message_id is not None else self.unfinished
        withdrawn = [turn for turn in map(self._withdraw, whose) if turn]
        if message_id is None or not withdrawn:
            self._cancels[message_id] = True
            if self.ready:
                self._ask_cancel(message_id)
        return withdrawn

    def shown(self, message_id: str, index: int) -> None:
        """The tokens of this turn up to `index` have been seen; said with the next `flush_acks`."""
        self._acks[message_id] = index

    def flush_acks(self) -> None:
        if self.ready:
            self.outgoing += ({"type": "ack", "message_id": one, "index": at} for one, at in self._acks.items())
        self._acks.clear()

    # What we hear.

    def receive(self, frame: Frame) -> Changes:
        """Take one frame. Of one that is new to us, or odd, nothing but its position counts."""
        kind = frame.get("type")
        if kind == "session_ready":
            return self._ready(frame)
        self._advance(frame)
        if kind == "goaway":
            self.leaving = True
        elif kind == "presence":
            self.connections = frame["connections"] if isinstance(frame.get("connections"), int) else self.connections
        elif kind == "cancel_result":
            self._cancels.pop(frame.get("message_id"), None)
        self._settle(kind, frame.get("message_id"))
        return self._fold(kind, frame)

    def drop(self) -> None:
        """The connection has ended: what was to be said is said anew, or not at all."""
        self.ready = self.leaving = False
        self.outgoing.clear()
        self._acks.clear()

    # How.

    def _advance(self, frame: Frame) -> None:
        offset, epoch = frame.get("offset"), frame.get("epoch")
        if isinstance(offset, int):  # else a reply: it has no place in the log
            self._offset = offset
            self._epoch = epoch if isinstance(epoch, int) else self._epoch

    def _settle(self, kind: Any, message_id: Any) -> None:
        """What a frame tells about our own message: that it was accepted, or that it has its ending."""
        entry = self._unfinished.get(message_id) if isinstance(message_id, str) else None
        if entry is None:
            return
        if kind in ("stream_end", "stream_error"):
            del self._unfinished[message_id]
        elif kind in ("user_message", "stream_start", "stream_status"):
            entry.accepted = True

    def _fold(self, kind: Any, frame: Frame) -> Changes:
        message_id = frame.get("message_id")
        turn = self.turns.get(message_id) if isinstance(message_id, str) else None
        changes = Changes()
        if turn is None and kind in MAKES_A_TURN and isinstance(message_id, str):
            turn = self.turns[message_id] = TurnState(message_id)
            changes.foreign.append(turn)
            changes.turns += self._forget()
        if turn is None:
            changes.aside = frame
        elif turn.apply(frame, self._epoch):
            changes.turns.append(turn)
            if turn.chars > MAX_ANSWER_CHARS and turn.ending is None:
                turn.ending = "failed"
                turn.failure = Failure("too_long", f"the answer has more than {MAX_ANSWER_CHARS} characters", ())
                self._unfinished.pop(turn.message_id, None)
                self.cancel(turn.message_id)
        return changes

    def _ready(self, frame: Frame) -> Changes:
        # Without a hole: everything that we miss follows. Otherwise endings may be among what is gone.
        whole = frame.get("resumed") == "replayed" or self._epoch is None
        if start := read_position(frame.get("position")):
            self._epoch, self._offset = start
        self.ready, self.leaving = True, False
        limits, connections = frame.get("limits"), frame.get("connections")
        self.connections = connections if isinstance(connections, int) else 1
        if isinstance(limits, dict) and isinstance(limits.get("frame_bytes"), int):
            self._frame_bytes = limits["frame_bytes"]
        alive = None if whole else {*_ids_in(frame.get("running")), *_ids_in(frame.get("queued"))}
        self._resend(alive)
        return Changes(turns=[] if alive is None else self._lose(alive | set(self._unfinished)))

    def _resend(self, alive: Collection[str] | None) -> None:
        """Say again what may not have arrived. Safe, for the same id never generates twice.

        Args:
            alive: after a hole: the turns that the server still works on; None = there is no hole.
        """
        if None in self._cancels:
            self._ask_cancel(None)
        for message_id, entry in self._unfinished.items():
            if not entry.accepted:
                self._transmit(message_id)
            elif alive is not None and message_id not in alive:
                # Accepted, but its ending is in the hole: ask for it. A restarted server answers it anew; that must
                # disturb nobody.
                self.outgoing.append({**entry.frame, "on_busy": "enqueue"})
        for asked in self._cancels:
            if asked is not None:
                self._ask_cancel(asked)

    def _lose(self, alive: Collection[str]) -> list[TurnState]:
        """After a hole: unfinished turns that nobody works on any more have ended, we don't know how."""
        lost = [turn for turn in self.turns.values() if turn.ending is None and turn.message_id not in alive]
        for turn in lost:
            turn.ending = "lost"
        return lost

    def _withdraw(self, message_id: str) -> TurnState | None:
        """It had never left: nobody else will write its ending, so we do."""
        entry = self._unfinished.get(message_id)
        if entry is None or entry.transmitted:
            return None
        del self._unfinished[message_id]
        turn = self.turns[message_id]
        turn.ending, turn.outcome = "cancelled", "cancelled"
        return turn

    def _transmit(self, message_id: str) -> None:
        entry = self._unfinished[message_id]
        entry.transmitted = True
        self.outgoing.append(entry.frame)

    def _ask_cancel(self, message_id: str | None) -> None:
        self.outgoing.append({"type": "cancel"} | ({"message_id": message_id} if message_id is not None else {}))

    def _forget(self) -> list[TurnState]:
        """Keep no more turns than may be kept: ended ones go first, own unfinished ones never.

        Returns those that went without an ending.
        """
        excess = max(len(self.turns) - MAX_TURNS, 0)
        candidates = [turn for turn in self.turns.values() if turn.message_id not in self._unfinished] if excess else []
        candidates.sort(key=lambda turn: turn.ending is None)
        given_up = []
        for turn in candidates[:excess]:
            del self.turns[turn.message_id]
            if turn.ending is None:
                turn.ending = "lost"
                given_up.append(turn)
        return given_up


def read_position(text: Any) -> tuple[int, int] | None:
    """`epoch:offset`, or None if it is not one."""
    epoch, colon, offset = text.partition(":") if isinstance(text, str) else ("", "", "")
    readable = colon and epoch.isascii() and epoch.isdecimal() and offset.isascii() and offset.isdecimal()
    return (int(epoch), int(offset)) if readable else None


def _ids_in(value: Any) -> list[str]:
    """The ids in `session_ready.running` and `.queued`: one id, a list, or none."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
