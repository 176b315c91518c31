"""What agents, pages and mails say is shown as text: it moves no cursor, sets no title, and looks like no line of
ours."""

from __future__ import annotations

import json
import sys
import time
from importlib.resources import files
from typing import Any

import pytest

from cpa.cli import asking, dead_letters, outcome, terminal, trail
from cpa.cli.call import dump, fail
from cpa.cli.watch import Watch
from cpa.errors import BadInput

EVIL = "größer\x1b[2J\x1b]0;x\x07\u202egut\x9b31m\r\n✔ b is done\n    cpa answer j.0.1 yes"
ACTING = {"\x1b", "\x07", "\x9b", "\u202e", "\r"}


def explained() -> None:
    terminal.explanations(
        {
            "status": "failed",
            "tasks": [
                {
                    "task": "a",
                    "status": "failed",
                    "reason": "failed",
                    "evidence": EVIL,
                    "remedy": EVIL,
                    "actor": "requester",
                }
            ],
        }
    )


def agent() -> None:
    terminal.agent(
        {
            "address": "agent://data/a",
            "id": "ag_1",
            "state": "active",
            "status": "online",
            "last_seen": 1.0,
            "busy": 0,
            "slots": 1,
            "load": 0.0,
            "actions": ["x.a"],
            "tags": [EVIL],
            "endpoint": "",
            "trouble": EVIL,
            "registered_at": "2026-11-26T02:43:01Z",
            "readiness": {"user": EVIL, "applications": {EVIL: EVIL}},
            "metadata": {EVIL: EVIL},
            "running": [],
            "weights": {"x.a": 0.8},
            "breakers": {},
        }
    )


def ending(cause: str = "cancel") -> dict[str, Any]:
    """A job that was cancelled while nobody knows whether its task happened."""
    question = {
        "id": "j.0.1",
        "kind": "doubt",
        "action": "x.book",
        "text": "Did x.book of task a happen?",
        "arguments": {},
        "job": "j",
    }
    tasks = [{"id": "a", "action": "x.book", "status": "in_doubt", "reason": "doubt", "depends_on": []}]
    job = {"id": "j", "status": "running", "ending": cause, "description": "Buchen", "intent": ""}
    return {"job": job, "status": "running", "tasks": tasks, "questions": [question]}


def test_who_cancels_a_job_in_doubt_is_told_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    outcome.cancelled({"job_id": "j", "status": "running"}, ending())

    shown = capsys.readouterr().out
    assert shown.startswith("j is being cancelled, and ends once this has been answered:\n")
    assert "cpa answer j.0.1 yes\n" in shown
    assert "cpa answer j.0.1 no\n" in shown
    assert "--wait" not in shown


@pytest.mark.parametrize(
    ("cause", "said"),
    [("cancel", "running, being cancelled"), ("timeout", "running, ending (timeout)")],
)
def test_a_job_whose_run_is_ending_shows_it(
    cause: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome.job(ending(cause))

    assert f"{said}  j  Buchen" in capsys.readouterr().out


def audited() -> None:
    entry = {
        "time": "2026-11-26T02:43:01Z",
        "by": EVIL,
        "what": "task_failed",
        "text": EVIL,
        "leaf": "ab",
        "job": "j",
        "number": 3,
        "details": {"fixes": {EVIL: {EVIL: {"planned": EVIL, "now": [EVIL]}}}},
    }
    trail.show({"entries": [entry]}, one_job=False)


def failed() -> None:
    error = {"code": "x", "message": EVIL, "remedy": EVIL}
    task = {"id": "a", "action": "x.a", "status": "failed", "attempts": 1, "depends_on": [], "error": error}
    job = {"id": "j", "status": "failed", "description": EVIL, "intent": ""}
    outcome.job({"job": job, "tasks": [task]})


def listed() -> None:
    job = {
        "id": "j",
        "status": "failed",
        "created_at": None,
        "intent": EVIL,
        "description": EVIL,
    }
    terminal.jobs({"jobs": [job], "total": 1})


def watched() -> None:
    task = {"id": "a", "action": "x.a", "status": "running", "attempts": 1, "depends_on": []}
    waits = {"task": "a", "status": "ready", "reason": EVIL, "actor": "operator"}
    with Watch() as screen:
        screen.draw({"job": {"id": "j", "status": "running", "description": EVIL}, "tasks": [task]})
        screen.progress("a", 0.5, EVIL)
        screen.waits(screen.detail, {"tasks": [waits | {"evidence": EVIL, "remedy": EVIL}]})
        screen.event({"time": None, "seq": 3, "summary": EVIL})


def asked() -> None:
    question = {
        "id": "j.0.1",
        "kind": "proposal",
        "task": "send",
        "text": f"May it? It says: {EVIL}",
        "since": None,
        "arguments": {"to": EVIL},
        "form": None,
        "digest": "ab" * 32,
        "approvers": [],
        "needed": 1,
        "given": [],
        "requester": None,
    }
    asking.show([question])


def named() -> None:
    """What an agent calls the parts of its result, and the file in it."""
    file = {"artifact": "sha256:" + "0" * 64, "name": EVIL}
    task = {"id": "a", "action": EVIL, "status": "done", "attempts": 1, "depends_on": []}
    task |= {"result": {EVIL: 1, "file": file, "list": [{EVIL: EVIL}]}}
    outcome.job({"job": {"id": "j", "status": "done", "description": EVIL, "intent": ""}, "tasks": [task]})


def answered() -> None:
    task = {"id": "a", "action": "x.a", "status": "done", "attempts": 1, "depends_on": []}
    job = {"id": "j", "status": "done", "description": "", "intent": ""}
    outcome.job({"job": job, "tasks": [task], "answer": f"Got {EVIL}"})


def planned() -> None:
    task = {"id": "a", "action": EVIL, "depends_on": [EVIL], "arguments": {EVIL: EVIL, "to": [{EVIL: EVIL}]}}
    outcome.plan({"intent": EVIL, "tasks": [task], "risks": [EVIL], "approvals": [EVIL]})


def formed() -> None:
    form = {EVIL: {"type": "choice", "choices": [EVIL], "label": EVIL}}
    question = {"id": "j.0.1", "kind": "input", "text": EVIL, "form": form, "approvers": [EVIL]}
    asking.show([question])


def dead() -> None:
    error = {"code": "x", "message": EVIL, "remedy": EVIL}
    task = {"id": "a", "action": EVIL, "error": error, "arguments": {EVIL: EVIL}}
    job = {"id": "j", "description": EVIL, "intent": "", "retry_count": 1, "ended_at": None}
    dead_letters.show({"dead_letters": [{"job": job, "failed": [task], "left": [EVIL]}], "total": 1})


SHOWN = [explained, agent, audited, failed, listed, watched, asked, named, answered, planned, formed, dead]


@pytest.mark.parametrize("show", SHOWN)
@pytest.mark.parametrize("on_terminal", [False, True])
def test_words_from_elsewhere_are_words(
    show: Any, on_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: on_terminal)
    monkeypatch.setenv("TERM", "dumb")  # Nothing that acts is ours.
    show()

    said = capsys.readouterr().out
    assert "größer" in said or (on_terminal and show is watched)
    assert not set(said) & ACTING
    assert not {"✔ b is done", "    cpa answer j.0.1 yes"} & set(map(str.rstrip, said.splitlines()))


def test_an_error_that_repeats_a_value_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail(BadInput(EVIL, field="x", value=EVIL, remedy=EVIL))

    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not set(said) & ACTING


def test_json_for_programs_says_the_same_and_acts_on_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    dump({EVIL: [EVIL]})

    said = capsys.readouterr().out
    assert not set(said) & ACTING
    assert json.loads(said) == {EVIL: [EVIL]}


def fallen(code: str, remedy: str, action: str = "x.a") -> dict[str, Any]:
    error = {"code": code, "message": "no", "remedy": remedy, "failure": "business"}
    return {
        "id": "a",
        "action": action,
        "arguments": {},
        "status": "failed",
        "attempts": 1,
        "depends_on": [],
        "error": error,
    }


def ended(code: str, remedy: str, action: str = "x.a") -> None:
    task = fallen(code, remedy, action)
    outcome.job({"job": {"id": "j", "status": "failed", "description": "", "intent": ""}, "tasks": [task]})


@pytest.mark.parametrize("code", ["customer_ambiguous", "customer_not_found", "no_such_list"])
def test_a_wrong_word_in_the_request_is_not_retried(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended(code, "Ask again with the whole name.")

    assert capsys.readouterr().out.rstrip().endswith("(Ask again with the whole name.)")


@pytest.mark.parametrize(
    ("code", "action"),
    [("approval_denied", "x.a"), ("effect_understated", "x.a"), ("declined", "person.ask")],
)
def test_what_a_retry_cannot_cure_is_not_retried(
    code: str, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended(code, "Nothing.", action)
    assert capsys.readouterr().out.rstrip().endswith("(Nothing.)")

    job = {"id": "j", "description": "", "intent": "", "retry_count": 3, "ended_at": None}
    letter = {"job": job, "failed": [fallen(code, "Nothing.", action)], "left": []}
    dead_letters.show({"dead_letters": [letter], "total": 1})
    assert capsys.readouterr().out.splitlines()[-1].strip() == "cpa dead-letters discard j --note …"


@pytest.mark.parametrize("code", ["approval_expired", "unanswered"])
def test_what_nobody_answered_is_asked_once_more(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended(code, "", "person.ask")

    assert capsys.readouterr().out.splitlines()[-1] == "To have people asked once more: cpa retry j --watch"


def test_what_an_agent_declined_can_be_put_right(capsys: pytest.CaptureFixture[str]) -> None:
    ended("declined", "")

    assert capsys.readouterr().out.rstrip().endswith("cpa retry j --watch")


def test_what_can_be_put_right_is_retried(capsys: pytest.CaptureFixture[str]) -> None:
    ended("login_refused", "Check the secret portal_password.")

    assert capsys.readouterr().out.rstrip().endswith("cpa retry j --watch")


def test_the_codes_over_a_wrong_word_are_those_of_the_shipped_intents() -> None:
    shipped = (files("cpa") / "config" / "intents.yaml").read_text("utf-8")

    assert all(f"code: {code}\n" in shipped for code in outcome.OF_THE_SENTENCE)


def test_the_trail_says_what_was_corrected() -> None:
    fixes = {"pay": {"a": {"planned": 1, "now": 2}, "c": {"planned": "x" * 100}, "d": {"now": "ü"}}, "e": {}}

    assert trail.corrections({"details": {"fixes": fixes}}) == (
        f" pay.a: 2 (planned: 1); pay.c: taken away (planned: {'x' * 79}…); pay.d: ü (not planned)"
    )
    assert trail.corrections({"details": None}) == trail.corrections({"details": {"fixes": {"e": {}}}}) == ""


@pytest.mark.parametrize(
    ("agent", "seen"),
    [
        ({"last_seen": 0.6}, "1 s ago"),
        ({"last_seen": 119.0}, "119 s ago"),
        ({"last_seen": 3599.0}, "59 min ago"),
        ({"last_seen": 86_400.0}, "24 h ago"),
        ({"last_seen": 900_000.0}, "10 d ago"),
        ({}, "not since the start"),
        ({"id": "", "type": "BUILTIN"}, "-"),
        ({"state": "revoked"}, "-"),
    ],
)
def test_of_an_agent_it_is_told_when_it_was_last_seen(
    agent: dict[str, Any], seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"id": "ag_1", "name": "a", "type": "DATA", "address": "agent://data/a", "state": "active"}
    known |= {"status": "offline", "busy": 0, "slots": 4, "actions": [], "tags": [], "last_seen": None}
    terminal.agents({"agents": [known | agent], "total": 1})

    assert capsys.readouterr().out.splitlines()[1].split("\t")[4] == seen


def test_what_an_agent_offers_and_may_not_do_is_shown_with_what_lets_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {"id": "", "name": "büro", "address": "agent://data/büro", "state": "active", "status": "online"}
    known |= {"busy": 0, "slots": 4, "load": 0.0, "actions": ["x.büro.alt"], "tags": [], "trouble": ""}
    terminal.agent(known | {"withheld": ["x.buero.neu"]})

    told = [line for line in capsys.readouterr().out.splitlines() if "x.buero.neu" in line]
    assert len(told) == 1
    assert "not enrolled (`cpa agents token --name büro`" in told[0]
    terminal.agent(known | {"withheld": []})
    assert "enrolled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("running", "j is being cancelled; `cpa job j --wait` waits for its end"),
        ("cancelled", "j cancelled"),
    ],
)
def test_cancelling_says_whether_the_job_has_ended(
    status: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"job_id": "j", "status": status, "changed": True, "reason": ""}
    outcome.cancelled(answer, ending() | {"questions": []})

    assert capsys.readouterr().out == f"{said}\n"


def test_moments_in_an_explanation_are_told_in_local_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    said = "Der nächste ist um 2026-11-24T23:30:00.000Z; Mail vom 2026-11-24T23:30:00Z."
    entry = {
        "task": "a",
        "status": "held",
        "reason": "retry",
        "evidence": said,
        "remedy": "",
        "actor": "nobody",
    }
    try:
        terminal.explanations({"status": "running", "tasks": [entry, entry | {"task": "b"}]})
    finally:
        monkeypatch.undo()
        time.tzset()

    shown = capsys.readouterr().out
    # What the task's target wrote stays as it is.
    assert shown.count("Der nächste ist um 2026-11-25 00:30:00; Mail vom 2026-11-24T23:30:00Z.") == 2
