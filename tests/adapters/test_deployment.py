"""`deployment.py`: from settings to a gate, and what an operator is told of settings that make none."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.auth import SECRET, token, write_files
from trialogue_adapters.auth import Caller, Denied, Grant, Misconfigured
from trialogue_adapters.cli import read_settings
from trialogue_adapters.deployment import make_gate, make_store, with_one_secret
from trialogue_adapters.settings import Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TRIALOGUE_{name.upper()}", raising=False)
    write_files(tmp_path)
    (tmp_path / "empty").write_text("")
    (tmp_path / "broken").write_text("alice:key-of-alice\nbob:two words\n")


WRONG: list[tuple[tuple[str, ...], str]] = [
    (("--api-key-file", "nowhere"), "nowhere"),
    (("--api-key-file", "empty"), "no key"),
    (("--api-key-file", "broken"), "line 2"),
    (("--auth", "jwt"), "--jwt-key-file"),
    (("--auth", "jwt", "--jwt-key-file", "nowhere"), "nowhere"),
    (("--auth", "jwt", "--jwt-key-file", "empty"), "HS256"),
    (("--auth", "jwt", "--jwt-key-file", "secret", "--jwt-algorithm", "RS256"), "RS256"),
    (("--auth", "jwt", "--jwt-key-file", "secret", "--jwt-algorithm", "none"), "jwt-algorithm"),
    (("--auth", "jwt", "--jwt-key-file", "secret", "--api-key-file", "keys"), "one of them"),
    (("--auth", "basic"), "auth"),
    (("--ws-token-secret", "short"), "32"),
    (("--ws-token-secret-file", "empty"), "32"),
    (("--ws-token-secret-file", "nowhere"), "nowhere"),
    (("--ws-token-secret-file", "secret", "--ws-token-secret", SECRET), "one of them"),
    (("--allow-origin", "app.example"), "app.example"),
    (("--ws-token-ttl", "0"), "ws-token-ttl"),
]


@pytest.mark.parametrize(("flags", "named"), WRONG, ids=[" ".join(flags) for flags, _ in WRONG])
def test_a_wrong_set_up_is_named_and_shows_no_secret(
    flags: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        make_gate(read_settings(flags))
        said = ""
    except Misconfigured as error:
        said = str(error)
    except SystemExit:
        said = capsys.readouterr().err
    assert named in said
    assert "\n" not in said.rstrip()
    for secret in ("words", "short", "key-of-alice", SECRET):
        assert secret not in said


def test_without_settings_the_gate_is_open() -> None:
    assert make_gate(read_settings([])).admit(Caller(), "s") == Grant("")


def test_a_secret_comes_from_a_file_or_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["--api-key-file", "keys"]
    monkeypatch.setenv("TRIALOGUE_WS_TOKEN_SECRET", SECRET)
    assert make_gate(read_settings(keys)).admit(Caller(), "s", token("s")).principal == "alice"
    monkeypatch.delenv("TRIALOGUE_WS_TOKEN_SECRET")
    gate = make_gate(read_settings([*keys, "--ws-token-secret-file", "secret", "--ws-token-ttl", "7"]))
    assert gate.admit(Caller(), "s", token("s")).principal == "alice"
    assert gate.mint(Grant("alice"), "s")[1] == pytest.approx(gate.now() + 7, abs=2)
    with pytest.raises(Denied):
        make_gate(read_settings(keys)).admit(Caller(), "s", token("s"))


def test_several_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ("https://a.example", "https://b.example")
    assert read_settings(["--allow-origin", listed[0], "--allow-origin", listed[1]]).allow_origin == listed
    monkeypatch.setenv("TRIALOGUE_ALLOW_ORIGIN", ", ".join(listed))
    assert read_settings([]).allow_origin == listed
    Path("trialogue.toml").write_text(f"allow_origin = {list(listed)}")
    monkeypatch.delenv("TRIALOGUE_ALLOW_ORIGIN")
    assert read_settings([]).allow_origin == listed


WRONG_STORES = [
    (("--redis-url", "http://store"), "must begin with redis://"),
    (("--redis-url", "redis://store/x"), "a number"),
]


@pytest.mark.parametrize(("flags", "words"), WRONG_STORES)
def test_a_url_that_names_no_store_is_told(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(Misconfigured, match=f"--redis-url: .*{words}"):
        make_store(read_settings(list(flags)))


def test_without_a_url_there_is_no_store() -> None:
    assert make_store(read_settings([])) is None


def test_the_platforms_variable_counts_behind_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://platform")
    assert read_settings([]).redis_url == "redis://platform"
    monkeypatch.setenv("TRIALOGUE_REDIS_URL", "redis://ours")
    assert read_settings([]).redis_url == "redis://ours"


def test_workers_need_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        read_settings(["--workers", "2"])
    assert left.value.code == 2
    assert "--workers 2 needs --redis-url" in capsys.readouterr().err
    assert read_settings(["--workers", "2", "--redis-url", "redis://store"]).workers == 2


def test_a_session_in_a_store_lives_for_two_seconds_at_least(capsys: pytest.CaptureFixture[str]) -> None:
    """Else its stream expires in mid-answer: its owner says once a second that it lives."""
    with pytest.raises(SystemExit):
        read_settings(["--redis-url", "redis://store", "--session-ttl", "1.9"])
    assert "--session-ttl 1.9 is too short with --redis-url: 2 or more" in capsys.readouterr().err


def test_several_processes_have_one_secret() -> None:
    settings = read_settings([])
    made = with_one_secret(settings).ws_token_secret
    assert made
    assert len(made.get_secret_value()) == 64
    given = read_settings(["--ws-token-secret", "x" * 32])
    assert with_one_secret(given) is given
