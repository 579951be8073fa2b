"""What a run says: a Markdown table, and a JSON file with the machine, the versions and every round."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.catalog import BASELINE, PEERS
from common.rounds import Figures, medians

PACKAGES = (
    *("trialogue", "trio", "hypercorn", "trio-websocket", "wsproto", "pydantic", "uvloop"),
    *("uvicorn", "websockets", "fastapi", "starlette", "python-socketio", "picows", "hdrhistogram"),
)


def parser(doc: str | None, *, rounds: int, servers: Sequence[str]) -> argparse.ArgumentParser:
    """Flags that every script has; the script's docstring is its help."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--servers", nargs="+", default=list(servers), metavar="NAME", help=f"of: {', '.join(PEERS)}")
    made.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds (%(default)s)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    return made


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    cpu = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "?")
    memory = next((line.partition(":")[2].strip() for line in _lines("/proc/meminfo") if "MemTotal" in line), "?")
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory": memory,
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "node": _node(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "command": " ".join(sys.argv),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _node() -> str | None:
    if not shutil.which("node"):
        return None
    return subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned for people who read it as it is."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def comparison(results: dict[str, list[Figures]], ratio_of: Sequence[str] = ()) -> str:
    """All figures of all servers, medians; those in `ratio_of` also as a ratio to the baseline's."""
    middle = medians(results)
    keys = list(dict.fromkeys(key for figures in middle.values() for key in figures))
    base = middle.get(BASELINE, {})
    rows = []
    for name, figures in middle.items():
        row = [PEERS[name].title]
        for key in keys:
            cell = number(figures.get(key))
            if key in ratio_of and base.get(key) and key in figures:
                cell += f" ({figures[key] / base[key]:.2f}×)"
            row.append(cell)
        rows.append(row)
    return markdown(["server", *keys], rows)


def save(path: Path | None, results: dict[str, Any]) -> None:
    """Write the JSON file: machine, versions, and each scenario's rounds."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine(), "results": results}, indent=1, ensure_ascii=False) + "\n")
        print(f"written: {path}", file=sys.stderr)
