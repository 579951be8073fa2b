"""The whole comparison in one table: every target of the project beside what was measured, in under ten minutes.

Four servers: the FastAPI design on uvicorn (the baseline), Trialogue behind hypercorn with an asyncio and with a Trio
service, Trialogue on trio-websocket with an asyncio service. Ratios are to the baseline, medians of interleaved rounds.
`--long` takes every server, more rounds and longer measurements, and the scaling series: an hour or two.
"""

from __future__ import annotations

from functools import partial
from time import monotonic

import interrupt
import memory
import paced
import throughput
from common.catalog import BASELINE, PEERS, SHORT, choose
from common.process import prepare_load
from common.report import comparison, markdown, number, parser, save
from common.rounds import Figures, Measure, interleaved, medians

RATIO, VALUE = True, False
TARGETS: tuple[tuple[str, str, str, bool, str, dict[str, str]], ...] = (
    # figure · scenario · key · as a ratio to the baseline? · unit · {server: must / goal}, "" for every other of ours
    ("tokens/s/core, ready, 32 sessions", "ready", "tokens_cpu_s", RATIO, "×", {"": "≥4.5 / 7", "trio": "≥3.5 / 6"}),
    ("tokens/s/core, one at a time", "steps", "tokens_cpu_s", RATIO, "×", {"": "≥3.7 / 5", "trio": "≥1.6 / 1.9"}),
    ("CPU per paced token, 1,000 sessions", "paced 1000", "cpu_us", RATIO, "×", {"": "≤0.62 / 0.50", "trio": "–"}),
    ("delivered, 3,000 × 26.7 tokens/s", "paced 3000", "delivered", VALUE, "", {"": "≥0.95 / 0.99", "trio": "–"}),
    ("message → first new frame, p50, 500 busy", "busy", "frame_p50", VALUE, " ms", {"": "≤1 / 0.5", "trio": "–"}),
    ("message → first new frame, p99", "busy", "frame_p99", VALUE, " ms", {"": "≤4 / 1.5", "trio": "–"}),
    ("message → first new token, p50", "busy", "token_p50", VALUE, " ms", {"": "≤2 / 1", "trio": "–"}),
    ("message → first new token, p99", "busy", "token_p99", VALUE, " ms", {"": "≤6 / 3", "trio": "–"}),
    ("cancel → end, p50", "busy", "cancel_p50", VALUE, " ms", {"": "≤1 / 0.5", "trio": "–"}),
    ("cancel → end, p99", "busy", "cancel_p99", VALUE, " ms", {"": "≤4 / 1.5", "trio": "–"}),
    ("stale tokens", "busy", "stale", VALUE, "", {"": "0"}),
    ("upstream tokens after a stop, most", "busy", "upstream_after_max", VALUE, "", {"": "≤1"}),
    ("message → first new frame, p50, flood of 32", "flood", "frame_p50", VALUE, " ms", {"": "≤10 / 3", "trio": "–"}),
    ("stale tokens, flood", "flood", "stale", VALUE, "", {"": "0"}),
    ("memory, idle connection", "memory", "kb_idle", RATIO, "×", {"": "≤1.0 / 0.8", "ws": "≤0.95 / 0.75"}),
    (
        "memory, streaming, deflate offered",
        "memory deflate",
        "kb_streaming",
        RATIO,
        "×",
        {"": "≤0.8 / 0.55", "ws": "≤0.75 / 0.5"},
    ),
)


def target(targets: dict[str, str], name: str) -> str:
    """Must / goal for that server; nothing for servers that are not ours."""
    if not PEERS[name].ours:
        return ""
    kind = "trio" if name.endswith("-trio") else "ws" if name.startswith("trio-websocket") else ""
    return targets.get(kind, targets[""])


def scorecard(results: dict[str, dict[str, list[Figures]]], names: list[str]) -> str:
    """One row per target, one column per server: what was measured, and `[must / goal]`."""
    middle = {what: medians(rounds) for what, rounds in results.items()}
    rows = []
    for title, what, key, ratio, unit, targets in TARGETS:
        row = [title]
        base = middle.get(what, {}).get(BASELINE, {}).get(key)
        for name in names:
            value = middle.get(what, {}).get(name, {}).get(key)
            if value is not None and ratio and name != BASELINE and base:
                shown = f"{value / base:.2f}{unit}"
            else:
                shown = number(value) + ("" if ratio else unit if value is not None else "")
            wanted = target(targets, name)
            row.append(f"{shown} [{wanted}]" if wanted else shown)
        rows.append(row)
    return markdown(["figure [must / goal]", *(PEERS[name].title for name in names)], rows)


def main() -> None:
    flags = parser(__doc__, rounds=0, servers=())
    flags.add_argument("--long", action="store_true", help="every server, five rounds, longer")
    flags.add_argument("--only", nargs="+", metavar="SCENARIO", help="of the scenarios that are printed")
    options = flags.parse_args()
    peers = choose(options.servers or (PEERS if options.long else SHORT))
    rounds, seconds = (options.rounds or 5, 5.0) if options.long else (options.rounds or 3, 2.0)
    busy = {"probes": 200, "seconds": 3.0, "patience": 12.0}
    scenarios: dict[str, tuple[Measure, int]] = {
        "ready": (partial(throughput.measure, mode="ready", sessions=32, seconds=seconds), rounds),
        "steps": (partial(throughput.measure, mode="steps", sessions=32, seconds=seconds), rounds),
        "paced 1000": (partial(paced.measure, sessions=1000, seconds=2 * seconds), rounds),
        "paced 3000": (partial(paced.measure, sessions=3000, seconds=2 * seconds), max(1, rounds - 2)),
        "busy": (partial(interrupt.measure, sessions=500, flood=False, **busy), max(1, rounds - 1)),
        "flood": (partial(interrupt.measure, sessions=32, flood=True, **busy), max(1, rounds - 2)),
        "memory": (partial(memory.measure, connections=500, deflate=False), max(1, rounds - 2)),
        "memory deflate": (partial(memory.measure, connections=500, deflate=True), max(1, rounds - 2)),
    }
    if options.long:
        for sessions in (100, 300, 1000, 2000, 3000, 5000):
            job = partial(paced.measure, sessions=sessions, seconds=seconds, rate=5.0)
            scenarios[f"scaling {sessions}"] = (job, 2)
        scenarios["accepts"] = (partial(memory.accepts, total=3000), rounds)
    prepare_load(5000 if options.long else 3000)
    begun, results = monotonic(), {}
    for what, (job, times) in scenarios.items():
        if not options.only or what in options.only:
            results[what] = interleaved(peers, times, job, what)
            save(options.json, results)
    for what, rounds_of in results.items():
        print(f"\n### {what}\n\n{comparison(rounds_of, ['tokens_cpu_s', 'cpu_us', 'kb_idle', 'kb_streaming'])}")
    print(f"\n## Targets, ratios to {PEERS[BASELINE].title}\n\n{scorecard(results, [peer.name for peer in peers])}")
    print(f"\n{monotonic() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
