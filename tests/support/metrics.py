"""What a running server exposes at /metrics, read as Prometheus reads it. The server needs `--ops-port 0`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection

import trio
from prometheus_client.parser import text_string_to_metric_families

from support.server import Server

AT_REST = (
    "trialogue_connections",
    "trialogue_generations_open",
    "trialogue_turns_waiting",
    "trialogue_upstreams_abandoned_open",
)
"""Gauges that are 0 when everybody has gone and every upstream has closed."""


@dataclass(frozen=True)
class Family:
    """One metric: its name as it is queried, its type, its labels."""

    name: str
    kind: str
    labels: frozenset[str]


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self._families = list(text_string_to_metric_families(text))
        self._samples = [sample for family in self._families for sample in family.samples]

    @property
    def series(self) -> int:
        return len(self._samples)

    def families(self) -> set[Family]:
        return {
            Family(
                f"{family.name}_total" if family.type == "counter" else family.name,
                family.type,
                frozenset(label for sample in family.samples for label in sample.labels if label != "le"),
            )
            for family in self._families
        }

    def sample_names(self) -> dict[str, set[str]]:
        """The names that a query may use, with the labels of each."""
        names: dict[str, set[str]] = {}
        for sample in self._samples:
            names.setdefault(sample.name, set()).update(sample.labels)
        return names

    def value(self, name: str, **labels: str) -> float:
        """The sum over all series of that name which have these labels."""
        found = [s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"{name} {labels} is not exposed"
        return sum(found)


def ops_port(server: Server) -> int:
    found = re.search(r"health and metrics on http://127\.0\.0\.1:(\d+)", server.log())
    assert found, server.log()
    return int(found[1])


def scrape(server: Server) -> Scrape:
    connection = HTTPConnection("127.0.0.1", ops_port(server), timeout=5)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        return Scrape(answer.read().decode())
    finally:
        connection.close()


async def settled(server: Server, gauges: Sequence[str], within: float = 5.0) -> Scrape:
    """The first answer in which these gauges are 0."""
    with trio.fail_after(within):
        while True:
            seen = await trio.to_thread.run_sync(scrape, server)
            if not any(seen.value(name) for name in gauges):
                return seen
            await trio.sleep(0.05)
