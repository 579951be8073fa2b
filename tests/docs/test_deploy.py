"""The deployment page: its unit and its manifest are good ones, and its numbers are the code's.

What it says about nginx is tried out by `tests/adapters/test_behind_nginx.py`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from support.auth import ALICE, write_files
from support.nginx import filled
from support.pages import DOCS, rows, texts
from support.raw_client import Refused, open_client, open_wire, request
from support.server import Server, running
from trialogue import Limits
from trialogue_adapters.servers.frames import MAX_CONTROLS, MAX_FRAGMENTS
from trialogue_adapters.servers.guard import HANDSHAKE_SECONDS
from trialogue_adapters.servers.handshake import MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES
from trialogue_adapters.settings import Settings
from trialogue_adapters.tuning import SPARE_DESCRIPTORS

PAGE = DOCS / "deploy.md"
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
LEAVING = DEFAULTS["drain_timeout"] + 1
"""Seconds after SIGTERM in which the process has gone."""


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────────────

(UNIT,) = texts("deploy.md", "ini")
INSTALLED = "/opt/trialogue/bin/trialogue"


def directives() -> dict[str, list[str]]:
    """The [Service] section: name to values."""
    found: dict[str, list[str]] = {}
    section = UNIT.partition("[Service]\n")[2].partition("\n[Install]")[0]
    for line in filter(None, section.splitlines()):
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


def test_the_unit_leaves_time_to_drain_and_room_for_connections() -> None:
    service = directives()
    assert int(service["TimeoutStopSec"][0]) > LEAVING
    assert int(service["LimitNOFILE"][0]) >= DEFAULTS["max_connections"] + SPARE_DESCRIPTORS
    assert service["KillSignal"] == ["SIGTERM"]


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a command that is there."""
    command = tmp_path / "trialogue"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    path = tmp_path / "trialogue.service"
    path.write_text(filled(UNIT, {INSTALLED: str(command)}))
    return path


def analyzed(*arguments: object) -> str:
    """What systemd-analyze says; it must have nothing against it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_systemd_takes_the_unit(unit: Path) -> None:
    assert analyzed("verify", "--man=no", "--recursive-errors=no", unit) == ""


def test_the_unit_is_as_locked_up_as_systemd_can_tell(unit: Path) -> None:
    """Exposure of at most 2.0 of 10; without any of the directives it is 9.6, which systemd calls unsafe."""
    analyzed("security", "--offline=true", "--threshold=20", unit)


async def test_the_unit_s_command_serves_with_its_keys_and_leaves_with_0(tmp_path: Path) -> None:
    service = directives()
    assert service["LoadCredential"] == ["keys:/etc/trialogue/keys", "secret:/etc/trialogue/secret"]
    write_files(tmp_path)  # as systemd would, into the folder that %d is
    variables = dict(line.replace("%d", str(tmp_path)).split("=", 1) for line in service["Environment"])
    command, *words = shlex.split(service["ExecStart"][0])
    assert command == INSTALLED
    with running(tmp_path, "hypercorn", flags(words), variables=variables) as server:
        await only_alice_gets_in(server)
        server.signal(getattr(signal, service["KillSignal"][0]))
        assert await server.exit_code() == 0


def flags(words: Sequence[str]) -> list[str]:
    """The flags of `trialogue serve` in a command, but for the service and the port, which are the test's."""
    assert words[0] == "serve"
    pairs = list(zip(words[1::2], words[2::2], strict=True))
    return [word for pair in pairs if pair[0] not in ("--service", "--port") for word in pair]


async def only_alice_gets_in(server: Server) -> None:
    with pytest.raises(Refused) as refused:
        async with open_client(server):
            pass
    assert refused.value.status == 401
    async with open_client(server, headers=ALICE) as client:
        await client.turn(await client.say())


# ── Kubernetes ───────────────────────────────────────────────────────────────────────────────────────────────────

(MANIFEST,) = texts("deploy.md", "yaml")
DEPLOYMENT, SERVICE = yaml.safe_load_all(MANIFEST)
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PLAIN = dict.fromkeys(["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])


def test_the_parts_of_the_manifest_belong_together() -> None:
    assert (DEPLOYMENT["kind"], SERVICE["kind"]) == ("Deployment", "Service")
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels == SERVICE["spec"]["selector"]
    (port,) = CONTAINER["ports"]
    assert SERVICE["spec"]["ports"][0]["targetPort"] == port["name"]
    assert str(port["containerPort"]) == CONTAINER["args"][CONTAINER["args"].index("--port") + 1]
    probes = [CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [probe["port"] for probe in probes] == [port["name"]] * 3
    (mount,) = CONTAINER["volumeMounts"]
    assert mount["name"] == POD["volumes"][0]["name"]
    assert all(path.startswith(mount["mountPath"]) for path in paths(variables()))


def variables() -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in CONTAINER["env"]}


def paths(found: Mapping[str, str]) -> list[str]:
    return [value for name, value in found.items() if name.endswith("_FILE")]


def test_a_pod_has_the_time_to_sleep_and_to_drain() -> None:
    sleep, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    assert POD["terminationGracePeriodSeconds"] > int(seconds) + LEAVING


def test_there_is_memory_for_what_logs_may_take() -> None:
    logs = DEFAULTS["log_bytes_in_all"] + 2 * DEFAULTS["max_generations"] * DEFAULTS["max_answer_bytes"]
    assert 2.9 < logs / (1 << 30) < 3, "3 GiB, as the page says"
    for limit in (CONTAINER["resources"]["limits"]["memory"].removesuffix("i"), directives()["MemoryMax"][0]):
        assert limit.endswith("G")
        assert int(limit[:-1]) << 30 > logs


async def test_the_container_s_command_answers_its_probes_and_serves(tmp_path: Path) -> None:
    write_files(tmp_path)
    mounted = CONTAINER["volumeMounts"][0]["mountPath"]
    given = {name: value.replace(mounted, str(tmp_path)) for name, value in variables().items()}
    command, *words = CONTAINER["args"]
    assert command == "trialogue"
    with running(tmp_path, "hypercorn", flags(words), variables=given) as server:
        server.host = "127.0.0.1"  # it listens on all addresses, as a pod must
        for kind in ("startup", "liveness", "readiness"):
            assert await status(server, CONTAINER[f"{kind}Probe"]["httpGet"]["path"]) == 200
        await only_alice_gets_in(server)


async def status(server: Server, path: str) -> int:
    async with open_wire(server) as wire:
        await wire.send(request(path, PLAIN))
        return (await wire.answer()).status


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────────────────────

CODES = re.compile(r"WS-\d{3}|RAG-\d{3}|HTTP \d{3}|\b(?:1008|1009|4000)\b")
LIMITS = rows(PAGE, "## Limits and what they protect")
MORE = {"heartbeat", "drain_timeout", "ws_token_ttl"}
"""Limits that are not the engine's."""
FIXED = (
    "max_frame_bytes",
    "max_content_chars",
    "max_replies",
    "stall_timeout",
    "window",
    "hook_timeout",
    "remembered_ids",
)
"""Limits that no flag sets."""
LISTENERS = (HANDSHAKE_SECONDS, MAX_TARGET_BYTES, MAX_HEADERS, MAX_HEAD_BYTES, MAX_FRAGMENTS, MAX_CONTROLS)
"""The limits of the listeners, in the table's order."""


def test_the_table_has_every_limit_and_no_other() -> None:
    named = [cells[0].strip("|` -").replace("-", "_") for cells in LIMITS]
    assert len(named) == len(set(named))
    assert set(named) == set(Limits.__dataclass_fields__) - set(FIXED) | MORE


@pytest.mark.parametrize("cells", LIMITS, ids=lambda cells: cells[0].strip("|` "))
def test_a_limit_is_as_told(cells: list[str]) -> None:
    flag, default, one_more, protects = cells[0].strip("| "), cells[1], cells[2], cells[3]
    assert float(default.strip("`")) == DEFAULTS[flag.strip("`-").replace("-", "_")]
    configured = (DOCS / "configuration.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| {flag} .*$", configured, re.MULTILINE)
    assert row
    assert set(CODES.findall(row[0])) <= set(CODES.findall(f"{one_more} {protects}"))


def test_the_fixed_limits_are_the_code_s() -> None:
    table = rows(PAGE, "These are fixed:")
    fixed = [*LISTENERS, *(getattr(Limits(), name) for name in FIXED)]
    assert [float(cells[1].strip("`")) for cells in table] == fixed
