"""What waits to be written: appends, joined per session, and other commands, each with what becomes of its reply.

Appends of a session that wait together become one entry of its stream: one command, however many batches of tokens.
At most one entry of a session is under way, so a refused one leaves no hole: nothing of that session came after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trialogue.core.codec import encode_events, width
from trialogue.core.events import Event, Tokens
from trialogue.store import Key, Verdict
from trialogue_adapters.valkey.resp import ErrorReply, Reply, pack

Done = Callable[[Verdict], None]

Judged = Callable[[Key, Verdict, int], None]
"""Told of every verdict once: of which session, and of how many appends."""

TRANSIENT = (
    "OOM", "READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM", "MISCONF", "NOREPLICAS",
    "CLUSTERDOWN", "TRYAGAIN", "BUSY",
)  # fmt: skip
"""Error replies that speak of the whole store, and may pass: the command was not carried out, and is sent again."""

_SMALLER = "equal or smaller"
"""What the server says to an id that is not greater than the stream's last."""


class Order:
    """A command, and who hears of its reply (never of one that may pass). `key`: of what session, if that matters."""

    __slots__ = ("_heard", "key", "words")

    def __init__(self, *words: bytes, heard: Callable[[Reply], None] | None = None, key: Key | None = None) -> None:
        self.words = pack(*words)
        self.key = key
        self._heard = heard

    def settle(self, reply: Reply) -> Order | None:
        """Hear of the reply. Returns what is to be sent next because of it; itself, if the error may pass."""
        if isinstance(reply, ErrorReply) and reply.startswith(TRANSIENT):
            return self
        if self._heard:
            self._heard(reply)
        return None

    def seal(self, template: bytes) -> None:
        """It is about to be sent; `template`: an append's."""

    def sent_in_vain(self) -> None:
        """The link broke before the reply: it is sent again."""

    def fail(self) -> None:
        """It will not be sent again."""


def append_template(maxlen: int) -> bytes:
    """A packed append, but for lengths and values of the stream's name, the id, the offsets it takes, the payload."""
    bound = b"%d" % maxlen
    words = (b"XADD", None, b"NOMKSTREAM", b"MAXLEN", b"~", bound, None, b"n", None, b"e", None)
    gap = b"$%d\r\n%b\r\n"
    return b"*%d\r\n" % len(words) + b"".join(gap if word is None else gap % (len(word), word) for word in words)


def widths(events: Sequence[Event]) -> int:
    """How many offsets they take together."""
    if len(events) == 1:
        return width(events[0])
    return sum(map(width, events))


class Append(Order):
    """Events of one session that follow each other: one entry. Packed when it is sent: until then, more may join."""

    __slots__ = (
        "_ambiguous",
        "_dones",
        "_end",
        "_epoch",
        "_events",
        "_joined",
        "_judged",
        "_log",
        "_start",
    )

    key: Key

    def __init__(
        self, key: Key, log: bytes, epoch: int, offset: int, events: Sequence[Event], done: Done, judged: Judged
    ) -> None:
        """Hot, like all that follows: once per batch of tokens."""
        self.key = key
        self._log = log
        self._epoch = epoch
        self._start = offset
        self._end = offset + widths(events)
        self._events = list(events)
        self._dones = [done]
        self._judged = judged
        self._joined: Tokens | None = None
        self._ambiguous = False

    def joins(self, epoch: int, offset: int, events: Sequence[Event], done: Done) -> bool:
        """Take the events in, if they go on where this one ends."""
        if epoch != self._epoch or offset != self._end:
            return False
        self._end += widths(events)
        self._dones.append(done)
        for event in events:
            if type(event) is not Tokens or not self._goes_on(event):
                self._events.append(event)
        return True

    def _goes_on(self, tokens: Tokens) -> bool:
        """Add tokens to the last ones, if those are of the same turn."""
        last = self._events[-1]
        if type(last) is not Tokens or last.message_id != tokens.message_id:
            return False
        if last is not self._joined:  # the first two: events are shared, so the list that grows is our own
            last = self._joined = self._events[-1] = Tokens(last.message_id, last.index, list(last.texts))
        last.texts += tokens.texts  # type: ignore[operator]
        return True

    def seal(self, template: bytes) -> None:
        """Nothing joins any more."""
        log, at, payload = self._log, self._id(), encode_events(self._events)
        count = b"%d" % (self._end - self._start)
        self.words = template % (len(log), log, len(at), at, len(count), count, len(payload), payload)

    def _id(self) -> bytes:
        return b"%d-%d" % (self._epoch, self._start)

    def settle(self, reply: Reply) -> Order | None:
        if not isinstance(reply, ErrorReply):
            self._tell(Verdict.WIPED if reply is None else Verdict.WRITTEN)
        elif reply.startswith(TRANSIENT):
            return self
        elif _SMALLER not in reply:
            self._tell(Verdict.UNREACHABLE)
        elif self._ambiguous:  # it is ours, if an earlier sending of it got through: nobody else writes in our epoch
            return Order(b"XRANGE", self._log, self._id(), self._id(), heard=self._found, key=self.key)
        else:
            self._tell(Verdict.STALE)
        return None

    def sent_in_vain(self) -> None:
        self._ambiguous = True

    def fail(self) -> None:
        self._tell(Verdict.UNREACHABLE)

    def _found(self, reply: Reply) -> None:
        self._tell(Verdict.WRITTEN if isinstance(reply, list) and reply else Verdict.STALE)

    def _tell(self, verdict: Verdict) -> None:
        dones, self._dones = self._dones, []
        for done in dones:
            done(verdict)
        self._judged(self.key, verdict, len(dones))

    def reject(self, verdict: Verdict) -> None:
        """It was never sent: an earlier one of its session was refused."""
        self._tell(verdict)
