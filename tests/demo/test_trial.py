"""Three real agents, one killed, one stopped past its lease: the job ends right, and said why it waited."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

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
