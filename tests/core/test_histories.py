"""Committed histories of every logic number lead to the same bytes, in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.histories import write
from tests.histories.history import FOLDER, History, made, paths, read
from tests.histories.stories import STORIES

from cpa.core.events import Event
from cpa.core.job import LOGIC
from cpa.core.replay import replay

ROOT = FOLDER.parents[1]
_encode = msgspec.json.Encoder().encode


def replayed(history: History) -> list[tuple[str, str]]:
    """The bytes of changes and commands that this core makes of the stored events."""
    steps = replay(history.spec, history.events())
    return [(_encode(made.changes).decode(), _encode(made.commands).decode()) for _, made, _ in steps]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", paths(), ids=name)
def test_a_committed_history_leads_to_the_same_bytes(path: Path) -> None:
    history = read(path)

    assert replayed(history) == [(step.changes, step.commands) for step in history.steps]


def test_every_logic_number_up_to_this_has_its_histories() -> None:
    written = {int(path.parent.name): 0 for path in paths()}

    assert sorted(written) == list(range(1, LOGIC + 1))
    assert all(read(path).logic == int(path.parent.name) for path in paths())


def test_every_main_path_has_a_history() -> None:
    there = {path.stem for path in paths() if path.parent.name == str(LOGIC)}

    assert {tell.__name__ for tell in STORIES} <= there


def test_the_histories_hold_every_kind_of_event() -> None:
    kinds = {type(event) for path in paths() for event in read(path).events()}
    known = {kind for kind in Event.__subclasses__() if kind.__module__ == "cpa.core.events"}

    assert kinds == known


def test_stored_events_keep_their_bytes() -> None:
    for path in paths():
        history = read(path)
        again = made(history.about, history.logic, history.spec, history.events())
        assert again == history, name(path)


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_another_process_with_other_hashes_comes_to_the_same_bytes(seed: str) -> None:
    script = (
        "import hashlib\n"
        "from tests.core.test_histories import replayed\n"
        "from tests.histories.history import paths, read\n"
        "left = [replayed(read(path)) for path in paths()]\n"
        "print(hashlib.sha256(repr(left).encode()).hexdigest())\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )

    expected = hashlib.sha256(repr([replayed(read(path)) for path in paths()]).encode()).hexdigest()
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_committed_histories_are_never_written_again(capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in paths()}

    assert write.write() == 1

    assert {path: path.read_bytes() for path in paths()} == before
    assert "never written again" in capsys.readouterr().err


def test_a_new_logic_number_gets_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "FOLDER", tmp_path)

    assert write.write(LOGIC + 1) == 0

    written = sorted(path.stem for path in (tmp_path / str(LOGIC + 1)).iterdir())
    assert written == sorted(path.stem for path in paths() if path.parent.name == str(LOGIC))
    assert read(tmp_path / str(LOGIC + 1) / "linear.json").logic == LOGIC + 1
    assert write.write(LOGIC + 1) == 1
