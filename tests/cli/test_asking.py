"""What a person is shown before answering: all of it, readable, and nothing a terminal would act on."""

from __future__ import annotations

import pytest

from cpa.cli import asking

FILE = {"artifact": "sha256:ab", "name": "../rech\x1b[2Jnung.pdf", "size": 12_345}


def test_everything_that_would_go_out_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {
        "to": ["a@b.example", "c@d.example"],
        "text": "Zeile 1\nZeile 2\x1b[1A",
        "attachments": [FILE],
    }
    entry = {
        "id": "job.1.2",
        "kind": "approval",
        "text": "May task send do mail.send?",
        "since": "2026-11-24T08:30:00.000Z",
        "arguments": arguments,
        "instead_of": {"to": "x@y.example"},
    }
    asking.show([entry])
    shown = capsys.readouterr().out

    assert "    to: a@b.example, c@d.example\n" in shown
    assert "    text: Zeile 1\n          Zeile 2" in shown
    assert "nung.pdf (12,345 bytes)" in shown
    assert "instead of:\n    to: x@y.example" in shown
    assert "cpa answer job.1.2 yes" in shown
    assert "\x1b" not in shown


def test_what_is_too_long_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    asking.show([{"id": "j.0.1", "kind": "doubt", "text": "?", "arguments": {"text": "ä" * 5_000}}])
    shown = capsys.readouterr().out

    assert "5,000 characters" in shown
    assert "it happened:" in shown


def test_who_may_not_allow_it_is_named_with_what_they_did(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not told apart who corrected the task and who settled one whose result it uses."""
    people = {"given": ["eva"], "needed": 2, "requester": "rita", "authors": ["rita", "uwe"]}
    asking.show([{"id": "j.0.1", "kind": "approval", "text": "?", "arguments": {}, **people}])

    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 said yes (eva); not rita, who asked for it; not uwe, who decided something in it" in said
