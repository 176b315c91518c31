"""The demo's words in two languages."""

from __future__ import annotations

import ast
from pathlib import Path
from string import Formatter

import pytest

from cpa.demo import words
from cpa.demo.words import GERMAN, said


@pytest.mark.parametrize("english", GERMAN)
def test_both_languages_fill_in_the_same(english: str) -> None:
    places = [
        {name for _, name, _, _ in Formatter().parse(text) if name} for text in (english, GERMAN[english])
    ]

    assert places[0] == places[1]


def test_the_language_is_german_where_that_is_wanted() -> None:
    assert said("de", "process {process}", process=7) == "Prozess 7"
    assert said("en", "process {process}", process=7) == "process 7"


def test_nothing_is_kept_that_nobody_says() -> None:
    code = [
        file.read_text("utf-8")
        for file in Path(words.__file__).parent.glob("*.py")
        if file.name != "words.py"
    ]
    texts = {
        node.value for text in code for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)
    }

    assert sorted(each for each in GERMAN if each not in texts) == []
