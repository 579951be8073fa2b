"""The engine's facts as Prometheus metrics, in a registry of their own (two apps in one process do not collide)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from trialogue import Hub

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class PrometheusMeter:
    """The engine's `Meter` port; `watch` adds the gauges that are read from a hub when somebody asks."""

    content_type = CONTENT_TYPE_LATEST.encode()

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._accepted = Counter("trialogue_turns_accepted", "Messages that became a turn.", registry=registry)
        self._ended = Counter(
            "trialogue_turns_ended", "Endings, one per accepted turn.", ["ending", "code"], registry=registry
        )
        self._tokens = Counter("trialogue_tokens", "Tokens of ended turns.", registry=registry)
        self._wasted = Counter(
            "trialogue_tokens_wasted", "Tokens that came after their turn was stopped.", registry=registry
        )
        self._refused = Counter("trialogue_refusals", "Frames that were refused.", ["code"], registry=registry)
        self._crashed = Counter("trialogue_session_crashes", "Crashes of a session's actor.", registry=registry)
        self._abandoned = Counter(
            "trialogue_upstreams_abandoned", "Upstreams that did not close within the grace.", registry=registry
        )
        self._duration = Histogram("trialogue_turn_seconds", "A turn's length.", buckets=SECONDS, registry=registry)
        self._first_token = Histogram(
            "trialogue_first_token_seconds",
            "From a turn's start to its first token.",
            buckets=SECONDS,
            registry=registry,
        )
        self._closed = Histogram(
            "trialogue_upstream_close_seconds",
            "From the stop of a generation to its upstream's end.",
            buckets=SECONDS,
            registry=registry,
        )

    def watch(self, hub: Hub) -> None:
        """Add the gauges of what is there now."""
        gauges = {
            "trialogue_connections": ("Open connections.", lambda: hub.connections),
            "trialogue_sessions": ("Sessions.", lambda: len(hub.sessions)),
            "trialogue_sessions_vacant": ("Sessions with nobody attached.", lambda: hub.shelf.vacant),
            "trialogue_log_bytes": ("What the logs of all sessions keep.", lambda: hub.shelf.bytes),
            "trialogue_turns_waiting": ("Turns that wait for a generation.", lambda: hub.slots.waiting),
            "trialogue_generations_open": ("Generations.", lambda: hub.census.working),
            "trialogue_upstreams_abandoned_open": ("Abandoned, not closed.", lambda: hub.census.abandoned),
        }
        for name, (text, read) in gauges.items():
            Gauge(name, text, registry=self.registry).set_function(read)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    def accepted(self) -> None:
        self._accepted.inc()

    def ended(self, ending: str, code: str, tokens: int, seconds: float) -> None:
        self._ended.labels(ending, code).inc()
        self._tokens.inc(tokens)
        self._duration.observe(seconds)

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def upstream_closed(self, seconds: float) -> None:
        self._closed.observe(seconds)

    def abandoned(self) -> None:
        self._abandoned.inc()

    def wasted(self, tokens: int) -> None:
        self._wasted.inc(tokens)

    def crashed(self) -> None:
        self._crashed.inc()
