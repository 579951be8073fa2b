"""What waits to be written: appends and other commands, each with what becomes of its reply.

An append is what a lane held when its turn came: one entry of its session's stream, however many batches of tokens. At
most one entry of a session is under way, so a refused one leaves no hole: nothing of that session came after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trialogue.core.codec import encode_events
from trialogue.core.events import Event, width
from trialogue.store import Lane, Verdict
from trialogue_adapters.valkey.resp import ErrorReply, Reply, pack
from trialogue_adapters.valkey.tally import Tally

TRANSIENT = (
    "OOM", "READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM", "MISCONF", "NOREPLICAS",
    "CLUSTERDOWN", "TRYAGAIN", "BUSY",
)  # fmt: skip
"""Error replies that speak of the whole store, and may pass: the command was not carried out, and is sent again."""

_SMALLER = "equal or smaller"
"""What the server says to an id that is not greater than the stream's last."""


class Order:
    """A command, and who hears of its reply (never of one that may pass)."""

    __slots__ = ("_heard", "awaited", "words")

    awaited: bytes
    """The reply that it is nearly always given, as it stands on the wire; empty where that can't be known."""

    def __init__(self, *words: bytes, heard: Callable[[Reply], None] | None = None) -> None:
        self.words = pack(*words)
        self.awaited = b""
        self._heard = heard

    def settle(self, reply: Reply) -> Order | None:
        """Hear of the reply. Returns what is to be sent next because of it; itself, if the error may pass."""
        if isinstance(reply, ErrorReply) and reply.startswith(TRANSIENT):
            return self
        if self._heard:
            self._heard(reply)
        return None

    def fail(self) -> None:
        """It will not be sent again."""


def append_template(maxlen: int) -> bytes:
    """A packed append, but for lengths and values of the stream's name, the id, the offsets it takes, the payload."""
    bound = b"%d" % maxlen
    words = (b"XADD", None, b"NOMKSTREAM", b"MAXLEN", b"~", bound, None, b"n", None, b"e", None)
    gap = b"$%d\r\n%b\r\n"
    return b"*%d\r\n" % len(words) + b"".join(gap if word is None else gap % (len(word), word) for word in words)


class Append(Order):
    """One entry, taken from a lane. `template`: `append_template`'s."""

    __slots__ = ("_at", "_lane", "_log", "_tally")

    def __init__(
        self, template: bytes, log: bytes, lane: Lane, taken: tuple[int, int, Sequence[Event]], tally: Tally
    ) -> None:
        """Hot, like `settle`: once per entry."""
        epoch, offset, events = taken
        self._lane = lane
        self._log = log
        self._tally = tally
        self._at = at = b"%d-%d" % (epoch, offset)
        self.awaited = b"$%d\r\n%b\r\n" % (len(at), at)
        count, payload = b"%d" % sum(map(width, events)), encode_events(events)
        self.words = template % (len(log), log, len(at), at, len(count), count, len(payload), payload)

    def settle(self, reply: Reply) -> Order | None:
        if type(reply) is bytes:
            self._tell(Verdict.WRITTEN)
        elif not isinstance(reply, ErrorReply):
            self._tell(Verdict.WIPED)
        elif reply.startswith(TRANSIENT):
            return self
        elif _SMALLER in reply:  # it may be our own: sent once already, over a link that broke before the reply
            return Order(b"XRANGE", self._log, self._at, self._at, heard=self._found)
        else:
            self._tell(Verdict.UNREACHABLE)
        return None

    def fail(self) -> None:
        self._tell(Verdict.UNREACHABLE)

    def _found(self, reply: Reply) -> None:
        """What stands under its id, if anything does: nobody else writes in our epoch."""
        self._tell(Verdict.WRITTEN if isinstance(reply, list) and reply else Verdict.STALE)

    def _tell(self, verdict: Verdict) -> None:
        if verdict is Verdict.WRITTEN:
            self._tally.written += 1
        else:
            self._tally.refuse(self._lane.key, verdict)
        self._lane.judge(verdict)
