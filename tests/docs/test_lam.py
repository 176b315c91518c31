"""docs/lam.md: every example is a message, every type is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cpa.api.agents import Heartbeat
from cpa.api.bodies import parsed
from cpa.core.lam_protocol import TYPES, BaseMessage, parse
from cpa.orchestrator.messages import EFFECTS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "lam.md").read_text("utf-8")
MESSAGES = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
FRAMES = [line for block in re.findall(r"```jsonl\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("text", MESSAGES)
def test_an_example_is_a_message(text: str) -> None:
    message = parse(text)

    assert parse(message.to_json()) == message


def test_there_are_examples() -> None:
    assert len(MESSAGES) >= 10
    assert len(FRAMES) >= 9
    assert len(PROGRAMS) == 1


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_is_one_of_those_that_are_known(frame: str) -> None:
    answers = [{"ack", "effect", "new"}, {"ack", "effect", "new", "left_out"}, {"ack", "problem"}]
    known = [{"hello"}, {"ack"}, {"seq", "message"}, {"beat"}, *answers]
    found = json.loads(frame)
    assert set(found) in [*known, {"lost", "state", "heartbeat_interval", "lease"}]
    if "beat" in found:
        parsed(json.dumps(found["beat"]).encode(), Heartbeat)
    if "message" in found:
        assert found["message"]["id"] in TEXT.split("## How messages")[0]


def test_every_effect_is_told() -> None:
    for effect in (
        *EFFECTS.values(),
        "job_created",
        "cancel_requested",
        "capabilities_noted",
        "bid_counted",
        "bid_late",
        "noted",
    ):
        assert f"`{effect}`" in TEXT
    for reason in ("duplicate", "stale_epoch", "ended", "not_expected", "not_asked", "quarantined"):
        assert f"`{reason}`" in TEXT


def test_the_program_runs() -> None:
    exec(compile(PROGRAMS[0], "docs/lam.md", "exec"), {})


def test_every_type_and_field_is_told() -> None:
    rows = set(re.findall(r"^\| `(\w+)` ", TEXT, re.MULTILINE))

    assert rows == set(TYPES) | set(BaseMessage.model_fields)
