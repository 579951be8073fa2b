"""A client that comes and goes, as a good client would: it keeps its position, and checks every frame as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from proof.reading import Reading
from support.memory import MemoryTransport
from trialogue import Position

REFUSALS = ("WS-001", "WS-003", "WS-006", "WS-007")


class Ear(MemoryTransport):
    """A transport that lets its device hear each frame, and once that has gone, only count what is thrown after it."""

    def __init__(self, hear: Callable[[bytes], None], count: Callable[[bytes], None]) -> None:
        super().__init__()
        self.gone = False
        self._hear = hear
        self._count = count

    def write(self, frames: Sequence[bytes]) -> bool:
        for frame in frames:
            (self._count if self.gone else self._hear)(frame)
        return not self.full

    def leave(self, code: int) -> None:
        """Go, whether or not it has read everything."""
        self.gone = True
        super().leave(code)
        self.end_while_full()


class Device:
    """One device. `position` is where it would resume; `answers` are the replies since somebody looked last.

    `find` returns the reading of a session's log.
    """

    def __init__(
        self, number: int, session_id: str, v1: bool, find: Callable[[str], Reading | None], wrong: list[str]
    ) -> None:
        self.number = number
        self.session_id = session_id
        self.v1 = v1
        self.transport: Ear | None = None
        self.position: Position | None = None
        self.past: list[Position] = []
        self.answers: list[tuple[str | None, str]] = []
        self.entries = 0
        self._asked: Position | None = None
        self._reading: Reading | None = None
        self._find = find
        self._wrong = wrong
        self._current: str | None = None  # the turn that runs, as the entries tell it
        self._greeted = False
        self._replayed: str | None = None  # the past turn that is being replayed
        self._indices: dict[str, int] = {}

    def complain(self, what: str) -> None:
        self._wrong.append(f"device {self.number} at {self.position}: {what}")

    @property
    def listens(self) -> bool:
        """Is it attached, and does it take what it is sent?"""
        return self.transport is not None and not self.transport.full

    def attach(self, asked: Position | None) -> Ear:
        """Come (back), with a position or without."""
        self._asked, self._reading = asked, None
        self._current = self._replayed = None
        self._indices = {}
        self.answers = []
        self.transport = Ear(self._hear_v1 if self.v1 else self._hear_seed, self._count)
        self._greeted = False
        return self.transport

    def lose(self, count: int) -> None:
        """The last entries never arrived: what was handed to the network is not what the client has."""
        if self.position and self._greeted:
            self.past.append(self.position)
            lost = min(count, self.entries)
            self.position = Position(self.position.epoch, self.position.offset - lost)

    def _count(self, frame: bytes) -> None:
        """A frame that the transport took, and the device never got."""
        body = json.loads(frame)
        self._reading = self._reading or self._find(self.session_id)
        if body["type"] == "stream_token":
            self._shown(body)

    def _shown(self, token: dict[str, Any]) -> None:
        assert self._reading
        shown, message_id = self._reading.shown, token["message_id"]
        shown[message_id] = max(shown[message_id], token["index"] + 1)

    # trialogue.v1

    def _hear_v1(self, frame: bytes) -> None:
        body = json.loads(frame)
        if not self._greeted:
            self._greet(body)
        elif "offset" in body:
            self._entry(body, frame)
        else:
            self._reply(body)

    def _greet(self, body: dict[str, Any]) -> None:
        self._greeted = True
        if body["type"] != "session_ready":
            self.complain(f"the first frame is {body['type']}")
            return
        self.position, resumed = Position.parse(body["position"]), body["resumed"]
        self.entries = 0
        reading = self._reading = self._find(self.session_id)
        assert reading
        end, asked = len(reading.events), self._asked
        whole = asked is not None and asked.epoch == reading.epoch and reading.log.start <= asked.offset <= end
        unasked, answered = "attached" if end else "new", "replayed" if whole else "gap"
        expected = unasked if asked is None else answered
        place = asked.offset if asked and whole else reading.turn_start()
        if (resumed, self.position) != (expected, Position(reading.epoch, place)):
            self.complain(f"asked for {asked}, is told {resumed} {self.position}, not {expected} {place}")
        told = [*([body["running"]] if body["running"] else []), *body["queued"]]
        if told != [*([reading.running] if reading.running else []), *reading.queue]:
            self.complain(f"is told that {told} are unfinished")

    def _entry(self, body: dict[str, Any], frame: bytes) -> None:
        reading, position = self._reading, self.position
        assert reading
        assert position
        offset = body["offset"]
        if offset != position.offset + 1:
            self.complain(f"a hole or a repetition: {body}")
        elif frame != reading.frame(position.offset):
            self.complain(f"{frame!r}, but the log says {reading.frame(position.offset)!r}")
        self.position = Position(position.epoch, offset)
        self.entries += 1
        message_id = body["message_id"]
        match body["type"]:
            case "stream_start":
                self._current = message_id
            case "stream_token":
                self._shown(body)
            case "stream_end" | "stream_error" if message_id == self._current:
                self._current = None

    def _reply(self, body: dict[str, Any]) -> None:
        message_id = body.get("message_id")
        match body["type"]:
            case "cancel_result":
                self.answers.append((message_id, body["outcome"]))
            case "stream_status" if body["phase"] == "duplicate":
                self.answers.append((message_id, "duplicate"))
            case "stream_start":
                self._turn_start(body, self._current)
            case "stream_token":
                self._turn_token(body, self._replayed)
            case "stream_end" | "stream_error":
                self._turn_end(body)

    # The five events, as the seed's clients get them, and everybody a replay.

    def _hear_seed(self, frame: bytes) -> None:
        body = json.loads(frame)
        if self._reading is None:
            self._reading = self._find(self.session_id)
            assert self._reading
        match body["type"]:
            case "stream_start":
                self._turn_start(body, self._replayed)
            case "stream_token":
                self._turn_token(body, self._replayed)
                self._shown(body)
            case "stream_end" | "stream_error":
                self._turn_end(body)

    def _turn_start(self, body: dict[str, Any], running: str | None) -> None:
        if running:
            self.complain(f"{body['message_id']} starts inside {running}")
        self._replayed = body["message_id"]
        self._indices[self._replayed] = 0

    def _turn_token(self, body: dict[str, Any], running: str | None) -> None:
        assert self._reading
        message_id, index = body["message_id"], body["index"]
        if message_id != running or index != self._indices.get(message_id):
            self.complain(f"{body} inside {running}, after {self._indices.get(message_id)} tokens")
        elif body["token"] != self._reading.texts[message_id][index]:
            self.complain(f"{body} is not what the log says")
        self._indices[message_id] = index + 1

    def _turn_end(self, body: dict[str, Any]) -> None:
        assert self._reading
        message_id, code = body["message_id"], body.get("error_code")
        end, had = self._reading.ended.get(message_id), len(self._reading.texts[message_id])
        if code in REFUSALS and (end is None or code == "WS-001"):
            self.answers.append((message_id, code))
        elif end is None:
            self.complain(f"{body}, but it has no end")
        elif message_id == self._replayed:
            self._replayed = None
            if had != self._indices[message_id]:
                self.complain(f"{body} after {self._indices[message_id]} tokens of {had}")
