"""The configuration page's tables are written from `Settings`, and what it tells of files and precedence is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.settings_tables import (
    TOPICS,
    WRITTEN,
    choices,
    docstrings,
    meaning,
    shown,
    tables,
    variable,
)
from trialogue_adapters.cli import read_settings
from trialogue_adapters.settings import CONFIG_VARIABLE, DEFAULT_CONFIG, Settings


def test_the_tables_are_written_from_the_code(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--write-settings"):
        WRITTEN.commit(tables())
    assert WRITTEN.committed() == tables(), "write them: pytest tests/docs/test_configuration.py -n 0 --write-settings"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_told_in_sentences(name: str) -> None:
    """Two or three, that do not say the same twice; a cell of a table has no pipe and no line's end."""
    field, more = Settings.model_fields[name], docstrings().get(name, "")
    assert field.description, "its line in --help"
    assert len(field.description) < 120, "the line in --help is short; more goes into the docstring below the field"
    told = meaning(name, more)
    assert told[0] in "`(" or told[0].isupper()
    assert told.endswith(".")
    assert "|" not in told
    for word in choices(field.annotation):
        assert word in f"{shown(field.default)} {told}"


def test_every_topic_is_somewhere() -> None:
    assert set(TOPICS) <= set(Settings.model_fields)


def test_no_other_variable_is_told() -> None:
    page = WRITTEN.page.read_text(encoding="utf-8")
    assert set(re.findall(r"TRIALOGUE_[A-Z_]+", page)) == set(map(variable, Settings.model_fields))
    assert f"`{DEFAULT_CONFIG}`" in page


def test_precedence_is_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORT", raising=False)
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)

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
