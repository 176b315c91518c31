"""People at the command line, each with a key of their own: approvals, forms, dead letters, on a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from tests.cli.test_server import cpa, submitted
from tests.servers.scheduler import Scheduler, serving

from cpa.cli.approvals import chosen_digest, decision, filled, typed
from cpa.cli.asking import show
from cpa.cli.client import Client
from cpa.cli.dead_letters import by_hand, fixes, meant
from cpa.cli.dead_letters import show as show_letters
from cpa.core.forms import WrongAnswer
from cpa.errors import BadInput, Conflict

FORM = {
    "betrag": {"type": "number", "label": "Betrag in Euro"},
    "weg": {"type": "choice", "choices": ["Post", "Mail"]},
    "tag": {"type": "date", "required": False},
    "sicher": {"type": "flag"},
}
ASKED = {"kind": "input", "form": FORM}
BROKEN = [
    {"id": "first", "action": "flow.noop", "arguments": {"value": "Grüße"}},
    {"id": "größe", "action": "flow.noop", "arguments": {"value": "{{ tasks.first.result.value.nichts }}"}},
    {"id": "last", "action": "flow.noop", "depends_on": ["größe"]},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    folder = tmp_path_factory.mktemp("people")
    with serving(folder, CPA_ALLOW_PRIVATE=json.dumps(["127.0.0.1"])) as running:
        yield running


@pytest.fixture(scope="module")
def keys(server: Scheduler) -> dict[str, str]:
    """A key for each of three people; who asks for jobs is the admin."""
    return {name: cpa(server, "keys", "add", name).stdout.strip() for name in ("anna", "jörg", "uwe")}


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in time: {what}")


def open_question(server: Scheduler, job: str, task: str = "") -> dict[str, Any]:
    def asking() -> list[dict[str, Any]]:
        with Client(server.url, server.key) as api:
            found = api.get("/questions", limit=200)["questions"]
        return [each for each in found if each["job"] == job and task in ("", each["task"])]

    return dict(until(asking, f"a question of {job}")[0])


def status(server: Scheduler, job: str) -> str:
    with Client(server.url, server.key) as api:
        return str(api.get(f"/jobs/{job}", wait=20, patience=20)["status"])


def test_two_of_three_allow_what_they_saw(server: Scheduler, keys: dict[str, str]) -> None:
    approval = {"needed": 2, "approvers": ["anna", "jörg", "uwe"], "expires": 3600}
    task = {"id": "größe", "action": "flow.noop", "arguments": {"value": "ä" * 300}, "approval": approval}
    job = submitted(server, [task])
    question = open_question(server, job)

    listed = cpa(server, "approvals").stdout
    assert all(len(line) <= 80 for line in listed.splitlines()), listed
    assert "May task größe do flow.noop?" in listed
    assert "open until" in listed
    assert "".join(listed.split()).count("ä") >= 300
    assert "may answer: anna, jörg, uwe" in listed
    assert "0 of 2 said yes; not admin, who asked for it" in listed
    [line] = [each.split() for each in listed.splitlines() if f"cpa answer {question['id']} yes" in each]
    assert line[:4] == ["cpa", "answer", question["id"], "yes"]

    first = cpa(server, *line[1:], CPA_API_KEY=keys["jörg"])
    assert first.stdout.strip() == "answered yes to flow.noop of task größe: 1 of 2 said yes (jörg)"
    again = cpa(server, *line[1:], CPA_API_KEY=keys["jörg"])
    assert (again.returncode, again.stdout.strip()) == (
        0,
        "you had said so before; nothing changed: 1 of 2 said yes (jörg)",
    )
    other = cpa(server, "answer", question["id"], "yes", "--digest", "00000000", CPA_API_KEY=keys["uwe"])
    assert (other.returncode, other.stderr.count("\n")) == (1, 1)
    assert "cpa approvals" in other.stderr
    second = cpa(server, "answer", question["id"], "ja", CPA_API_KEY=keys["uwe"])
    assert second.stdout.strip() == "answered yes to flow.noop of task größe"
    assert status(server, job) == "done"

    trail = json.loads(cpa(server, "audit", "--job", job, "--json").stdout)["entries"]
    votes = {each["by"]: each["details"]["digest"] for each in trail if each["what"] == "question_answered"}
    assert votes == {"jörg": question["digest"], "uwe": question["digest"]}
    assert "jörg" in cpa(server, "audit", "--job", job).stdout


def test_who_says_no_is_heard_with_the_reason(server: Scheduler, keys: dict[str, str]) -> None:
    job = submitted(server, [{"id": "senden", "action": "flow.noop", "approval": True}])
    question, note = open_question(server, job), "der Empfänger ist falsch"
    assert cpa(server, "answer", question["id"], "no", "--note", note, CPA_API_KEY=keys["anna"]).stdout
    assert status(server, job) == "failed"

    assert f"senden: anna said no: {note}" in cpa(server, "job", job).stdout
    assert f"anna said no: {note}" in cpa(server, "explain", job).stdout


def test_the_one_question_of_a_job_is_answered_by_naming_the_job(
    server: Scheduler, keys: dict[str, str]
) -> None:
    job = submitted(server, [{"id": "senden", "action": "flow.noop", "approval": True}])
    open_question(server, job)

    done = cpa(server, "answer", job, "yes", CPA_API_KEY=keys["anna"])
    assert done.stdout.strip() == "answered yes to flow.noop of task senden"
    assert status(server, job) == "done"

    again = cpa(server, "answer", job, "yes", CPA_API_KEY=keys["anna"])
    assert (again.returncode, again.stdout) == (2, "")
    assert f"nothing in this job waits for a person (`cpa explain {job}`" in again.stderr


def test_of_several_questions_of_a_job_each_is_named_with_what_answers_it(
    server: Scheduler, keys: dict[str, str]
) -> None:
    ask = {"question": "Wie viel?", "form": {"betrag": {"type": "number"}}}
    tasks = [
        {"id": "frage", "action": "person.ask", "arguments": ask},
        {"id": "senden", "action": "flow.noop", "approval": True},
    ]
    job = submitted(server, tasks)
    digest = open_question(server, job, "frage") and open_question(server, job, "senden")["digest"]

    done = cpa(server, "answer", job, "yes", CPA_API_KEY=keys["anna"])
    assert (done.returncode, done.stdout) == (2, "")
    head, form, approval = done.stderr.splitlines()
    assert head == "cpa: 2 questions of this job are open; answer one of them:"
    assert form == f"cpa: frage (input): cpa answer {job}.0.0 betrag=… | cpa answer {job}.0.0 no"
    yes, no = f"cpa answer {job}.1.0 yes --digest {digest[:10]}", f"cpa answer {job}.1.0 no"
    assert approval == f"cpa: senden (approval): {yes} | {no}"
    assert cpa(server, *yes.split()[1:], CPA_API_KEY=keys["anna"]).returncode == 0
    assert cpa(server, "answer", job, "betrag=119,50", CPA_API_KEY=keys["anna"]).stdout == "answered\n"
    assert status(server, job) == "done"


def test_a_form_is_filled_in_in_words(server: Scheduler, keys: dict[str, str]) -> None:
    ask = {"question": "Wie viel für „Büro Süd“?", "form": FORM}
    job = submitted(server, [{"id": "frage", "action": "person.ask", "arguments": ask}])
    question = open_question(server, job)

    listed = cpa(server, "questions").stdout
    assert "Wie viel für „Büro Süd“?" in listed
    assert "betrag: number (Betrag in Euro)" in listed
    assert "weg: one of Post, Mail" in listed
    assert question["id"] not in cpa(server, "approvals").stdout

    wrong = cpa(server, "answer", question["id"], "betrag=viel", "weg=Fax", "sicher=ja")
    assert wrong.returncode == 2
    assert [line.split(":")[1].strip() for line in wrong.stderr.splitlines()] == [
        "answer.betrag",
        "answer.weg",
    ]

    right = cpa(server, "answer", question["id"], "betrag=119,50", "weg=Post", "sicher=ja", "tag=24.12.2026")
    assert (right.returncode, right.stdout) == (0, "answered\n"), right.stderr
    assert status(server, job) == "done"
    again = cpa(server, "answer", question["id"], "tag=24.12.2026", "betrag=119.5", "weg=Post", "sicher=ja")
    assert (again.returncode, again.stdout) == (0, "you had said so before; nothing changed\n"), again.stderr
    other = cpa(server, "answer", question["id"], "betrag=1", "weg=Post", "sicher=ja")
    assert (other.returncode, "not open any more" in other.stderr) == (1, True)
    with Client(server.url, server.key) as api:
        [task] = api.get(f"/jobs/{job}/tasks")["tasks"]
    assert task["result"] == {"betrag": 119.5, "weg": "Post", "tag": "2026-12-24", "sicher": True}


def test_a_dead_letter_is_corrected_and_goes_on(server: Scheduler) -> None:
    job = dead(server)

    listed = cpa(server, "dead-letters").stdout
    assert all(len(line) <= 80 for line in listed.splitlines()), listed
    assert "failed 4 times" in listed
    assert "größe (flow.noop): reference_missing" in listed
    assert "not reached: last" in listed
    assert f"cpa dead-letters retry {job}" in listed
    refused = cpa(server, "retry", job)
    assert (refused.returncode, "cpa dead-letters retry" in refused.stderr) == (1, True)
    assert "cpa dead-letters" in cpa(server, "job", job).stdout

    wrong = cpa(server, "dead-letters", "retry", job, "--fix", "nirgends.wert=1")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "fixes.nirgends" in wrong.stderr
    fixed = cpa(server, "dead-letters", "retry", job, "--fix", "größe.value=korrigiert", "--watch")
    assert fixed.returncode == 0, fixed.stderr
    assert "task größe is done" in fixed.stdout
    assert "Task größe failed" not in fixed.stdout, "of an earlier run"
    assert "Task first" not in fixed.stdout, "of an earlier run"
    assert job not in cpa(server, "dead-letters").stdout
    with Client(server.url, server.key) as api:
        tasks = api.get(f"/jobs/{job}/tasks")["tasks"]
    assert tasks[1]["result"] == {"value": "korrigiert"}


def test_watching_a_retry_begins_with_it(server: Scheduler) -> None:
    with Client(server.url, server.key) as api:
        job = str(api.post("/jobs", {"task_graph": BROKEN})["job_id"])
    assert status(server, job) == "failed"
    watched = cpa(server, "retry", job, "--watch")

    assert watched.returncode == 1
    assert watched.stdout.count("Task größe failed") == 1
    assert "Task first" not in watched.stdout


def test_a_dead_letter_is_discarded_once(server: Scheduler) -> None:
    job = dead(server)
    assert cpa(server, "dead-letters", "discard", job).returncode == 2
    assert cpa(server, "dead-letters", "discard", job, "--note", "storniert").returncode == 0
    again = cpa(server, "dead-letters", "discard", job, "--note", "storniert")

    assert (again.returncode, len(again.stderr.splitlines())) == (1, 1)
    assert job not in cpa(server, "dead-letters").stdout
    assert "storniert" in cpa(server, "audit", "--job", job).stdout
    done = cpa(server, "dead-letters", "retry", job, "--done", "größe={}", "--skip", "last", "--watch")
    assert done.returncode == 0, done.stderr


def dead(server: Scheduler) -> str:
    """A job whose retries are used up."""
    with Client(server.url, server.key) as api:
        job = str(api.post("/jobs", {"task_graph": BROKEN})["job_id"])
        for _ in range(3):
            assert api.get(f"/jobs/{job}", wait=20, patience=20)["status"] == "failed"
            api.post(f"/jobs/{job}/retry")
        assert api.get(f"/jobs/{job}", wait=20, patience=20)["job"]["dead_letter"]
    return job


# -- words to values, without a server ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "meant"),
    [("yes", True), ("JA", True), ("no", False), ("Nein", False), ("x=1", None), ("", None)],
)
def test_yes_and_no_are_known_in_two_languages(word: str, meant: bool | None) -> None:
    assert decision(word) is meant


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", "7", 7),
        ("number", "-7.5", -7.5),
        ("number", "7,5", 7.5),
        ("number", "1.234,5", 1234.5),
        ("number", "1,234.5", 1234.5),
        ("number", "1.234", "1.234"),
        ("number", "sieben", "sieben"),
        ("flag", "Ja", True),
        ("flag", "falsch", False),
        ("flag", "vielleicht", "vielleicht"),
        ("date", "24.12.2026", "2026-12-24"),
        ("date", "31.02.2026", "31.02.2026"),
        ("text", " ä ", " ä "),
    ],
)
def test_what_is_typed_becomes_a_value(kind: str, text: str, value: Any) -> None:
    assert typed(kind, text) == value


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(WrongAnswer) as caught:
        filled(ASKED, ["betrag=nichts", "ort=Wien"])

    assert [each.field for each in caught.value.problems] == [
        "answer.ort",
        "answer.betrag",
        "answer.weg",
        "answer.sicher",
    ]


def test_each_wrong_value_is_named_with_what_works_and_once() -> None:
    with pytest.raises(WrongAnswer) as caught:
        filled(ASKED, ["betrag=1.234", "weg=Fax", "tag=31.2.2026", "sicher=vielleicht"])

    assert [str(each) for each in caught.value.problems] == [
        "answer.betrag: 1.234 can mean 1234 or 1.234 (write 1234, or 1.2340)",
        "answer.weg: 'Fax' is no choice (choose one of Post, Mail)",
        "answer.tag: '31.2.2026' is no day (write one as 24.12.2026 or 2026-12-24)",
        "answer.sicher: 'vielleicht' is neither yes nor no (say yes or no, or ja or nein)",
    ]


def test_a_choice_is_meant_whatever_its_capitals() -> None:
    assert filled(ASKED, ["betrag=1", "weg=post", "sicher=ja"])["weg"] == "Post"
    both = {"kind": "input", "form": {"weg": {"type": "choice", "choices": ["Post", "POST"]}}}
    assert filled(both, ["weg=POST"]) == {"weg": "POST"}
    with pytest.raises(WrongAnswer, match="'post' is no choice"):
        filled(both, ["weg=post"])


def test_too_few_digits_of_an_action_are_said_to_be_too_few() -> None:
    with pytest.raises(BadInput, match=r"digest: 'abc' is too short \(give its first 8 digits or more"):
        chosen_digest({"digest": "abc" + "0" * 61}, "abc")
    with pytest.raises(Conflict, match="not the action with this digest"):
        chosen_digest({"digest": "abc" + "0" * 61}, "00000000")


def test_an_amount_that_could_be_two_is_asked_for_again() -> None:
    with pytest.raises(
        BadInput, match=r"answer\.betrag: 1\.234 can mean 1234 or 1\.234 \(write 1234, or 1\.2340\)"
    ):
        filled(ASKED, ["betrag=1.234", "weg=Post", "sicher=ja"])
    assert filled(ASKED, ["betrag=1.234,50", "weg=Post", "sicher=ja"])["betrag"] == 1234.5


@pytest.mark.parametrize("said", [["ja"], ["betrag"]])
def test_a_form_wants_its_fields(said: list[str]) -> None:
    with pytest.raises(BadInput, match="betrag=…"):
        filled(ASKED, said)


ONE = {"kind": "input", "form": {"name": {"type": "text"}}}


@pytest.mark.parametrize("said", [["Jörg Größner"], ["Jörg", "Größner"], ["name=Jörg Größner"]])
def test_the_one_text_a_question_asks_for_needs_no_name(said: list[str]) -> None:
    assert filled(ONE, said) == {"name": "Jörg Größner"}


def test_a_text_with_a_sign_of_equality_is_no_field_of_another_name() -> None:
    assert filled(ONE, ["name=a=b"]) == {"name": "a=b"}
    with pytest.raises(WrongAnswer, match="nmae"):
        filled(ONE, ["nmae=Jörg"])


@pytest.mark.parametrize(
    "form",
    [
        {"name": {"type": "number"}},
        {"name": {"type": "flag"}},
        {"a": {"type": "text"}, "b": {"required": False}},
    ],
)
def test_only_one_text_alone_needs_no_name(form: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="this question has a form"):
        filled({"kind": "input", "form": form}, ["Jörg"])


def test_an_approval_has_no_fields() -> None:
    with pytest.raises(BadInput, match="yes or no"):
        filled({"kind": "approval", "form": None}, ["betrag=1"])


class Mute(BaseHTTPRequestHandler):
    """Takes what it is sent, and hangs up."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def test_a_no_to_a_doubt_says_that_it_is_done_again_and_a_cancelled_job_is_not(server: Scheduler) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Mute) as target:
        Thread(target=target.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{target.server_port}/"
        arguments = {"url": url, "method": "POST", "json": {"menge": 1}}
        book = {"id": "buchen", "action": "http.request", "arguments": arguments, "effect": "unsafe"}
        job = submitted(server, {"tasks": [book]})
        first = open_question(server, job)
        again = cpa(server, "answer", job, "no")
        second = until(lambda: {open_question(server, job)["id"]} - {first["id"]}, "a second doubt")
        cancelled = cpa(server, "cancel", job)
        ended = cpa(server, "answer", job, "no")
        target.shutdown()

    said = "answered no to http.request of task buchen"
    assert again.stdout == f"{said}: it is done again; `cpa cancel {job}` ends the job instead\n"
    assert f"it did not:  cpa answer {second.pop()} no\n" in cancelled.stdout
    assert "The run is ending" in " ".join(cancelled.stdout.split())
    assert ended.stdout == f"{said}\n"
    assert json.loads(cpa(server, "job", job, "--json").stdout)["status"] == "cancelled"


def test_to_a_doubt_yes_means_that_it_happened() -> None:
    with pytest.raises(BadInput, match=r"vielleicht.*say yes, it happened; or no, it did not"):
        filled({"kind": "doubt", "form": None}, ["vielleicht"])


def test_corrections_keep_the_other_arguments() -> None:
    arguments = {"to": "a@b.example", "cc": ["x@y.example"], "text": "5"}
    tasks = [{"id": "send", "action": "mail.send", "arguments": arguments}]

    assert fixes(tasks, ["send.to=c@d.example", 'send.cc=["ä@y.example"]', "send.text=7", "neu.x=1"]) == {
        "send": {"to": "c@d.example", "cc": ["ä@y.example"], "text": "7"},
        "neu": {"x": 1},
    }
    for broken in ("send", "send=1", "send.to", ".to=1"):
        with pytest.raises(BadInput, match=r"TASK\.ARGUMENT=VALUE"):
            fixes(tasks, [broken])


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("pay.amonut=1", r"did you mean amount\? it has: amount, to"),
        ("send.tto=x", r"did you mean to\? it has: to, cc, "),
        ("none.value=1", "it has: none"),
    ],
)
def test_a_misspelled_argument_is_refused_with_those_there_are(word: str, remedy: str) -> None:
    tasks = [
        {"id": "pay", "action": "x.bank.pay", "arguments": {"amount": 5, "to": "Büro"}},
        {"id": "send", "action": "mail.send", "arguments": {"to": "a@b.example"}},
        {"id": "none", "action": "flow.noop", "arguments": {}},
    ]
    with pytest.raises(BadInput, match=rf"--fix: task \w+ has no argument '\w+' \({remedy}"):
        fixes(tasks, [word])
    # One that the plan left out is one all the same.
    assert fixes(tasks, ["send.cc=b@b.example"])["send"]["cc"] == "b@b.example"


def test_a_number_in_place_of_a_number_is_read_as_people_write_it() -> None:
    tasks = [{"id": "pay", "action": "x.bank.pay", "arguments": {"amount": 5}}]

    assert fixes(tasks, ["pay.amount=1.234,50"]) == {"pay": {"amount": 1234.5}}
    assert fixes(tasks, ["pay.amount={{ tasks.a.result.b }}"])["pay"] == {"amount": "{{ tasks.a.result.b }}"}
    with pytest.raises(BadInput, match=r"--fix pay\.amount: 1\.234 can mean 1234 or 1\.234"):
        fixes(tasks, ["pay.amount=1.234"])


@pytest.mark.parametrize(
    ("old", "text", "new"),
    [
        (True, "nein", False),
        (False, "Ja", True),
        (5, "6,5", 6.5),
        (["a"], '["c"]', ["c"]),
        (["a"], '"c"', "c"),
        ({"k": 1}, "{{ tasks.a.result.b }}", "{{ tasks.a.result.b }}"),
        ("5", "nein", "nein"),
        (None, "nein", "nein"),
    ],
)
def test_a_correction_is_of_the_kind_that_stood_there(old: Any, text: str, new: Any) -> None:
    assert meant(text, old) == new


@pytest.mark.parametrize(("old", "text"), [(True, "vielleicht"), (5, "viel"), (["a"], "c"), ({"k": 1}, "x")])
def test_a_correction_of_another_kind_is_refused_with_how_to_mean_it(old: Any, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        meant(text, old, "--fix q.x")

    assert caught.value.value == text
    assert f"""'"{text}"'""" in str(caught.value.remedy)


def test_an_argument_that_was_missing_is_given_to_an_action_of_ones_own() -> None:
    tasks = [{"id": "e", "action": "x.rechner.add", "arguments": {"a": 2, "summand": 3}}]

    assert fixes(tasks, ["e.b=3"]) == {"e": {"a": 2, "summand": 3, "b": 3}}
    with pytest.raises(BadInput, match="sumand"):
        fixes(tasks, ["e.sumand=4"])


def test_an_argument_is_taken_away() -> None:
    tasks = [
        {"id": "e", "action": "x.rechner.add", "arguments": {"a": 2, "b": 3, "c": 4}},
        {"id": "f", "action": "x.rechner.add", "arguments": {"a": 1}},
    ]
    assert fixes(tasks, ["e.b=5"], ["e.c"]) == {"e": {"a": 2, "b": 5}}
    assert fixes(tasks, [], ["f.a", "e.c"]) == {"f": {}, "e": {"a": 2, "b": 3}}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("e.C", r"the job has no argument 'e.C' \(write TASK.ARGUMENT; e has a, c\)"),
        ("e", r"the job has no argument 'e' \(write TASK.ARGUMENT; e has a, c\)"),
        ("g.a", r"the job has no argument 'g.a' \(write TASK.ARGUMENT; its tasks are e\)"),
    ],
)
def test_what_is_to_be_taken_away_must_be_there(word: str, said: str) -> None:
    with pytest.raises(BadInput, match=f"--unset: {said}"):
        fixes([{"id": "e", "action": "x.rechner.add", "arguments": {"a": 2, "c": 4}}], [], [word])


def test_what_one_may_answer_comes_first_with_what_it_is_for(server: Scheduler, keys: dict[str, str]) -> None:
    def asked(who: str) -> str:
        task = {"id": "frage", "action": "flow.noop", "approval": {"approvers": [who]}}
        plan = {"description": f"Rechnung\x1b[2J an\n{who} " + "größer " * 30, "tasks": [task]}
        return str(open_question(server, submitted(server, plan))["id"])

    uwes, annas = asked("uwe"), asked("anna")
    lines = cpa(server, "approvals", CPA_API_KEY=keys["anna"]).stdout.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]

    [mine] = [at for at, line in enumerate(heads) if line.startswith(annas)]
    [other] = [at for at, line in enumerate(heads) if line.startswith(uwes)]
    assert mine < other
    assert heads[mine].endswith(", for you")
    assert "for you" not in heads[other]
    below = lines[lines.index(heads[mine]) + 1 :]
    assert below[0].startswith("    job: Rechnung [2J an anna größer")
    assert below[0].endswith("…")
    assert below[1] == "    asked for by admin"
    assert not set("".join(lines)) & {"\x1b"}


def test_a_task_that_stays_done_is_named_with_what_has_it_done_again(server: Scheduler) -> None:
    tasks = [BROKEN[0], {"id": "next", "action": "flow.noop", "depends_on": ["first"]}, *BROKEN[1:]]
    job = submitted(server, tasks)
    assert status(server, job) == "failed"
    fixed = ("--fix", "größe.value=da", "--fix", "first.value=Müller", "--skip", "next")
    refused = cpa(server, "dead-letters", "retry", job, *fixed)
    assert refused.returncode == 1
    assert "what stays done is not changed: first, next" in refused.stderr
    assert "--again first --again next" in refused.stderr

    # What is done again has what depends on it done again.
    assert cpa(server, "dead-letters", "retry", job, *fixed, "--again", "first", "--watch").returncode == 0
    with Client(server.url, server.key) as api:
        done = api.get(f"/jobs/{job}")["tasks"]
    assert [each["status"] for each in done] == ["done", "skipped", "done", "done"]


def test_where_none_waits_what_failed_is_still_counted(server: Scheduler) -> None:
    job = submitted(server, BROKEN)
    assert status(server, job) == "failed"
    with Client(server.url, server.key) as api:
        failed = api.get("/jobs", status="failed", limit=1)["total"]
    listed = cpa(server, "dead-letters").stdout.splitlines()

    assert listed == [
        "no job waits to be taken up by hand",
        f"{failed} {'job' if failed == 1 else 'jobs'} failed: cpa jobs --status failed",
    ]


def test_a_job_goes_on_without_an_argument(server: Scheduler) -> None:
    job = submitted(server, BROKEN)
    assert status(server, job) == "failed"
    assert cpa(server, "dead-letters", "retry", job, "--unset", "größe.value", "--watch").returncode == 0
    with Client(server.url, server.key) as api:
        assert api.get(f"/jobs/{job}")["tasks"][1]["arguments"] == {}


def test_a_wrong_correction_is_corrected_before_it_runs(server: Scheduler) -> None:
    job = submitted(server, [BROKEN[0], {**BROKEN[1], "approval": True}])
    cancelled = cpa(server, "cancel", job)
    assert cancelled.returncode == 0, cancelled.stderr
    misspelled = cpa(server, "dead-letters", "retry", job, "--fix", "größe.valeu=falsch")
    assert (misspelled.returncode, "did you mean value?" in misspelled.stderr) == (2, True)

    assert cpa(server, "dead-letters", "retry", job, "--fix", "größe.value=falsch").returncode == 0
    open_question(server, job)
    running = cpa(server, "dead-letters", "retry", job, "--fix", "größe.value=richtig")
    assert (running.returncode, "cpa cancel" in running.stderr) == (1, True)
    assert cpa(server, "cancel", job).returncode == 0
    assert cpa(server, "dead-letters", "retry", job, "--fix", "größe.value=richtig").returncode == 0
    assert open_question(server, job)["arguments"] == {"value": "richtig"}


def test_a_result_by_hand_is_json() -> None:
    assert by_hand('send={"ok": true}') == ("send", {"ok": True})
    assert by_hand("send") == ("send", {})
    with pytest.raises(BadInput, match="no JSON"):
        by_hand("send=ok")


def test_nothing_from_elsewhere_makes_the_terminal_act(capsys: pytest.CaptureFixture[str]) -> None:
    question = {
        "id": "j.0.1",
        "kind": "proposal",
        "task": "send",
        "text": "Darf es?\x1b[2J",
        "since": None,
        "arguments": {"to": "x\x1b]0;y\x07", "subject": "neu"},
        "instead_of": {"to": "x\x1b]0;y\x07", "subject": "alt"},
        "form": None,
        "digest": "ab" * 32,
        "approvers": [],
        "needed": 1,
        "given": [],
        "requester": None,
    }
    show([question])
    error = {"code": "x", "message": "\x1b[31mrot", "remedy": "wieder"}
    task = {"id": "a", "action": "flow.noop", "error": error, "arguments": {"v": "z" * 1000}}
    job = {"id": "j", "retry_count": 0, "ended_at": None, "description": "", "intent": ""}
    show_letters({"dead_letters": [{"job": job, "failed": [task], "left": []}], "total": 2})

    said = capsys.readouterr().out
    assert not set(said) & {"\x1b", "\x07"}
    assert "subject: alt" in said
    assert "all of it: --json" in said
    assert "1 of 2; see more" in said
