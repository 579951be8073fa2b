"""Plots, as SVG: `plot.py RESULT.json FOLDER` draws what a JSON file of the other scripts holds.

throughput (bars), CPU per paced token (bars), interruption (bars, logarithmic), memory (bars), and the scaling series
(lines) — whatever of these the file has.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from common.catalog import BASELINE, PEERS
from common.rounds import Figures, medians

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "trialogue"  # the same numbers make the same file
import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen before

Middle = dict[str, dict[str, Figures]]
BARS = (
    # file · title · axis · scenario prefixes · key · logarithmic?
    (
        "throughput",
        "Tokens per second of CPU",
        "tokens/s/core",
        ("throughput ready", "throughput steps", "ready", "steps"),
        "tokens_cpu_s",
        False,
    ),
    ("paced", "CPU per token, 26.7 tokens/s per session", "µs", ("paced",), "cpu_us", False),
    ("interrupt", "Message → first new frame, p99", "ms", ("interrupt", "busy", "flood"), "frame_p99", True),
    ("memory", "Memory per streaming connection", "KB", ("memory",), "kb_streaming", False),
)
LINES = (
    ("cpu_us", "CPU per token", "µs"),
    ("late_p99", "Lateness, p99", "ms"),
    ("kb_session", "Memory per session", "KB"),
)


def colour(name: str) -> str:
    return "0.45" if name == BASELINE else f"C{list(PEERS).index(name)}"


def bars(middle: Middle, file: Path, title: str, axis: str, prefixes: tuple[str, ...], key: str, *, log: bool) -> bool:
    """One group of bars per scenario, one bar per server."""
    whats = [what for what in middle if what.startswith(prefixes) and any(key in row for row in middle[what].values())]
    if not whats:
        return False
    names = [name for name in PEERS if any(key in middle[what].get(name, {}) for what in whats)]
    figure, axes = plt.subplots(figsize=(1.5 + 0.35 * len(names) * len(whats) + 3, 4), layout="constrained")
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        values = [middle[what].get(name, {}).get(key, 0) for what in whats]
        spots = [group + (place - len(names) / 2 + 0.5) * width for group in range(len(whats))]
        axes.bar(spots, values, width, label=PEERS[name].title, color=colour(name))
    axes.set(title=title, ylabel=axis, yscale="log" if log else "linear", xticks=range(len(whats)))
    axes.set_xticklabels(whats)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize="small")
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return True


def lines(middle: Middle, file: Path) -> bool:
    """The scaling series: one panel per figure, one line per server, sessions along the logarithmic x axis."""
    series = {int(what.split()[1]): middle[what] for what in middle if what.startswith("scaling")}
    if not series:
        return False
    figure, panels = plt.subplots(1, len(LINES), figsize=(12, 3.6), layout="constrained")
    names = [name for name in PEERS if any(name in row for row in series.values())]
    for axes, (key, title, unit) in zip(panels, LINES, strict=True):
        for name in names:
            points = [(size, row[name][key]) for size, row in sorted(series.items()) if key in row.get(name, {})]
            axes.plot(*zip(*points, strict=True), marker="o", label=PEERS[name].title, color=colour(name))
        axes.set(title=title, ylabel=unit, xlabel="sessions", xscale="log", yscale="log" if unit == "ms" else "linear")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return True


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("result", type=Path, nargs="+", help="JSON files of the other scripts")
    flags.add_argument("folder", type=Path, help="where the SVG files go")
    options = flags.parse_args()
    results: dict[str, Any] = {}
    for path in options.result:
        results |= json.loads(path.read_text())["results"]
    middle = {what: medians(rounds) for what, rounds in results.items()}
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, title, axis, prefixes, key, log in BARS:
        if bars(middle, options.folder / f"{name}.svg", title, axis, prefixes, key, log=log):
            print(options.folder / f"{name}.svg")
    if lines(middle, options.folder / "scaling.svg"):
        print(options.folder / "scaling.svg")


if __name__ == "__main__":
    main()
