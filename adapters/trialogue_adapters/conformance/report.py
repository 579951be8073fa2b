"""What was found, for a person, a TAP reader or a program; and how a check says that something is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


class Failed(Exception):
    """Something is not as the protocol has it; the message says what came and what was wanted."""


def demand(condition: object, otherwise: str) -> None:
    """Raises Failed."""
    if not condition:
        raise Failed(otherwise)


def demand_equal(found: object, wanted: object, what: str) -> None:
    """Raises Failed naming both."""
    demand(found == wanted, f"{what}: {found!r}, not {wanted!r}")


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one check. `demands`: what it holds its object to; `failure`: None if that was so."""

    name: str
    demands: str
    failure: str | None = None


def as_tap(findings: Sequence[Finding]) -> str:
    """TAP 14, with the failure as a YAML block."""
    lines = ["TAP version 14", f"1..{len(findings)}"]
    for number, finding in enumerate(findings, 1):
        verdict = "not ok" if finding.failure else "ok"
        lines.append(f"{verdict} {number} - {finding.name}: {finding.demands}")
        if finding.failure:
            lines += ["  ---", f"  message: {json.dumps(finding.failure, ensure_ascii=False)}", "  ..."]
    failed = sum(finding.failure is not None for finding in findings)
    lines.append(f"# {len(findings) - failed} hold, {failed} do not")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    failed = sum(finding.failure is not None for finding in findings)
    body = {"held": len(findings) - failed, "failed": failed, "checks": [asdict(finding) for finding in findings]}
    return json.dumps(body, ensure_ascii=False, indent=2)
