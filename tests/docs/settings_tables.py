"""The settings' tables, written from `Settings`: its fields, their descriptions, and the docstrings below them.

The configuration page holds them; `pytest tests/docs/test_configuration.py -n 0 --write-settings` writes them there.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from support.pages import DOCS, WrittenPart
from trialogue_adapters import settings
from trialogue_adapters.settings import Settings

WRITTEN = WrittenPart(
    DOCS / "configuration.md", "<!-- settings: written from the code -->\n", "<!-- end of the settings -->\n"
)

TOPICS = {
    "config": "Where it listens",
    "service": "The service",
    "policy": "Turns and sessions",
    "log_bytes": "Limits",
    "allow_origin": "Who is let in",
    "redis_url": "Many nodes",
    "certfile": "TLS, compression, hardening",
    "log_format": "Logs and traces",
}
"""The headings, each before the field of that name. A new field belongs to the topic in which it stands."""

BARE = re.compile(r"(?<![`\w(/])(--[a-z][a-z-]+|/[a-z-]+)(?![`\w])")
"""In a line of `--help`: a flag or a path, which the page shows as code."""


def variable(name: str) -> str:
    return f"TRIALOGUE_{name.upper()}"


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def shown(default: Any) -> str:
    """A default as the page writes it."""
    if default in (None, ()):
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def choices(annotation: Any) -> tuple[str, ...]:
    """The words that a setting may be, if there are only some."""
    found = [part for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal]
    return get_args(found[0]) if found else ()


def docstrings() -> dict[str, str]:
    """The text below each field that has one, as one line."""
    [body] = (
        node.body
        for node in ast.parse(inspect.getsource(settings)).body
        if isinstance(node, ast.ClassDef) and node.name == Settings.__name__
    )
    found: dict[str, str] = {}
    for above, below in pairwise(body):
        match above, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def meaning(name: str, more: str) -> str:
    """What the page says of a setting: the line of `--help`, the docstring, and choices that neither names."""
    field = Settings.model_fields[name]
    said = BARE.sub(r"`\1`", field.description or "")
    words = choices(field.annotation)
    explained = all(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", f"{said} {more}") for word in words)
    listed = "" if explained else "One of " + ", ".join(f"`{word}`" for word in words) + "."
    return " ".join(filter(None, (said, listed, more)))


def tables() -> str:
    """Markdown: a heading and a table for each topic."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    more = docstrings()
    for name, field in Settings.model_fields.items():
        if name in TOPICS:
            yield f"\n### {TOPICS[name]}\n\n| flag, variable | default | meaning |\n|---|---|---|\n"
        told = meaning(name, more.get(name, ""))
        yield f"| `{flag(name)}` `{variable(name)}` | {shown(field.default)} | {told} |\n"
    yield "\n"
