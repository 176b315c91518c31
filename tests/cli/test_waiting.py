"""What is said of tasks that cannot go on until an operator does something."""

from __future__ import annotations

from typing import Any

from cpa.cli.waiting import LONGEST, SOON, Hindrances, next_pause, reasons


def waits(task: str, reason: str, *, actor: str = "operator", status: str = "ready") -> dict[str, Any]:
    said = {"evidence": f"It is {reason}.", "remedy": "Mend it."}
    return {"task": task, "status": status, "reason": reason, "actor": actor, **said}


def test_a_reason_is_told_once_and_another_one_anew() -> None:
    hindrances = Hindrances()

    assert hindrances.news({"tasks": [waits("a", "no_agent")]}) == ["cpa: a: It is no_agent. Mend it."]
    assert hindrances.news({"tasks": [waits("a", "no_agent")]}) == []
    assert hindrances.news({"tasks": []}) == []
    assert hindrances.news({"tasks": [waits("a", "no_agent")]}) == []
    assert hindrances.news({"tasks": [waits("a", "agents_offline")]}) == [
        "cpa: a: It is agents_offline. Mend it."
    ]
    assert hindrances.news({"tasks": [waits("a", "no_agent")]}) == []


def test_many_tasks_of_one_reason_are_one_line() -> None:
    told = Hindrances().news({"tasks": [waits(name, "no_agent") for name in "abcde"]})

    assert told == ["cpa: a, b, c (+2): It is no_agent. Mend it."]


def test_what_moves_by_itself_or_by_its_requester_is_no_hindrance() -> None:
    answer = {
        "tasks": [
            waits("a", "slot", actor="nobody"),
            waits("b", "approval", actor="approver", status="held"),
            waits("c", "failed", status="failed"),
        ]
    }

    assert Hindrances().news(answer) == []
    assert reasons(answer) == {"a": "It is slot.", "b": "It is approval."}


def test_what_hinders_the_whole_job_is_said_of_it() -> None:
    whole = {"evidence": "The Temporal server is away.", "remedy": "Start it.", "actor": "operator"}
    hindrances = Hindrances()

    told = hindrances.news({"tasks": [], "hindrance": whole})

    assert told == ["cpa: The Temporal server is away. Start it."]
    assert hindrances.news({"tasks": [], "hindrance": whole}) == []


def test_pauses_double_while_nothing_is_new() -> None:
    pauses = [SOON]
    for new in (True, False, False, True, *[False] * 6):
        pauses.append(next_pause(pauses[-1], new=new))

    assert pauses == [2, 2, 4, 8, 2, 4, 8, 16, 32, LONGEST, LONGEST]


def test_what_people_are_asked_is_told_once_with_what_answers_it() -> None:
    hindrances = Hindrances()
    question = {"id": "j.0.1", "task": "pay", "text": "May task pay do x.pay?"}

    told = hindrances.asked([question])

    assert told == [
        "cpa: pay: May task pay do x.pay? `cpa questions` shows it whole, `cpa answer j.0.1` answers it."
    ]
    assert hindrances.asked([question]) == []
    assert len(hindrances.asked([question, question | {"id": "j.1.1"}])) == 1
