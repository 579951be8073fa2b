"""`effective.py`, through `trialogue config`: every setting, where it comes from, and the same when fed back."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from trialogue_adapters.cli import main, read_settings
from trialogue_adapters.settings import Settings

SECRET = "a-secret-of-the-tests-0123456789abcdef"

Print = Callable[..., str]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Print:
    """`trialogue config` with these flags: what it prints."""
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", *(f"TRIALOGUE_{name.upper()}" for name in Settings.model_fields)):
        monkeypatch.delenv(name, raising=False)

    def run(*flags: str) -> str:
        main(["config", *flags])
        return capsys.readouterr().out

    return run


def line(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.removeprefix("# ").startswith(name))


def test_every_setting_is_there_in_order(config: Print) -> None:
    names = [line.removeprefix("# ").replace(":", " ").split()[0] for line in config().splitlines()]
    assert names == [name for name in Settings.model_fields if name != "config"]


def test_each_tells_its_origin_and_the_strongest_counts(config: Print, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("trialogue.toml").write_text('port = 1\nlinger = 1\npolicy = "reject"\nqueue_size = 1\n')
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("TRIALOGUE_LINGER", "3")
    monkeypatch.setenv("TRIALOGUE_QUEUE_SIZE", "3")
    text = config("--queue-size", "4", "--deflate")
    assert line(text, "host") == 'host = "127.0.0.1"  # default'
    assert line(text, "policy") == 'policy = "reject"  # trialogue.toml'
    assert line(text, "port") == "port = 2  # PORT"
    assert line(text, "linger") == "linger = 3.0  # TRIALOGUE_LINGER"
    assert line(text, "queue_size") == "queue_size = 4  # --queue-size"
    assert line(text, "deflate") == "deflate = true  # --deflate"
    assert line(text, "docs") == "# docs: not set"


def other(name: str) -> str:
    """A value of that setting that is not its default, as a variable has it."""
    field = Settings.model_fields[name]
    choices = [choice for kind in (field.annotation, *get_args(field.annotation)) for choice in literals(kind)]
    if choices:
        return next(choice for choice in choices if choice != field.default)
    if isinstance(field.default, bool):
        return str(not field.default).lower()
    if isinstance(field.default, int | float):
        return str(field.default + 1)
    if field.default == ():
        return "https://a, https://b"
    return "7" if name.endswith("port") else 'it\'s "quoted" \\ and 한국어'


def literals(kind: Any) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


CERTIFICATE = {"certfile": "a", "keyfile": "b"}
MODEL = {"answer": "openai", "llm_url": "http://localhost/v1", "model": "m"}
COMPANY = {
    **dict.fromkeys(CERTIFICATE, CERTIFICATE),
    **dict.fromkeys(("llm_url", "model", "retrieval"), MODEL),
    "workers": {"redis_url": "redis://localhost"},
}
"""What some settings cannot be without."""

ALONE = [name for name in Settings.model_fields if name not in {"config", "ws_token_secret", "llm_api_key"}]


@pytest.mark.parametrize("name", ALONE)
def test_fed_back_it_means_the_same(name: str, config: Print, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {**COMPANY.get(name, {}), name: other(name)}
    for setting, value in given.items():
        monkeypatch.setenv(f"TRIALOGUE_{setting.upper()}", value)
    settings, text = read_settings([]), config()
    assert getattr(settings, name) != Settings.model_fields[name].default
    for setting in given:
        monkeypatch.delenv(f"TRIALOGUE_{setting.upper()}")
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    again = read_settings(["--config", "all.toml"])
    assert again.model_dump(exclude={"config"}) == settings.model_dump(exclude={"config"})


def test_secrets_are_masked_and_are_no_settings_of_the_file(config: Print, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOGUE_WS_TOKEN_SECRET", SECRET)
    monkeypatch.setenv("TRIALOGUE_SERVICE", f"https://user:{SECRET}@host/path")
    text = config()
    assert SECRET not in text
    assert line(text, "ws_token_secret").startswith('# ws_token_secret = "***')
    assert "TRIALOGUE_WS_TOKEN_SECRET" in line(text, "ws_token_secret")
    assert "https://***" in line(text, "service")
    assert not {"ws_token_secret", "service"} & tomllib.loads(text).keys()


@pytest.mark.parametrize(
    ("content", "flags", "named"),
    [
        ("", ["--config", "nowhere.toml"], "nowhere.toml"),
        ("", ["--config", "."], "--config ."),
        ('config = "other.toml"', ["--config", "given.toml"], "config"),
        ("port = ", ["--config", "given.toml"], "value"),
        ("", ["--port", "x"], "--port"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    content: str, flags: list[str], named: str, config: Print, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("given.toml").write_text(content)
    with pytest.raises(SystemExit) as left:
        config(*flags)
    assert left.value.code == 2
    said = capsys.readouterr()
    assert named in said.err.lower()
    assert (said.out, said.err.count("\n")) == ("", 1)
