"""Three real agents, one killed, one stopped past its lease: the job ends right, and said why it waited."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from cpa.demo.story import SENTENCES
from cpa.demo.trial import tell

pytestmark = [pytest.mark.browser, pytest.mark.chaos, pytest.mark.timeout(240)]


async def test_a_killed_and_a_stopped_agent_cost_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPA_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("CPA_SMTP_URL", "smtp://somebody@real.example:25")
    out = io.StringIO()
    code = await tell(Console(file=out, width=200, highlight=False), folder=tmp_path, mail="embedded")
    text = out.getvalue()

    assert code == 0, text
    assert "✘" not in text
    for said in (
        "SIGSTOP calculator",
        "SIGCONT calculator",
        "kill -9 browser",
        "browser is started again",
        "explain: sum held.",
        "explain: download held. The agents that do web.download have not been heard of",
        "both harms are in the history",
        "byte for byte",
    ):
        assert said in text, text
    assert {path.name for path in (tmp_path / "agents").iterdir()} == {"browser", "postman", "calculator"}
    assert not (tmp_path / "agents" / "postman" / "secrets" / "portal_password").exists()
    assert _running(tmp_path) == []


async def test_the_same_is_told_in_german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPA_URL", "http://127.0.0.1:1")
    out = io.StringIO()
    shown = Console(file=out, width=200, highlight=False)
    code = await tell(shown, language="de", folder=tmp_path, mail="embedded")
    text = out.getvalue()

    assert code == 0, text
    for told in (
        SENTENCES["de"],
        "zweien davon stößt etwas zu",
        "mitten im Herunterladen",
        "Erklärung: download held. Von den Agenten für web.download war seit",
        "beide Störungen stehen in der Geschichte des Auftrags",
        "Byte für Byte",
        "Blätter geprüft",
        "Bewiesen in ",
    ):
        assert told in text, text
    [mail] = (tmp_path / "mail" / "billing@kunde.example").glob("*/*")
    assert "Der Rechner sagt 42" in mail.read_text()


def _running(folder: Path) -> list[str]:
    """Processes that still work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if Path(os.readlink(process)).is_relative_to(folder):
                found.append(process.parent.name)
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
    return found
