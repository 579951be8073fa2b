"""The terminal's own texts: both languages say everything."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_args

import pytest

from trialogue_adapters.client import Ending, Phase
from trialogue_adapters.terminal.words import ENGLISH, KOREAN, Words, language_of


@pytest.mark.parametrize("words", [ENGLISH, KOREAN])
def test_everything_has_a_word(words: Words) -> None:
    assert set(words.phases) == set(get_args(Phase))
    assert set(words.endings) == set(get_args(Ending)) - {"stop", "failed", "rejected"} | {"incomplete"}


def test_both_are_told_the_same() -> None:
    for field in fields(Words):
        english, korean = str(getattr(ENGLISH, field.name)), str(getattr(KOREAN, field.name))
        assert re.findall(r"{\w+}", english) == re.findall(r"{\w+}", korean), field.name
        assert english != korean


@pytest.mark.parametrize(
    ("environment", "lang"),
    [
        ({}, "en"),
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "", "LANG": "ko"}, "ko"),
    ],
)
def test_the_environment_s_language(environment: dict[str, str], lang: str) -> None:
    assert language_of(environment) == lang
