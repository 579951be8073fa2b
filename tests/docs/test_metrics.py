"""docs/metrics.md is what a running server exposes, and the dashboard asks for nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from support.metrics import AT_REST, Family, Scrape, scrape, settled
from support.pages import DOCS, rows, texts
from support.raw_client import open_client
from support.server import Server
from trialogue.core.errors import ERRORS, CloseCode
from trialogue.store import Verdict
from trialogue_adapters.metrics import ENDINGS, OTHER, PrometheusMeter

FLAGS = ("--ops-port", "0")
PAGE = DOCS / "metrics.md"
HEADINGS = ("## Turns", "## Tokens", "## Upstreams", "## Sessions and connections", "## The process")
SHARED = "## A shared store"
TARGET_LABELS = {"instance", "job"}
"""What Prometheus adds to every series."""


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def explained(*headings: str) -> list[Family]:
    """What the page tells under these headings; all of it without one."""
    table = [row for heading in headings or (*HEADINGS, SHARED) for row in rows(PAGE, heading)]
    assert all(len(row) == 6 and all(row) for row in table)
    return [Family(words(row[0])[0], row[1], frozenset(words(row[2]))) for row in table]


async def test_every_metric_is_explained_and_no_other_and_use_changes_none(server: Server) -> None:
    page = explained(*HEADINGS)
    assert len({family.name for family in explained()}) == len(explained()), "each once"
    fresh = scrape(server)
    assert fresh.families() == set(page)
    async with open_client(server) as client:
        await client.turn(await client.say())
        await client.turn(await client.say(at={"1": ["yield", {"event": "error", "error_code": "GEN-123"}]}))
        await client.turn(await client.say(at={"1": ["raise", "ValueError"]}))
        running = await client.say(tokens=None, pace=0.01)
        await client.wait_for("stream_token")
        await client.cancel(running)
        await client.turn(running)
        await client.send(type="nonsense")
        await client.quiet()
    used = await settled(server, AT_REST)
    assert used.families() == set(page)
    assert used.series == fresh.series, "no label takes a value that was not there from the start"
    ended = {label: used.value("trialogue_turns_ended_total", code=label) for label in (OTHER, "RAG-001")}
    assert ended == {OTHER: 1, "RAG-001": 1}
    assert used.value("trialogue_turns_ended_total", ending="cancelled") == 1
    assert used.value("trialogue_stop_seconds_count") == used.value("trialogue_upstream_close_seconds_count") == 1
    assert used.value("trialogue_refusals_total", code="WS-001") == 1


def test_a_shared_stores_metrics_are_explained_and_no_other() -> None:
    """Exposed by real nodes: tests/adapters/valkey/test_served.py."""
    pytest.importorskip("coredis")
    from trialogue_adapters.store_metrics import StoreMetrics
    from trialogue_adapters.valkey import Address, ValkeyStore

    registry = CollectorRegistry()
    registry.register(StoreMetrics(ValkeyStore(Address.parse("redis://nowhere"))))
    assert Scrape(generate_latest(registry).decode()).families() == set(explained(SHARED))


def test_the_values_of_labels_are_told() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{verdict.value}`" in text for verdict in Verdict)
    assert all(f"`{ending}`" in text for ending in (*ENDINGS, "failed", OTHER))
    told = next(line for line in text.splitlines() if "connections_dismissed_total" in line)
    assert {int(code) for code in re.findall(r"\b\d{4}\b", told.split("|")[5])} == set(CloseCode)
    meter = PrometheusMeter()
    for code in ERRORS:
        assert f'trialogue_refusals_total{{code="{code}"}} 0.0'.encode() in meter.exposition()


def test_the_scrape_configuration_is_one() -> None:
    (text,) = texts("metrics.md", "yaml")
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["static_configs"][0]["targets"]


# ── The dashboard ────────────────────────────────────────────────────────────────────────────────────────────────

DASHBOARD = json.loads((DOCS / "grafana" / "trialogue.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def nodes(tree: Any) -> Iterator[Any]:
    """A query's nodes, all of them."""
    yield tree
    for name in ("lhs", "rhs", "expr", "param", "vector_selector", "args"):
        child = getattr(tree, name, None)
        for part in child if isinstance(child, list) else [child]:
            if type(part).__module__ == "promql_parser":
                yield from nodes(part)


def grouping(node: Any) -> list[str]:
    modifier = getattr(node, "modifier", None)
    labels = list(getattr(modifier, "labels", None) or []) + list(getattr(modifier, "group_labels", None) or [])
    return labels + list(getattr(getattr(modifier, "matching", None), "labels", None) or [])


def exposed() -> dict[str, set[str]]:
    """Names for queries with their labels, from the page (which the test above holds to be true)."""
    names: dict[str, set[str]] = {}
    for family in explained():
        if family.kind == "histogram":
            names[f"{family.name}_bucket"] = {*family.labels, "le"}
            names |= {f"{family.name}_{part}": set(family.labels) for part in ("sum", "count")}
        else:
            names[family.name] = set(family.labels)
    return names


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_query_asks_for_what_exists(title: str, query: str) -> None:
    names, asked = exposed(), set()
    tree = list(nodes(promql_parser.parse(query.replace("$__rate_interval", "5m"))))
    selectors = [node for node in tree if isinstance(node, promql_parser.VectorSelector)]
    assert selectors
    for node in selectors:
        asked |= names[node.name]
        assert {matcher.name for matcher in node.matchers.matchers} <= names[node.name] | TARGET_LABELS
    for node in tree:
        assert set(grouping(node)) <= asked | TARGET_LABELS
    for node in tree:
        if isinstance(node, promql_parser.Call) and node.func.name in ("rate", "increase"):
            name = node.args[0].vector_selector.name
            assert name.endswith(("_total", "_bucket", "_sum", "_count")), f"{name} is no counter"


def test_the_dashboard_shows_every_metric_and_can_be_imported_anywhere() -> None:
    shown = " ".join(query for _, query in QUERIES)
    assert not [family.name for family in explained() if family.name not in shown]
    assert DASHBOARD["schemaVersion"] >= 41
    assert DASHBOARD["id"] is None
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    instances = variables["instance"]["query"]["query"]
    assert re.fullmatch(r"label_values\((\w+), instance\)", instances)[1] in exposed()  # type: ignore[index]
    for part in (*PANELS, *(target for panel in PANELS for target in panel["targets"]), variables["instance"]):
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["description"] for panel in PANELS)
