"""The design page draws a turn's life as the machine has it, and tells every file, in the order of the imports."""

from __future__ import annotations

import re
import tomllib
from itertools import chain

import pytest

from docs.drawing import DRAWN, PHASES, drawing, edges
from support.pages import DOCS, ROOT, rows

NOT_TOLD = {"__main__"}


def test_the_drawing_is_the_machines(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--write-drawing"):
        DRAWN.commit(drawing())
    assert DRAWN.committed() == drawing(), "draw it: pytest tests/docs/test_design.py -n 0 --write-drawing"


def test_a_turn_never_goes_back() -> None:
    assert all(PHASES.index(start) < PHASES.index(end) for start, end in edges())


def layers(root: str) -> list[set[str]]:
    """The floors of the import contract, from above."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [floors] = [contract["layers"] for contract in contracts if contract.get("containers") == [root]]
    return [set(floor.split(" | ")) for floor in floors]


def told(heading: str) -> list[str]:
    """The modules that the first cells of a table name."""
    cells = " ".join(row[0] for row in rows(DOCS / "design.md", heading))
    return [name.removesuffix(".py").removesuffix("/") for name in re.findall(r"`([^`]+)`", cells)]


def test_the_engine_s_files_are_told_from_above() -> None:
    floors, names = layers("trialogue"), told("## Where things are")
    assert sorted(names) == sorted(chain.from_iterable(floors))
    heights = [next(height for height, floor in enumerate(floors) if name in floor) for name in names]
    assert heights == sorted(heights)


def test_the_adapters_are_told() -> None:
    names = told("Beside the engine, in `adapters/trialogue_adapters`:")
    assert set(names) == set(chain.from_iterable(layers("trialogue_adapters"))) - NOT_TOLD
