"""The engine's facts as Prometheus metrics, in a registry of their own (two apps in one process do not collide).

What is here is listed and explained in docs/metrics.md; a test compares. No label may take a value that a client or a
service can invent: every combination is made at the start, so that a rate is 0 before the first one, not absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from trialogue import CloseCode, Ending, Hub, __version__
from trialogue.core.errors import ERRORS

INSTANT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)

OTHER = "other"
"""What a code is called here that is not one of ours: a pipeline may end its turns with any."""

ENDINGS = tuple(str(ending) for ending in Ending if ending not in (Ending.FAILED, Ending.REJECTED))


class Registry(CollectorRegistry):
    """Without the `_created` series that the library adds to each counter and histogram: nobody asks for them."""

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class PrometheusMeter:
    """The engine's `Meter` port; `watch` adds the gauges that are read from a hub when somebody asks."""

    content_type = CONTENT_TYPE_LATEST.encode()

    def __init__(self) -> None:
        self.registry = Registry()
        self._accepted = self._counter("trialogue_turns_accepted", "Messages that became a turn.")
        self._ended = self._counter("trialogue_turns_ended", "Turns that got their ending.", "ending", "code")
        self._generated = self._counter("trialogue_tokens_generated", "Tokens of settled generations.")
        self._sent = self._counter("trialogue_tokens_sent", "Those of them that some connection had been handed.")
        self._unsent = self._counter("trialogue_tokens_unsent", "Those of them that no connection had been handed.")
        self._wasted = self._counter("trialogue_tokens_wasted", "Tokens that came after the stop, and were dropped.")
        self._refused = self._counter("trialogue_refusals", "Frames that were refused.", "code")
        self._attached = self._counter("trialogue_connections_opened", "Connections that came.")
        self._dismissed = self._counter("trialogue_connections_dismissed", "Connections that we closed.", "code")
        self._crashed = self._counter("trialogue_session_crashes", "Crashes of a session's actor.")
        self._abandoned = self._counter("trialogue_upstreams_abandoned", "Upstreams that outlasted the stop grace.")
        self._duration = self._histogram("trialogue_turn_seconds", "From a turn's start to its end.", LONG)
        self._first_token = self._histogram(
            "trialogue_first_token_seconds", "From a turn's start to its first token.", SECONDS
        )
        self._stopped = self._histogram("trialogue_stop_seconds", "From a cancel to the turn's end.", INSTANT)
        self._closed = self._histogram(
            "trialogue_upstream_close_seconds", "From a generation's stop to its upstream's end.", SECONDS
        )
        Info("trialogue_build", "What runs here.", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)
        self._name_every_label()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def _name_every_label(self) -> None:
        for ending in ENDINGS:
            self._ended.labels(ending, "")
        for code in (*ERRORS, OTHER):
            self._ended.labels(str(Ending.FAILED), code)
        for code in ERRORS:
            self._refused.labels(code)
        for close_code in CloseCode:
            self._dismissed.labels(str(int(close_code)))

    def watch(self, hub: Hub) -> None:
        """Add the gauges of what is there now."""
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "trialogue_connections": ("Open connections.", lambda: hub.connections),
            "trialogue_sessions": ("Sessions.", lambda: len(hub.sessions)),
            "trialogue_sessions_vacant": ("Sessions with nobody attached.", lambda: hub.shelf.vacant),
            "trialogue_log_bytes": ("What the logs of all sessions keep.", lambda: hub.shelf.bytes),
            "trialogue_turns_waiting": ("Turns that wait for a generation.", lambda: hub.slots.waiting),
            "trialogue_generations_open": ("Generations that somebody waits for.", lambda: hub.census.working),
            "trialogue_upstreams_abandoned_open": ("Abandoned, not closed.", lambda: hub.census.abandoned),
            "trialogue_ready": ("Would a message be accepted now?", lambda: hub.ready),
        }
        for name, (text, read) in gauges.items():
            Gauge(name, text, registry=self.registry).set_function(read)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    # The port.

    def accepted(self) -> None:
        self._accepted.inc()

    def ended(self, ending: str, code: str, seconds: float) -> None:
        self._ended.labels(str(ending), code if not code or code in ERRORS else OTHER).inc()
        self._duration.observe(seconds)

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def stopped(self, seconds: float) -> None:
        self._stopped.observe(seconds)

    def upstream_closed(self, seconds: float) -> None:
        self._closed.observe(seconds)

    def abandoned(self) -> None:
        self._abandoned.inc()

    def settled(self, generated: int, sent: int) -> None:
        self._generated.inc(generated)
        self._sent.inc(sent)
        self._unsent.inc(generated - sent)

    def wasted(self, tokens: int) -> None:
        self._wasted.inc(tokens)

    def crashed(self) -> None:
        self._crashed.inc()

    def attached(self) -> None:
        self._attached.inc()

    def dismissed(self, code: int) -> None:
        self._dismissed.labels(str(int(code))).inc()
