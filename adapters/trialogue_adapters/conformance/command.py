"""`trialogue conformance`: the arguments, the run, the verdict.

Exit codes: 0, all holds; 1, something does not; 2, it was not asked as it can be. It must never trust what it asks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import trio

from trialogue_adapters.conformance import server_checks, v1_checks
from trialogue_adapters.conformance.client_scenes import SCENES, Scene, judge_client
from trialogue_adapters.conformance.link import Target
from trialogue_adapters.conformance.report import Failed, Finding, as_json, as_tap
from trialogue_adapters.conformance.server_checks import Check
from trialogue_adapters.servers.guard import first_cause

CHECKS: Sequence[Check] = (*server_checks.CHECKS, *v1_checks.CHECKS)

ABOUT = """\
Does a server, or a client, speak this protocol?

A server is asked at its URL. Behind it must stand a service that answers `tokens=5 pace=0.01` with one source and five
tokens, `t0 ` to `t4 `, 0.01 s after each; `fail=1` makes it raise after them. Our own:
  trialogue serve --service trialogue_adapters.conformance.service:stream

A client is asked by --serve: it connects to the address that is printed, says `start`, and from then on, whenever an
answer has ended, says what it has seen of it: {"text": …, "ending": the finish_reason or the error_code}, as JSON.
"""


def main(words: Sequence[str]) -> int:
    """Run the command. Returns its exit code; argparse leaves with 2 by itself."""
    parser = _parser()
    asked = parser.parse_args(words)
    if asked.list:
        named: Sequence[Check | Scene] = (*CHECKS, *SCENES)
        _say("\n".join(f"{one.name}: {one.demands}" for one in named))
        return 0
    if asked.serve is (asked.url is not None):
        parser.error("either the URL of a server, or --serve")
    unknown = set(asked.only) - {check.name for check in (SCENES if asked.serve else CHECKS)}
    if unknown:
        parser.error(f"--only: there is no check {', '.join(sorted(unknown))} (--list tells)")
    if asked.serve:
        play = partial(judge_client, asked.port, asked.patience, asked.only, lambda url: _say(f"listening on {url}"))
        findings = trio.run(play)
    else:
        try:
            target = Target.at(asked.url, asked.patience, [_header(text) for text in asked.header])
        except ValueError as error:
            parser.error(str(error))
        checks = [check for check in CHECKS if not asked.only or check.name in asked.only]
        findings = trio.run(check_server, target, checks)
    _say((as_json if asked.json else as_tap)(findings))
    return int(any(finding.failure for finding in findings))


async def check_server(target: Target, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Run the checks one after the other. Whatever one of them meets is its own failure."""
    findings = []
    for check in checks:
        failure = None
        try:
            await check.run(target)
        except Exception as error:  # noqa: BLE001 - a server that is wrong can make anything happen here
            cause = first_cause(error)
            failure = str(cause) if isinstance(cause, Failed) else f"{type(cause).__name__}: {cause}"
        findings.append(Finding(check.name, check.demands, failure))
    return findings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "trialogue conformance", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", help="of the server: ws://HOST:PORT, with a path if it is not /chat-ws")
    parser.add_argument("--serve", action="store_true", help="be a server, and judge the client that comes")
    parser.add_argument("--port", type=int, default=0, help="for --serve; 0 (the default) is any free one")
    parser.add_argument("--header", action="append", default=[], help="NAME:VALUE to show the server; may be repeated")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="that check alone; may be repeated")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds to wait for anything (default 5)")
    parser.add_argument("--json", action="store_true", help="the report as JSON; else it is TAP")
    parser.add_argument("--list", action="store_true", help="name the checks, and what each demands")
    return parser


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"--header {text}: must be NAME:VALUE")
    return name.strip().encode(), value.strip().encode()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
