"""The effective settings as TOML, each with where it comes from: what `trialogue config` prints.

It can be fed back with `--config` and means the same then, but for secrets, which are masked and commented out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from trialogue_adapters.settings import DEFAULT_CONFIG, FOREIGN, Settings, from_environment, from_file, from_foreign

CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]+(?=@)")
"""Of a URL: `user:password`."""

MASK = "**********"


def effective(settings: Settings, flags: Mapping[str, Any]) -> Iterator[str]:
    """The lines. `flags`: what the command line gave, by the settings' names."""
    origins = _origins(settings, flags)
    for name in type(settings).model_fields:
        if name == "config":  # a file cannot name another
            continue
        value, origin = getattr(settings, name), origins.get(name, "default")
        if value is None:
            yield f"# {name}: not set"
        elif masked := _masked(value):
            yield f"# {name} = {_toml(masked)}  # {origin}; masked: it has to be given again"
        else:
            yield f"{name} = {_toml(value)}  # {origin}"


def _origins(settings: Settings, flags: Mapping[str, Any]) -> dict[str, str]:
    """By the settings' names, for those that somebody gave. What counts most comes last."""
    file = str(settings.config or DEFAULT_CONFIG)
    return {
        **dict.fromkeys(from_file(settings.config), file),
        **{name: FOREIGN[name] for name in from_foreign()},
        **{name: f"TRIALOGUE_{name.upper()}" for name in from_environment()},
        **{name: f"--{name.replace('_', '-')}" for name in flags},
    }


def _masked(value: Any) -> str | None:
    """What to show in place of a value that holds a secret; None if it holds none."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, str) and CREDENTIALS.search(value):
        return CREDENTIALS.sub(MASK, value)
    return None


def _toml(value: Any) -> str:
    """A JSON string, number, boolean or array of these is TOML, too."""
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value], ensure_ascii=False)
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
