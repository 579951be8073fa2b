"""The configuration page lists what `Settings` has: no more, no less, with its names, defaults and choices."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from trialogue_adapters.cli import read_settings
from trialogue_adapters.settings import CONFIG_VARIABLE, DEFAULT_CONFIG, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `--([a-z-]+)` \| `(TRIALOGUE_[A-Z_]+)` \| (\S+) \| (.+) \|$", re.MULTILINE)
ROWS = {flag: (variable, default, meaning) for flag, variable, default, meaning in ROW.findall(PAGE)}


def shown(default: Any) -> str:
    """A default as the page writes it."""
    if default in (None, ()):
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(member.value) for member in annotation)
    return ()


def test_the_page_lists_every_setting_and_no_other_in_order() -> None:
    assert list(ROWS) == [name.replace("_", "-") for name in Settings.model_fields]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_row_is_true(name: str) -> None:
    field = Settings.model_fields[name]
    variable, default, meaning = ROWS[name.replace("_", "-")]
    assert variable == f"TRIALOGUE_{name.upper()}"
    assert default == shown(field.default)
    for choice in choices(field.annotation):
        assert f"`{choice}`" in f"{default} {meaning}"
    assert ("0: no limit" in meaning) is ("0: no limit" in (field.description or ""))


def test_no_other_variable_is_told() -> None:
    told = set(re.findall(r"TRIALOGUE_[A-Z_]+", PAGE))
    assert told == {variable for variable, _, _ in ROWS.values()}
    assert f"`{DEFAULT_CONFIG}`" in PAGE


def test_precedence_is_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORT", raising=False)
    for variable, _, _ in ROWS.values():
        monkeypatch.delenv(variable, raising=False)

    assert read_settings([]).port == Settings.model_fields["port"].default
    file.write_text("port = 1\n")
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert read_settings([]).port == 1
    monkeypatch.setenv("PORT", "2")
    assert read_settings([]).port == 2
    monkeypatch.setenv("TRIALOGUE_PORT", "3")
    assert read_settings([]).port == 3
    assert read_settings(["--port", "4"]).port == 4


@pytest.mark.parametrize("text", ["no_such_setting = 1\n", 'queue_size = "many"\n'])
def test_a_wrong_file_is_an_error(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / DEFAULT_CONFIG).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    with pytest.raises(SystemExit) as left:
        read_settings([])
    assert left.value.code == 2
    assert text.split()[0] in capsys.readouterr().err.replace("-", "_")


def test_a_missing_file_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "nowhere.toml"))
    read_settings([])
