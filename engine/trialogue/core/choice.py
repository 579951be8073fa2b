"""Which dialect a connection speaks, by its name."""

from __future__ import annotations

from collections.abc import Mapping

from trialogue.core.dialects import Dialect, DialectName, SeedDialect, V1Dialect
from trialogue.core.errors import Lang
from trialogue.core.onerag import OneRagDialect

_DIALECTS: Mapping[DialectName, type[Dialect]] = {
    "seed": SeedDialect,
    "trialogue.v1": V1Dialect,
    "onerag": OneRagDialect,
}


def dialect_for(name: DialectName, lang: Lang) -> Dialect:
    """A new connection's translator."""
    return _DIALECTS[name](lang)
