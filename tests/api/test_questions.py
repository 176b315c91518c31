"""What waits for a person is shown, answered by those who may, counted once each, and then moves the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from tests.api.conftest import Door, noop, problem
from tests.api.test_jobs import create

from cpa.core.classes import FailureClass
from cpa.core.events import TaskFailed, TaskProposed, TaskStarted, TimerFired
from cpa.ports.keys import Scope

FORM = {
    "amount": {"type": "number", "label": "Betrag"},
    "way": {"type": "choice", "choices": ["Post", "Mail"]},
    "note": {"required": False},
}
ASKS = {"id": "ask", "action": "person.ask", "arguments": {"question": "Wie viel?", "form": FORM}}


@pytest.fixture
async def rita(door: Door) -> AsyncIterator[httpx2.AsyncClient]:
    """Who asks for jobs, and so may not allow their tasks."""
    async with person(door, "rita") as client:
        yield client


@asynccontextmanager
async def person(door: Door, name: str, *scopes: Scope) -> AsyncIterator[httpx2.AsyncClient]:
    async with door.client(await door.key(*(scopes or (Scope.SUBMIT,)), name=name)) as client:
        yield client


async def asking(rita: httpx2.AsyncClient, approval: Any = True, *tasks: dict[str, Any]) -> dict[str, Any]:
    """The question of a job that asks one."""
    job = await create(rita, *(tasks or (noop(approval=approval),)))
    await rita.get(f"/jobs/{job}/events", params={"after": 1, "wait": 1})
    found = (await rita.get("/questions")).json()["questions"]
    [question] = [each for each in found if each["job"] == job]
    assert (await rita.get(f"/questions/{question['id']}")).json() == question
    return dict(question)


async def proposed(door: Door, rita: httpx2.AsyncClient) -> dict[str, Any]:
    """The question of a job whose agent would rather do it otherwise."""
    door.engine.auto = False
    job = await create(rita, noop(value="7 Tage"))
    place: dict[str, Any] = {"time": 0, "task": 0, "epoch": 1}
    await rita.get(f"/jobs/{job}/events", params={"after": 2, "wait": 1})
    await door.engine.send("default", job, TaskStarted(**place))
    proposal = TaskProposed(**place, arguments={"value": "9 Tage"}, reason="ausgebucht")
    assert (await door.engine.send("default", job, proposal)).changed
    [question] = (await rita.get("/questions", params={"kind": "proposal"})).json()["questions"]
    return dict(question)


async def say(client: httpx2.AsyncClient, question: dict[str, Any], yes: bool = True, **more: Any) -> Any:
    body = {"yes": yes, "digest": question["digest"]} | more
    return await client.post(f"/questions/{question['id']}", json=body)


async def test_an_approval_is_asked_for_and_lets_the_job_go_on(
    rita: httpx2.AsyncClient, api: httpx2.AsyncClient
) -> None:
    question = await asking(rita)

    answered = await say(api, question, note="geprüft")

    assert (question["task"], question["kind"], question["requester"]) == ("echo", "approval", "rita")
    standing = {"id": question["id"], "changed": True, "open": False, "needed": 1, "given": ["anna"]}
    assert (answered.status_code, answered.json()) == (200, standing)
    job = question["job"]
    assert (await api.get(f"/jobs/{job}", params={"wait": 5})).json()["status"] == "done"
    assert (await api.get("/questions")).json() == {"questions": [], "next": None}
    assert (await api.get(f"/questions/{question['id']}")).status_code == 404


async def test_two_of_three_say_yes_each_counted_once(door: Door, rita: httpx2.AsyncClient) -> None:
    question = await asking(rita, {"needed": 2, "approvers": ["anna", "jörg", "uwe"]})
    async with person(door, "anna") as anna, person(door, "uwe") as uwe:
        first = await say(anna, question)
        again = await say(anna, question)
        shown = (await rita.get(f"/questions/{question['id']}")).json()
        second = await say(uwe, question)
        late = await say(uwe, question)

    assert [shown[name] for name in ("needed", "given", "approvers")] == [
        2,
        ["anna"],
        ["anna", "jörg", "uwe"],
    ]
    assert [each.status_code for each in (first, again, second, late)] == [200] * 4
    assert [each.json()["changed"] for each in (first, again, second, late)] == [True, False, True, False]
    assert [each.json()["open"] for each in (first, again, second, late)] == [True, True, False, False]
    assert late.json()["given"] == ["anna", "uwe"]
    ended = await rita.get(f"/jobs/{question['job']}", params={"wait": 5})
    assert ended.json()["status"] == "done"


async def test_the_trail_says_who_said_what_to_which_action(door: Door, rita: httpx2.AsyncClient) -> None:
    question = await asking(rita)
    async with person(door, "uwe") as uwe:
        await say(uwe, question, False, note="der Empfänger stimmt nicht")

    [entry] = [
        each
        for each in (await rita.get("/audit", params={"job": question["job"]})).json()["entries"]
        if each["what"] == "question_answered"
    ]
    assert (entry["by"], entry["details"]) == ("uwe", {"digest": question["digest"]})
    assert entry["text"] == "uwe answered no for task echo: der Empfänger stimmt nicht"


async def test_who_asked_for_a_job_cannot_allow_its_tasks(rita: httpx2.AsyncClient) -> None:
    question = await asking(rita)

    refused = await say(rita, question)

    assert (refused.status_code, refused.json()["field"]) == (403, "question_id")
    assert "cpa keys add" in refused.json()["remedy"]
    assert (await rita.get(f"/questions/{question['id']}")).json()["given"] == []


async def test_who_corrected_a_task_cannot_allow_it_and_all_are_told_so(
    door: Door, rita: httpx2.AsyncClient, api: httpx2.AsyncClient
) -> None:
    question = await asking(rita)
    assert question["authors"] == ["rita"]
    await say(api, question, False)
    job = question["job"]

    async with person(door, "uwe") as uwe:
        fixes = {"echo": {"value": "an Uwe"}}
        assert (await uwe.post(f"/dead-letters/{job}/retry", json={"fixes": fixes})).status_code == 200
        await rita.get(f"/jobs/{job}/events", params={"after": 5, "wait": 1})
        [question] = (await rita.get("/questions")).json()["questions"]
        refused = await say(uwe, question)

    assert (question["authors"], refused.status_code) == (["rita", "uwe"], 403)
    assert "corrected" in refused.json()["detail"]
    assert (await say(api, question)).json()["open"] is False


async def test_who_asked_does_not_skip_what_people_must_allow_first(
    rita: httpx2.AsyncClient, api: httpx2.AsyncClient
) -> None:
    gate = noop("gate", approval=True)
    question = await asking(rita, True, gate, noop("pay", depends_on=["gate"]))
    await say(api, question, False)

    refused = await rita.post(f"/dead-letters/{question['job']}/retry", json={"skip": ["gate"]})

    assert (refused.status_code, refused.json()["field"], refused.json()["value"]) == (403, "skip", "gate")
    assert "without naming gate" in refused.json()["remedy"]
    taken = await api.post(f"/dead-letters/{question['job']}/retry", json={"skip": ["gate"]})
    assert taken.status_code == 200


async def test_where_the_operator_says_so_they_can(door: Door, rita: httpx2.AsyncClient) -> None:
    door.services.planner.approve_own = True
    question = await asking(rita)

    assert question["requester"] is None
    assert (await say(rita, question)).json()["open"] is False


async def test_who_is_no_approver_is_told_who_is(door: Door, rita: httpx2.AsyncClient) -> None:
    question = await asking(rita, {"approvers": ["anna", "uwe"]})
    async with person(door, "eva") as eva, person(door, "leser", Scope.READ) as reader:
        refused = [await say(eva, question), await say(reader, question)]

    assert [each.status_code for each in refused] == [403, 403]
    assert "anna, uwe" in refused[0].json()["remedy"]


async def test_a_yes_names_what_it_was_given_for(door: Door, rita: httpx2.AsyncClient) -> None:
    question = await asking(rita)
    async with person(door, "uwe") as uwe:
        nothing = await say(uwe, question, digest="")
        other = await say(uwe, question, digest="0" * 64)
        broken = await say(uwe, question, digest="abc")

    assert [each.status_code for each in (nothing, other, broken)] == [422, 409, 422]
    assert {each.json()["field"] for each in (nothing, other, broken)} == {"digest"}
    assert other.json()["code"] == "other_action"
    assert f"GET /questions/{question['id']}" in other.json()["remedy"]
    assert (await rita.get(f"/questions/{question['id']}")).json()["given"] == []


async def test_a_no_needs_no_digest_and_ends_the_job(door: Door, rita: httpx2.AsyncClient) -> None:
    question = await asking(rita, {"needed": 2})
    async with person(door, "uwe") as uwe:
        said = await uwe.post(f"/questions/{question['id']}", json={"yes": False})

    assert (said.status_code, said.json()["open"]) == (200, False)
    ended = (await rita.get(f"/jobs/{question['job']}", params={"wait": 5})).json()
    assert (ended["status"], ended["job"]["error"]["code"]) == ("failed", "approval_denied")


async def test_the_reason_of_a_no_is_told_wherever_the_failure_is(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    question = await asking(rita, {"needed": 2})
    async with person(door, "uwe") as uwe, person(door, "eva") as eva:
        await say(eva, question, note="von mir aus")
        await say(uwe, question, False, note="der Empfänger ist falsch")
    job, said = question["job"], "uwe said no: der Empfänger ist falsch"

    ended = (await rita.get(f"/jobs/{job}", params={"wait": 5})).json()
    assert ended["job"]["error"]["message"] == ended["tasks"][0]["error"]["message"] == said
    assert (await rita.get(f"/jobs/{job}/tasks")).json()["tasks"][0]["error"]["message"] == said
    [why] = (await rita.get(f"/jobs/{job}/explain")).json()["tasks"]
    assert said in why["evidence"]


async def test_the_reason_of_a_no_to_a_form_follows_the_failure_in_its_language(
    rita: httpx2.AsyncClient,
) -> None:
    body = {"task_graph": [ASKS], "context": {"locale": "de"}}
    job = (await rita.post("/jobs", json=body)).json()["job_id"]
    await rita.get(f"/jobs/{job}/events", params={"after": 1, "wait": 1})
    [question] = (await rita.get(f"/jobs/{job}")).json()["questions"]
    await rita.post(f"/questions/{question['id']}", json={"yes": False, "note": "weiß ich nicht"})

    ended = (await rita.get(f"/jobs/{job}", params={"wait": 5})).json()
    assert ended["job"]["error"]["message"] == "rita will dazu nichts sagen: weiß ich nicht"


@pytest.mark.parametrize(
    ("approvers", "needed", "evidence", "remedy", "actor"),
    [
        (
            ["jörg"],
            1,
            " Nobody has a key by the name of jörg.",
            "Make one with `cpa keys add jörg`, then answer it: `cpa questions`.",
            "operator",
        ),
        (
            ["jörg", "uwe"],
            1,
            " Nobody has a key by the name of jörg.",
            "Answer it: `cpa questions`.",
            "approver",
        ),
        (
            ["jörg", "uwe"],
            2,
            " Nobody has a key by the name of jörg.",
            "Make one with `cpa keys add jörg`, then answer it: `cpa questions`.",
            "operator",
        ),
        (["uwe"], 1, "It is for uwe.", "Answer it: `cpa questions`.", "approver"),
    ],
)
async def test_the_explanation_tells_who_is_to_answer_and_has_no_key(
    door: Door,
    rita: httpx2.AsyncClient,
    approvers: list[str],
    needed: int,
    evidence: str,
    remedy: str,
    actor: str,
) -> None:
    await door.key(Scope.SUBMIT, name="uwe")
    question = await asking(rita, {"needed": needed, "approvers": approvers})

    [why] = (await rita.get(f"/jobs/{question['job']}/explain")).json()["tasks"]
    assert why["evidence"].endswith(evidence)
    assert (why["remedy"], why["actor"]) == (remedy, actor)
    await door.key(Scope.SUBMIT, name="jörg")
    [why] = (await rita.get(f"/jobs/{question['job']}/explain")).json()["tasks"]
    assert (why["remedy"], why["actor"]) == ("Answer it: `cpa questions`.", "approver")


async def test_a_form_for_who_has_no_key_is_explained_in_its_language(rita: httpx2.AsyncClient) -> None:
    form = ASKS | {"arguments": ASKS["arguments"] | {"for": "niemand"}}
    body = {"task_graph": [form], "context": {"locale": "de"}}
    job = (await rita.post("/jobs", json=body)).json()["job_id"]
    await rita.get(f"/jobs/{job}/events", params={"after": 1, "wait": 1})

    [why] = (await rita.get(f"/jobs/{job}/explain")).json()["tasks"]
    assert why["evidence"].endswith(" Niemand hat einen Schlüssel auf den Namen niemand.")
    assert why["remedy"] == (
        "Bitte einen anlegen mit `cpa keys add niemand`, dann antworten: `cpa questions`."
    )


async def test_the_reason_of_an_older_no_is_not_that_of_another_ones(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    question = await asking(rita)
    async with person(door, "uwe") as uwe, person(door, "eva") as eva:
        await say(uwe, question, False, note="zu früh")
        await rita.get(f"/jobs/{question['job']}", params={"wait": 5})
        await rita.post(f"/dead-letters/{question['job']}/retry", json={"run": 0})
        await rita.get(f"/jobs/{question['job']}/events", params={"after": 5, "wait": 1})
        [again] = (await rita.get(f"/jobs/{question['job']}")).json()["questions"]
        await say(eva, again, False)

    ended = (await rita.get(f"/jobs/{question['job']}", params={"wait": 5})).json()
    assert ended["job"]["error"]["message"] == "eva said no"


async def test_the_reason_of_a_no_is_found_without_reading_the_whole_history(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    many = [noop(f"{at}", depends_on=[f"{at - 1}"] if at else []) for at in range(80)]
    job = await create(rita, *many, noop("last", depends_on=["79"], approval=True))
    while not (questions := (await rita.get("/questions")).json()["questions"]):
        await asyncio.sleep(0)
    async with person(door, "uwe") as uwe:
        await say(uwe, questions[0], False, note="zu teuer")
    number = (await door.engine.query("default", job)).head.number
    read = door.engine.read

    ended = (await rita.get(f"/jobs/{job}")).json()
    assert ended["job"]["error"]["message"] == "uwe said no: zu teuer"
    assert number > 150
    assert door.engine.read - read <= 100


async def test_for_a_no_after_which_the_task_goes_on_no_reason_is_looked_for(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    question = await proposed(door, rita)
    assert (await say(rita, question, False, note="lieber früher")).status_code == 200
    read = door.engine.read

    [task] = (await rita.get(f"/jobs/{question['job']}/tasks")).json()["tasks"]
    assert (task["status"], task["error"]["code"]) == ("held", "proposed")
    assert door.engine.read == read


async def test_a_failure_of_the_same_code_that_nobody_brought_about_has_the_words_of_nobody(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    question = await proposed(door, rita)
    await say(rita, question, False, note="lieber früher")
    job = question["job"]
    timer = TimerFired(time=0, key="retry:0:1")
    assert (await door.engine.send("default", job, timer)).changed
    await rita.get(f"/jobs/{job}/events", params={"after": 7, "wait": 1})
    place: dict[str, Any] = {"time": 0, "task": 0, "epoch": 2}
    said = {"failure": FailureClass.BUSINESS, "code": "declined", "message": "rita has no account"}
    await door.engine.send("default", job, TaskStarted(**place))
    assert (await door.engine.send("default", job, TaskFailed(**place, **said))).changed

    [task] = (await rita.get(f"/jobs/{job}/tasks")).json()["tasks"]
    assert (task["status"], task["error"]["message"]) == ("failed", "rita has no account")


async def test_another_answer_to_a_closed_question_is_a_conflict(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    question = await asking(rita)
    async with person(door, "uwe") as uwe, person(door, "eva") as eva:
        await say(uwe, question)
        turned, other = await say(uwe, question, False), await say(eva, question)

    assert [(each.status_code, each.json()["code"]) for each in (turned, other)] == [(409, "conflict")] * 2


async def test_a_proposal_is_shown_beside_what_was_asked_for_and_agreed_to(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    question = await proposed(door, rita)
    job = question["job"]

    assert (question["arguments"], question["instead_of"]) == ({"value": "9 Tage"}, {"value": "7 Tage"})
    assert (await rita.get("/questions", params={"kind": "doubt"})).json()["questions"] == []
    assert (await say(rita, question)).json()["open"] is False
    [task] = (await rita.get(f"/jobs/{job}/tasks")).json()["tasks"]
    assert task["arguments"] == {"value": "9 Tage"}


async def test_a_form_is_answered_field_by_field(door: Door, rita: httpx2.AsyncClient) -> None:
    question = await asking(rita, True, ASKS, noop("use", "{{ tasks.ask.result.amount }}"))
    given = {"amount": 119.5, "way": "Post", "note": ""}

    answered = [await rita.post(f"/questions/{question['id']}", json={"answer": given}) for _ in range(2)]

    assert (question["kind"], question["form"], question["text"]) == ("input", FORM, "Wie viel?")
    assert [each.json()["changed"] for each in answered] == [True, False]
    ended = (await rita.get(f"/jobs/{question['job']}", params={"wait": 5})).json()
    assert ended["tasks"][0]["result"] == {"amount": 119.5, "way": "Post", "note": None}


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ({"amount": "viel", "way": "Fax"}, ["answer.amount", "answer.way"]),
        ({"amount": 1, "way": "Post", "über": 1}, ["answer.über"]),
        ({}, ["answer.amount", "answer.way"]),
        ({"amount": True, "way": None, "note": 7}, ["answer.amount", "answer.way", "answer.note"]),
    ],
)
async def test_every_wrong_value_of_a_form_is_named(
    answer: dict[str, Any], wrong: list[str], rita: httpx2.AsyncClient
) -> None:
    question = await asking(rita, True, ASKS)

    refused = await rita.post(f"/questions/{question['id']}", json={"answer": answer})

    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["field"]) == (422, "wrong_answer", wrong[0])
    assert [each["field"] for each in problem["errors"]] == wrong
    assert all(each["detail"] and each["remedy"] for each in problem["errors"])
    assert (await rita.get(f"/questions/{question['id']}")).status_code == 200


async def test_who_will_not_say_says_no(rita: httpx2.AsyncClient) -> None:
    question = await asking(rita, True, ASKS)
    where = f"/questions/{question['id']}"

    for neither in ({"yes": True}, {"yes": False, "answer": {"amount": 1, "way": "Post"}}, {}):
        assert (await rita.post(where, json=neither)).status_code == 422
    assert (await rita.post(where, json={"yes": False})).json()["open"] is False
    assert (await rita.post(where, json={"yes": False})).json()["changed"] is False
    for other in ({"answer": {}}, {"answer": {"note": ""}}, {"answer": {"amount": 1, "way": "Post"}}):
        assert (await rita.post(where, json=other)).status_code == 409
    ended = (await rita.get(f"/jobs/{question['job']}", params={"wait": 5})).json()
    assert ended["job"]["error"]["code"] == "declined"


async def test_a_question_for_one_person_is_not_answered_by_another(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    task = ASKS | {"arguments": ASKS["arguments"] | {"for": "uwe"}}  # type: ignore[operator]
    question = await asking(rita, True, task)
    body = {"answer": {"amount": 1, "way": "Post"}}

    assert question["approvers"] == ["uwe"]
    assert (await rita.post(f"/questions/{question['id']}", json=body)).status_code == 403
    async with person(door, "uwe") as uwe:
        assert (await uwe.post(f"/questions/{question['id']}", json=body)).status_code == 200


async def test_an_approval_is_no_form(door: Door, rita: httpx2.AsyncClient) -> None:
    question = await asking(rita)
    async with person(door, "uwe") as uwe:
        refused = await uwe.post(f"/questions/{question['id']}", json={"answer": {"yes": True}})

    assert (refused.status_code, refused.json()["field"]) == (422, "answer")


async def test_another_tenant_sees_and_answers_nothing(door: Door, rita: httpx2.AsyncClient) -> None:
    question = await asking(rita)
    async with door.client(await door.key(Scope.ADMIN, tenant="acme", name="uwe")) as stranger:
        assert (await stranger.get("/questions")).json()["questions"] == []
        assert (await stranger.get(f"/questions/{question['id']}")).status_code == 404
        assert (await say(stranger, question)).status_code == 404


async def test_what_waits_to_be_allowed_has_a_list_and_a_door_of_its_own(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    form = await asking(rita, True, ASKS, noop("use", "{{ tasks.ask.result.amount }}"))
    question = await asking(rita)

    assert (await rita.get("/approvals")).json() == {"approvals": [question], "next": None}
    async with person(door, "uwe") as uwe:
        refused = await uwe.post(f"/approvals/{form['id']}", json={"answer": {"amount": 1, "way": "Post"}})
        told = problem(refused, 404, "not_found", "question_id")
        assert "GET /questions" in told["remedy"]
        yes = {"yes": True, "digest": question["digest"]}
        answered = [await uwe.post(f"/approvals/{question['id']}", json=yes) for _ in range(2)]
    assert [each.json()["changed"] for each in answered] == [True, False]
    assert (await rita.get("/approvals")).json()["approvals"] == []
    assert (await rita.get(f"/questions/{form['id']}")).status_code == 200, "the form is open"


async def test_pages_of_approvals_join(rita: httpx2.AsyncClient) -> None:
    jobs = {(await asking(rita))["job"] for _ in range(3)}
    first = (await rita.get("/approvals", params={"limit": 2})).json()
    rest = (await rita.get("/approvals", params={"limit": 2, "after": first["next"]})).json()

    assert {each["job"] for page in (first, rest) for each in page["approvals"]} == jobs
    problem(await rita.get("/approvals", params={"after": "x"}), 400, "bad_input", "after")


async def test_pages_of_questions_join(rita: httpx2.AsyncClient) -> None:
    jobs = {(await asking(rita))["job"] for _ in range(3)}
    first = (await rita.get("/questions", params={"limit": 2})).json()
    rest = (await rita.get("/questions", params={"limit": 2, "after": first["next"]})).json()

    assert {question["job"] for page in (first, rest) for question in page["questions"]} == jobs
    assert rest["next"] is None


@pytest.mark.parametrize(
    "tail", [".9.1", ".0.99", ".-1.1", ".0", "", ".0.1.1", ".x.y", ".²0.1", "." + "9" * 5000 + ".1"]
)
async def test_an_unknown_question_is_not_found(tail: str, rita: httpx2.AsyncClient) -> None:
    job = (await asking(rita))["job"]

    assert (await rita.get(f"/questions/{job}{tail}")).status_code == 404
    assert (await rita.post(f"/questions/{job}{tail}", json={"yes": True})).status_code == 404


@pytest.mark.parametrize("body", [{}, {"yes": "ja"}, {"yes": 1}, {"yes": True, "note": "x" * 5000}])
async def test_a_wrong_answer_is_refused(
    body: dict[str, object], rita: httpx2.AsyncClient, api: httpx2.AsyncClient
) -> None:
    question = await asking(rita)

    response = await api.post(f"/questions/{question['id']}", json=body)

    assert response.status_code == 422
    assert len((await api.get("/questions")).json()["questions"]) == 1


async def test_the_id_of_a_question_may_be_spelled_otherwise(rita: httpx2.AsyncClient) -> None:
    question = await asking(rita)
    job, task, epoch = question["id"].split(".")

    found = await rita.get(f"/questions/{job.upper()}.0{task}.{epoch}")

    assert found.json()["id"] == question["id"]


async def test_each_is_told_what_a_job_is_for_and_which_questions_are_theirs(
    door: Door, rita: httpx2.AsyncClient
) -> None:
    question = await asking(rita, {"needed": 2, "approvers": ["anna", "uwe", "rita"]})

    async def theirs(client: httpx2.AsyncClient) -> Any:
        [one] = (await client.get("/approvals")).json()["approvals"]
        assert (await client.get("/questions")).json()["questions"] == [one]
        return one["yours"]

    async with (
        person(door, "anna") as anna,
        person(door, "eva") as eva,
        person(door, "uwe", Scope.READ) as uwe,
    ):
        assert [await theirs(each) for each in (rita, anna, eva, uwe)] == [False, True, False, False]
        said = await anna.post(
            f"/questions/{question['id']}", json={"yes": True, "digest": question["digest"]}
        )
        assert (said.status_code, await theirs(anna)) == (200, False)
    detail = (await rita.get(f"/jobs/{question['job']}")).json()
    assert question["description"] == detail["job"]["description"] != ""
    assert detail["questions"][0]["yours"] is None
