"""Every bound of the engine in one frozen value that is handed down, and the token bucket.

Counts are counts, sizes are bytes, times are seconds; 0 means "no limit" only where a field says so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session, a connection and the hub may use. Defaults are the documented ones of `trialogue serve`."""

    queue_size: int = 8
    """Turns that may wait behind the running one; one more is WS-003."""
    stop_grace: float = 0.25
    """How long a stopped turn's upstream may take to close before it is abandoned."""
    linger: float = 30.0
    """How long a running turn goes on with nobody attached."""
    session_ttl: float = 600.0
    """How long a session (its log, its ids) lives after its last connection."""
    first_token_timeout: float = 30.0
    """RAG-002 when the pipeline told nothing that a user can read for so long."""
    token_timeout: float = 20.0
    """RAG-003 when the next token does not come for so long."""
    turn_timeout: float = 300.0
    """RAG-004 when a turn takes so long in all."""
    hook_timeout: float = 5.0
    """How long a service may tidy up after its `done`, and how long its `ended` hook may take."""
    max_answer_bytes: int = 1 << 20
    """UTF-8 bytes of one answer; at the limit it ends with `finish_reason` "length"."""
    max_frame_bytes: int = 64 * 1024
    """Bytes of one client frame; a larger one closes the connection with 1009."""
    max_content_chars: int = 10_000
    """Characters of one message. The wire contract's number: shown to clients, not meant to be raised."""
    log_bytes: int = 1 << 20
    """What a log keeps of ended turns, in bytes; unfinished turns are kept whatever their size."""
    log_bytes_in_all: int = 1 << 30
    """What all logs keep; past it, ended turns are let go, and a message that nothing can make room for is WS-010.
    0: no limit."""
    max_vacant: int = 10_000
    """Sessions that are kept with nobody attached; past that, the one that has been alone longest goes. 0: no limit."""
    window: int = 256
    """Entries a generation may be ahead of the fastest attached reader before it waits."""
    remembered_ids: int = 1_000
    """Message ids of ended turns that a session remembers, at the least."""
    max_replies: int = 256
    """Replies that may wait for one connection's full socket; one more closes it with 4000."""
    stall_timeout: float = 10.0
    """A connection whose writer makes no progress for so long is closed with 4000."""
    max_connections: int = 10_000
    """Connections of the whole process; one more is HTTP 503. 0: no limit."""
    max_generations: int = 1_000
    """Generations open in the whole process; further turns wait for one, principals in turn. 0: no limit."""
    max_waiting: int = 1_000
    """Turns that may wait for a generation; a message beyond is WS-010. 0: no limit."""
    max_abandoned: int = 50
    """Abandoned upstreams that may still compute; while there are so many, a new message is WS-010. 0: no limit."""
    max_connections_per_client: int = 1_000
    """Connections of one client (a principal, else an address); one more is HTTP 429. 0: no limit."""
    handshakes_per_second: int = 500
    """Handshakes from one address; one more is HTTP 429. 0: no limit."""
    messages_per_minute: int = 600
    """Frames of one client; one more is WS-005. 0: no limit."""
    turns_per_minute: int = 300
    """Messages of one client; one more is WS-005. 0: no limit."""
    refusals_per_minute: int = 300
    """Frames of one client that are refused for its own fault; one more closes it with 1008. 0: no limit."""


class TokenBucket:
    """A rate as a yes or no: `takes` per `seconds`, of which as many can be saved up.

    The clock is the caller's: `take(now)` takes any monotonic seconds. A rate of 0 always says yes.
    """

    __slots__ = ("_at", "_capacity", "_level", "_rate")

    def __init__(self, takes: int, seconds: float, now: float) -> None:
        self._rate = takes / seconds
        self._capacity = self._level = max(1.0, float(takes))
        self._at = now

    def __repr__(self) -> str:
        return f"<TokenBucket {self._rate:g}/s, {self._level:.1f} of {self._capacity:g} left>"

    def take(self, now: float) -> bool:
        """Take one; False when there is none, and nothing is taken then."""
        if not self._rate:
            return True
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def wait_ms(self) -> int:
        """How long until the next take succeeds, in whole milliseconds; what `retry_after_ms` says."""
        if not self._rate or self._level >= 1:
            return 0
        return int((1 - self._level) / self._rate * 1000) + 1
