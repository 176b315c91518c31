"""docs/lam.md: every example is a message, every type is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cpa.core.lam_protocol import TYPES, BaseMessage, parse

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "lam.md").read_text("utf-8")
MESSAGES = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("text", MESSAGES)
def test_an_example_is_a_message(text: str) -> None:
    message = parse(text)

    assert parse(message.to_json()) == message


def test_there_are_examples() -> None:
    assert len(MESSAGES) >= 4
    assert len(PROGRAMS) == 1


def test_the_program_runs() -> None:
    exec(compile(PROGRAMS[0], "docs/lam.md", "exec"), {})


def test_every_type_and_field_is_told() -> None:
    rows = set(re.findall(r"^\| `(\w+)` ", TEXT, re.MULTILINE))

    assert rows == set(TYPES) | set(BaseMessage.model_fields)
