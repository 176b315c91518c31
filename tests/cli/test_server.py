"""The command line against a real server: from `cpa serve` to `cpa replay`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.servers.scheduler import Scheduler, clean_environment, serving

from cpa.cli.client import Client
from cpa.cli.terminal import sign
from cpa.errors import Unauthorized

GRAPH = {
    "tasks": [
        {"id": "öffnen", "action": "flow.noop", "arguments": {"value": "Grüße"}},
        {"id": "schließen", "action": "flow.noop", "depends_on": ["öffnen"]},
    ]
}
APPROVED = {"tasks": [{"id": "frage", "action": "flow.noop", "approval": True}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


def cpa(server: Scheduler, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the server's folder, where it finds the key by itself."""
    return subprocess.run(
        [sys.executable, "-m", "cpa", *arguments],
        cwd=server.data.parent,
        env=clean_environment(CPA_URL=server.url) | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def submitted(server: Scheduler, graph: Any, *options: str) -> str:
    (server.data.parent / "plan.json").write_text(json.dumps(graph))
    done = cpa(server, "submit", "--graph", "plan.json", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_ready_line_names_address_and_folder(server: Scheduler) -> None:
    assert server.url in server.line
    assert str(server.data) in server.line


def test_the_first_key_is_for_its_owner_alone(server: Scheduler) -> None:
    assert stat.S_IMODE((server.data / "admin.key").stat().st_mode) == 0o600


def test_a_graph_is_submitted_watched_and_listed(server: Scheduler) -> None:
    job = submitted(server, GRAPH)
    watched = cpa(server, "job", job, "--watch")

    assert watched.returncode == 0, watched.stderr
    assert "task schließen is done" in watched.stdout
    assert "\x1b" not in watched.stdout

    page = json.loads(cpa(server, "jobs", "--json").stdout)

    assert job in [each["id"] for each in page["jobs"]]
    assert job in cpa(server, "jobs", "--status", "done").stdout


def test_a_plan_says_itself_what_it_is_for(server: Scheduler) -> None:
    own = submitted(server, GRAPH | {"description": "Die Türen"})
    told = submitted(server, GRAPH | {"description": "Die Türen"}, "Nur die Tür am Hof")
    [newer, older] = json.loads(cpa(server, "jobs", "--limit", "2", "--json").stdout)["jobs"]

    assert (older["id"], older["description"]) == (own, "Die Türen")
    assert (newer["id"], newer["description"]) == (told, "Nur die Tür am Hof")


def test_a_plan_is_read_as_editors_write_it(server: Scheduler) -> None:
    marked = server.data.parent / "marked.json"
    marked.write_text(json.dumps(GRAPH | {"description": "Die Türen"}), "utf-8-sig")
    written = server.data.parent / "plan.yml"
    written.write_text(
        "description: Die Türen\n"
        "tasks:\n"
        "  - {id: öffnen, action: flow.noop, arguments: {value: Grüße}}\n"
        "  - id: schließen\n    action: flow.noop\n    depends_on: [öffnen]\n",
        "utf-8-sig",
    )
    jobs = [cpa(server, "submit", "--graph", file.name).stdout.strip() for file in (marked, written)]

    with Client(server.url, server.key) as api:
        plans = [api.get(f"/jobs/{job}") for job in jobs]
    assert [plan["job"]["description"] for plan in plans] == ["Die Türen"] * 2
    first, second = (
        [(each["id"], each["arguments"], each["depends_on"]) for each in plan["tasks"]] for plan in plans
    )
    assert first == second == [("öffnen", {"value": "Grüße"}, []), ("schließen", {}, ["öffnen"])]


def test_a_wrong_choice_is_named_as_the_option_it_is(server: Scheduler) -> None:
    wrong = cpa(server, "jobs", "--status", "offen")

    assert wrong.returncode == 2
    assert wrong.stderr.startswith("cpa: --status: ")
    assert "openapi" not in wrong.stderr


def test_what_a_sentence_leaves_open_is_asked_for_where_somebody_can_answer(server: Scheduler) -> None:
    sentence = "Schreibe eine Mail an anna@kunde.example"
    refused = cpa(server, "submit", sentence, "--dry-run")
    replied = cpa(server, "submit", sentence, "--dry-run", "--reply", "text=Bis morgen.")
    wrong = cpa(server, "submit", sentence, "--dry-run", "--reply", "txt=Bis morgen.")

    assert (refused.returncode, replied.returncode, wrong.returncode) == (1, 0, 2)
    assert refused.stderr.splitlines() == [
        "cpa: Was soll in der Mail stehen? Zum Beispiel: Das Paket ist angekommen.",
        "cpa: answer with --reply text=...",
    ]
    assert "Bis morgen." in replied.stdout
    assert "Did you mean text?" in wrong.stderr

    ours, theirs = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "cpa", "submit", sentence, "--dry-run"],
        cwd=server.data.parent,
        env=clean_environment(CPA_URL=server.url),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.write(ours, "Grüße aus Köln\n".encode())
    shown, _ = asking.communicate(timeout=60)
    os.close(theirs)
    asked = os.read(ours, 4096).decode()
    os.close(ours)

    assert asking.returncode == 0
    assert "Was soll in der Mail stehen?" in asked
    assert "Grüße aus Köln" in shown


def test_waiting_ends_with_the_job(server: Scheduler) -> None:
    (server.data.parent / "plan.json").write_text(json.dumps(GRAPH))
    done = cpa(server, "submit", "--graph", "plan.json", "--wait", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] == "done"


def test_a_job_is_named_by_a_part_of_its_id_or_as_the_last(server: Scheduler) -> None:
    older, job = submitted(server, GRAPH, "--wait"), submitted(server, GRAPH, "--wait", "--json")
    job = json.loads(job)["job"]["id"]
    for typed in (job[:-2], job[-10:], f"…{job[-8:]}", "last", job.upper()):
        assert json.loads(cpa(server, "job", typed, "--json").stdout)["job"]["id"] == job
    assert job not in older
    assert job in cpa(server, "audit", "--job", "last").stdout

    several = cpa(server, "explain", job[:2])
    assert several.returncode == 2
    assert job in several.stderr
    assert len(several.stderr.splitlines()) == 1


def test_the_trail_says_who(server: Scheduler) -> None:
    job = json.loads(submitted(server, GRAPH, "--wait", "--json"))["job"]["id"]
    lines = [line.split("\t") for line in cpa(server, "audit", "--job", job).stdout.splitlines()]
    did = {what.split(" (")[0].split(" is done")[0]: who for _, who, what, *_ in lines[1:]}

    assert did["Agent says that task öffnen"].startswith("agent://")
    assert did["Job accepted with 2 tasks."] == "admin"
    assert "scheduler" in did.values()
    assert "-" not in did.values()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:", line[0]) for line in lines[1:])

    entries = json.loads(cpa(server, "audit", "--job", job, "--json").stdout)["entries"]
    [agent] = {each["agent"] for each in entries if each["what"].startswith("task_")}
    _, *page = cpa(server, "audit", "--job", job, "--limit", "1").stdout.splitlines()
    assert [line.split("\t")[1] for line in page] == [agent]


def test_on_a_narrow_terminal_ids_stay_whole(server: Scheduler) -> None:
    job = json.loads(submitted(server, GRAPH, "--wait", "--json"))["job"]["id"]
    for command in (["jobs"], ["job", job], ["agents", "list"]):
        shown = on_a_terminal(server, *command, columns=80)
        assert job in shown or command[0] == "agents"
        assert max(map(len, shown.splitlines())) <= 80 or command[0] == "job", shown
    trail = on_a_terminal(server, "audit", columns=80)
    assert f"…{job[-8:]}" in trail
    assert "task öffnen is done" in trail
    assert max(map(len, trail.splitlines())) <= 80, trail


def test_a_terminal_that_moves_no_cursor_is_told_each_event(server: Scheduler) -> None:
    (server.data.parent / "plan.json").write_text(json.dumps(GRAPH))
    shown = on_a_terminal(
        server, "submit", "--graph", "plan.json", "--watch", columns=80, TERM="dumb", NO_COLOR=""
    )

    assert "Agent says that task öffnen is done" in shown
    assert "Agent says that task schließen is done" in shown


def on_a_terminal(server: Scheduler, *arguments: str, columns: int, **environment: str) -> str:
    """What a command shows to somebody who looks at it, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "cpa", *arguments],
        cwd=server.data.parent,
        env=clean_environment(**{"CPA_URL": server.url, "TERM": "xterm", "NO_COLOR": "1"} | environment),
        stdout=theirs,
        stderr=subprocess.STDOUT,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # A terminal nobody writes to any more.
        while piece := os.read(ours, 65_536):
            shown += piece
    os.close(ours)
    assert process.wait(60) == 0, shown.decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "")


def test_the_part_of_the_server_is_an_agent_that_is_shown_and_stays(server: Scheduler) -> None:
    [part] = json.loads(cpa(server, "agents", "list", "--json").stdout)["agents"]
    shown = cpa(server, "agents", "show", part["name"])
    refused = cpa(server, "agents", "drain", part["name"])

    assert shown.stdout.startswith(f"{part['address']}  a part of the server itself\n"), shown.stderr
    assert "state:   active, online\n" in shown.stdout
    assert "does:    file.move" in shown.stdout
    assert (refused.returncode, "--no-builtin" in refused.stderr) == (2, True)


def test_agents_alone_lists_them(server: Scheduler) -> None:
    alone, listed = (
        re.sub(r"\d+ \w+ ago", "", cpa(server, *words).stdout) for words in (("agents",), ("agents", "list"))
    )

    assert alone == listed
    assert alone.startswith("agent\ttype\tstate")
    assert json.loads(cpa(server, "agents", "--json").stdout)["agents"]
    assert cpa(server, "agents", "no-such").returncode == 2


def test_who_was_revoked_is_listed_and_shown_where_that_is_asked_for(server: Scheduler) -> None:
    about = {"name": "büro", "type": "DATA", "capabilities": ["http.request"]}
    with Client(server.url, server.key) as api:
        for _ in range(2):
            told = api.post("/agents/register", about)
            assert cpa(server, "agents", "revoke", "büro").returncode == 0

    assert "büro" not in cpa(server, "agents", "list").stdout
    listed = cpa(server, "agents", "list", "--status", "revoked").stdout
    assert listed.count("\tDATA\trevoked\t") == 2
    assert f"agent://data/büro  {told['agent_id']}" in cpa(server, "agents", "show", "büro").stdout
    assert cpa(server, "agents", "list", "--status", "gone").returncode == 2


def test_the_same_idempotency_key_is_the_same_job(server: Scheduler) -> None:
    first = submitted(server, GRAPH, "--idempotency-key", "bestellung-1")

    assert submitted(server, GRAPH, "--idempotency-key", "bestellung-1") == first


def test_a_dry_run_stores_nothing(server: Scheduler) -> None:
    before = json.loads(cpa(server, "jobs", "--json").stdout)["total"]
    shown = submitted(server, GRAPH, "--dry-run")

    assert "schließen  flow.noop  after öffnen" in shown
    assert "value: Grüße" in shown
    assert json.loads(cpa(server, "jobs", "--json").stdout)["total"] == before


def test_an_approval_is_asked_explained_and_answered(server: Scheduler) -> None:
    job = submitted(server, APPROVED)
    question = question_of(server, job)
    explained = cpa(server, "explain", job)

    assert "frage" in explained.stdout
    assert "remedy" in explained.stdout
    assert question in cpa(server, "questions").stdout

    own = cpa(server, "answer", question, "yes")
    assert (own.returncode, len(own.stderr.splitlines())) == (4, 1)
    key = cpa(server, "keys", "add", "jörg").stdout.strip()
    answered = cpa(server, "answer", question, "yes", "--note", "geprüft", CPA_API_KEY=key)

    assert answered.returncode == 0, answered.stderr
    assert cpa(server, "job", job, "--wait").returncode == 0
    assert cpa(server, "answer", question, "no").returncode == 1


def test_results_are_shown_and_files_saved_under_harmless_names(server: Scheduler, tmp_path: Path) -> None:
    with httpx2.Client(base_url=server.url, headers={"X-API-Key": server.key}) as api:
        stored = api.post("/artifacts", params={"name": "../Über sicht.pdf"}, content=b"%PDF").json()
    graph = {
        "tasks": [
            {"id": "datei", "action": "flow.noop", "arguments": {"value": stored}},
            {"id": "namen", "action": "flow.noop", "arguments": {"value": ["ACME", "Müller"]}},
        ]
    }
    job = submitted(server, graph)
    shown = cpa(server, "job", job, "--wait").stdout
    name = re.search(r"file: (\S+), from datei, 4 bytes", shown)
    assert name is not None, shown
    assert "namen.value: ACME, Müller" in shown
    assert "namen.value: ACME, Müller" in cpa(server, "explain", job).stdout
    assert name[0] in cpa(server, "files", job).stdout

    folder = tmp_path / "neu"
    for _ in range(2):  # The same file again changes nothing.
        done = cpa(server, "files", job, "--save", str(folder), "--json")
        assert done.returncode == 0, done.stderr
        assert [each["saved"] for each in json.loads(done.stdout)] == [str(folder / name[1])]
    assert [each.read_bytes() for each in folder.iterdir()] == [b"%PDF"]
    (folder / name[1]).write_text("mine")
    assert cpa(server, "files", job, "--save", str(folder)).returncode == 0
    assert (folder / name[1]).read_text() == "mine"
    assert len(list(folder.iterdir())) == 2
    refused = cpa(server, "files", job, "--save", str(folder / name[1]))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_a_file_that_is_not_there_keeps_nobody_from_the_others(server: Scheduler, tmp_path: Path) -> None:
    with httpx2.Client(base_url=server.url, headers={"X-API-Key": server.key}) as api:
        stored = api.post("/artifacts", params={"name": "da.txt"}, content=b"da").json()
    made_up = [{"artifact": "sha256:" + "0" * 64, "name": "x"}, {"artifact": "../../etc/passwd", "name": "y"}]
    graph = {"tasks": [{"action": "flow.noop", "arguments": {"value": [*made_up, stored]}}]}
    submitted(server, graph, "--wait")

    done = cpa(server, "files", "last", "--save", str(tmp_path / "neu"))

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "1 of the job's files" in done.stderr
    assert [each.read_bytes() for each in (tmp_path / "neu").iterdir()] == [b"da"]


@pytest.mark.parametrize("command", ["job", "explain"])
def test_the_first_line_says_which_job_it_is(command: str, server: Scheduler) -> None:
    job = submitted(server, APPROVED | {"description": "Die Tür\x1b[2J am\nHof"})
    first = cpa(server, command, "last").stdout.splitlines()[0]

    assert first.endswith(f"{job}  Die Tür [2J am Hof")


def test_when_a_job_is_to_start_is_said_once_and_in_local_time(server: Scheduler) -> None:
    job = submitted(server, GRAPH, "--at", "2099-01-01T12:00:00Z")
    explained = cpa(server, "explain", job, TZ="CET-1").stdout.splitlines()
    shown = cpa(server, "job", job, TZ="CET-1").stdout

    assert explained[1:] == [
        f"{sign('pending')} the job is pending: job_pending",
        "    evidence: The job is to start at 2099-01-01 13:00:00.",
        "    remedy:   Wait; it starts by itself.",
        "    actor:    nobody",
    ]
    assert "\nIt is to start at 2099-01-01 13:00:00.\n" in shown
    assert cpa(server, "cancel", job).returncode == 0
    assert "to start" not in cpa(server, "job", job).stdout


def test_what_nothing_shows_is_done_but_unproved_and_says_why(server: Scheduler) -> None:
    graph = {"tasks": [{"id": "senden", "action": "flow.noop", "effect": "verifiable"}]}
    shown = submitted(server, graph, "--wait")

    assert "done, unproved" in shown
    assert "unproved: senden" in shown
    explained = cpa(server, "explain", "last").stdout
    assert "senden is done: unproved" in explained
    assert "remedy" in explained


def test_a_question_shows_what_will_be_done_and_how_to_answer(server: Scheduler) -> None:
    graph = {
        "tasks": [
            {"id": "lesen", "action": "flow.noop", "arguments": {"value": "a@kunde.example"}},
            {
                "id": "senden",
                "action": "flow.noop",
                "arguments": {"value": "{{ tasks.lesen.result.value }}"},
                "depends_on": ["lesen"],
                "approval": True,
            },
        ]
    }
    job = submitted(server, graph)
    question = question_of(server, job)
    for command in (["questions"], ["explain", job], ["job", job]):
        shown = cpa(server, *command).stdout
        assert "value: a@kunde.example" in shown
        assert f"cpa answer {question} yes" in shown
        assert f"cpa answer {question} no" in shown

    key = cpa(server, "keys", "add", "jörg").stdout.strip()
    watching = subprocess.Popen(
        [sys.executable, "-m", "cpa", "job", job, "--watch"],
        cwd=server.data.parent,
        env=clean_environment(CPA_URL=server.url),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    with watching.stdout:
        for line in watching.stdout:  # Ends with the test's time limit if it is never asked.
            if f"cpa answer {question} yes" in line:
                short = f"{job[-10:]}.{question.partition('.')[2]}"
                assert cpa(server, "answer", short, "yes", CPA_API_KEY=key).returncode == 0
    assert watching.wait(60) == 0


def test_a_cancelled_job_ends_with_exit_code_one(server: Scheduler) -> None:
    job = submitted(server, APPROVED)
    question_of(server, job)

    cancelled = cpa(server, "cancel", job)
    assert cancelled.returncode == 0
    assert cancelled.stdout == f"{job} cancelled\n"
    assert cpa(server, "job", job, "--wait").returncode == 1
    assert cpa(server, "cancel", job).returncode == 1


def test_a_done_job_cannot_be_retried(server: Scheduler) -> None:
    job = submitted(server, GRAPH)
    cpa(server, "job", job, "--wait")
    done = cpa(server, "retry", job)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_status_is_known_whatever_its_capitals(server: Scheduler) -> None:
    jobs = cpa(server, "jobs", "--status", "Failed", "--json")
    agents = cpa(server, "agents", "list", "--status", "ONLINE", "--json")

    assert (jobs.returncode, agents.returncode) == (0, 0), jobs.stderr + agents.stderr
    assert {each["status"] for each in json.loads(jobs.stdout)["jobs"]} <= {"failed"}


def test_the_trail_of_one_job_is_not_proved_by_itself(server: Scheduler) -> None:
    done = cpa(server, "audit", "--verify", "--job", "last")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "cpa: --job: --verify proves the whole trail (leave it out, or leave out --verify)\n"
    )


def test_who_retries_a_job_can_wait_for_its_end(server: Scheduler) -> None:
    task = {"id": "holen", "action": "http.request", "arguments": {"url": "http://127.0.0.1:9/"}}
    job = submitted(server, {"tasks": [task]})
    assert cpa(server, "job", job, "--wait").returncode == 1

    again = cpa(server, "retry", job, "--wait")

    assert again.returncode == 1, again.stderr
    assert "✘ failed" in again.stdout


@pytest.mark.parametrize(
    "command", [["job"], ["explain"], ["cancel"], ["retry"], ["job", "--watch"], ["audit", "--job"]]
)
def test_an_unknown_job_is_bad_input(command: list[str], server: Scheduler) -> None:
    done = cpa(server, *command, "gibt-es-nicht")

    assert done.returncode == 2
    assert done.stderr == "cpa: there is no job 'gibt-es-nicht' (list the jobs with `cpa jobs`)\n"


def test_a_command_elsewhere_says_how_it_finds_the_key(server: Scheduler, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cpa", "jobs"],
        cwd=tmp_path,
        env=clean_environment(CPA_URL=server.url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 4
    assert "workspace" in done.stderr
    assert "CPA_API_KEY=$(cat" in done.stderr
    assert "X-API-Key" not in done.stderr


def test_a_cycle_is_named(server: Scheduler) -> None:
    tasks = [{"id": name, "action": "flow.noop", "depends_on": [other]} for name, other in ("ab", "ba")]
    (server.data.parent / "plan.json").write_text(json.dumps({"tasks": tasks}))
    done = cpa(server, "submit", "--graph", "plan.json")

    assert done.returncode == 2
    assert "a → b → a" in done.stderr


def test_a_sentence_nobody_understands_is_a_negative_answer(server: Scheduler) -> None:
    done = cpa(server, "submit", "Wie wird das Wetter morgen in Wien?")

    assert done.returncode == 1
    assert done.stderr.startswith("cpa: Das ist nicht für jetzt gedacht: „Wie wird das Wetter")
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_key_is_not_allowed(server: Scheduler) -> None:
    done = cpa(server, "jobs", CPA_API_KEY="falsch")

    assert done.returncode == 4
    assert "not accepted" in done.stderr


def test_keys_are_made_and_revoked_beside_the_running_server(server: Scheduler) -> None:
    key = cpa(server, "keys", "add", "späher", "--scope", "read", "--days", "1").stdout.strip()

    assert cpa(server, "jobs", CPA_API_KEY=key).returncode == 0
    assert cpa(server, "cancel", "0198c2a0-0000-7000-8000-000000000000", CPA_API_KEY=key).returncode == 4

    listed = json.loads(cpa(server, "keys", "list", "--json").stdout)
    ours = next(each for each in listed if each["name"] == "späher")
    assert ours["state"] == "active"
    assert ours["scopes"] == "read"
    assert key not in json.dumps(listed)

    assert cpa(server, "keys", "revoke", ours["id"]).returncode == 0
    assert cpa(server, "keys", "revoke", ours["id"]).returncode == 2
    assert poll(lambda: cpa(server, "jobs", CPA_API_KEY=key).returncode == 4)


def test_agents_are_listed_shown_and_decided_about(server: Scheduler) -> None:
    about = {"name": "größe", "type": "DATA", "capabilities": ["x.rechner.add", "büro"], "slots": 2}
    with Client(server.url, server.key) as api:
        told = api.post("/agents/register", about)
    listed = cpa(server, "agents", "list")
    assert listed.stdout.startswith("agent\ttype\t")
    assert "BUILTIN" in listed.stdout
    assert told["agent_id"] in cpa(server, "agents", "list", "--capability", "büro", "--type", "DATA").stdout
    assert told["agent_id"] not in cpa(server, "agents", "list", "--capability", "mail.send").stdout

    shown = cpa(server, "agents", "show", "größe")
    assert shown.returncode == 0, shown.stderr
    assert "agent://data/größe" in shown.stdout
    assert "x.rechner.add" in shown.stdout
    assert json.loads(cpa(server, "agents", "show", told["agent_id"], "--json").stdout)["slots"] == 2

    for command, state in (("drain", "draining"), ("quarantine", "quarantined"), ("activate", "active")):
        done = cpa(server, "agents", command, "agent://data/größe")
        assert done.stdout.split() == [told["agent_id"], state]
    assert cpa(server, "agents", "revoke", "größe").returncode == 0
    assert cpa(server, "agents", "activate", told["agent_id"]).returncode == 1
    assert "revoked, offline" in cpa(server, "agents", "show", "größe").stdout
    for command in ("drain", "activate"):
        revoked = cpa(server, "agents", command, "größe")
        assert (revoked.returncode, len(revoked.stderr.splitlines())) == (1, 1)
        assert "is revoked, for good" in revoked.stderr
        assert "cpa agents token --name größe" in revoked.stderr
    unknown = cpa(server, "agents", "drain", "größer")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)

    with Client(server.url, server.key) as api:
        again = api.post("/agents/register", about)
        beaten = Client(server.url, again["key"])
        assert beaten.post(f"/agents/{again['agent_id']}/heartbeat", {})["state"] == "active"
    assert cpa(server, "agents", "remove", "größe").returncode == 0
    with beaten, pytest.raises(Unauthorized):
        beaten.post(f"/agents/{again['agent_id']}/heartbeat", {})


def test_a_token_lets_one_agent_in_beside_the_running_server(server: Scheduler) -> None:
    made = cpa(server, "agents", "token", "--name", "späher", "--hours", "1")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    [listed] = json.loads(cpa(server, "agents", "tokens", "--json").stdout)
    assert (listed["agent"], listed["uses"], listed["state"]) == ("späher", 1, "active")
    assert token not in json.dumps(listed)

    headers = {"X-Enrolment-Token": token}
    about = {"name": "späher", "type": "DATA", "capabilities": ["x.rechner.add"]}
    answered = httpx2.post(f"{server.url}/agents/register", json=about, headers=headers)
    assert answered.status_code == 201, answered.text
    again = httpx2.post(f"{server.url}/agents/register", json=about | {"name": "zwei"}, headers=headers)
    assert again.status_code == 401
    assert json.loads(cpa(server, "agents", "tokens", "--json").stdout)[0]["state"] == "over"
    assert cpa(server, "agents", "remove", "späher").returncode == 0

    assert cpa(server, "agents", "token").returncode == 0
    spare = next(
        each for each in json.loads(cpa(server, "agents", "tokens", "--json").stdout) if not each["agent"]
    )
    assert cpa(server, "agents", "tokens", "--revoke", spare["id"]).returncode == 0
    assert cpa(server, "agents", "tokens", "--revoke", spare["id"]).returncode == 2
    assert "any" in cpa(server, "agents", "tokens").stdout


def test_a_key_whose_name_could_be_taken_for_anothers_is_refused(server: Scheduler) -> None:
    """They would count as two people where two must say yes; two keys of one name are one person."""
    first, second = cpa(server, "keys", "add", "Käthe"), cpa(server, "keys", "add", "Käthe")
    assert (first.returncode, second.returncode) == (0, 0)

    for name, like in (("käthe", "Käthe"), ("K\u00e4the\u200b", ""), ("К\u00e4the", ""), ("ADMIN", "admin")):
        refused = cpa(server, "keys", "add", name)
        assert refused.returncode in (1, 2), name
        assert "could be taken for" in refused.stderr
        assert f"exactly '{like}'" in refused.stderr or not like
        assert not refused.stdout

    for key in (each for each in json.loads(cpa(server, "keys", "list", "--json").stdout)):
        if key["name"] == "Käthe":
            assert cpa(server, "keys", "revoke", key["id"]).returncode == 0
    assert cpa(server, "keys", "add", "KÄTHE").returncode == 1, "what she asked for is still hers"
    assert cpa(server, "keys", "add", "Käthe").returncode == 0
    assert cpa(server, "keys", "add", "").returncode == 2


def test_a_scope_that_is_none_is_bad_input(server: Scheduler) -> None:
    done = cpa(server, "keys", "add", "bot", "--scope", "everything")

    assert done.returncode == 2
    assert "admin, submit, read, agent" in done.stderr


def test_the_trail_is_shown_and_proves_itself_beside_the_running_server(server: Scheduler) -> None:
    job = submitted(server, GRAPH)
    cpa(server, "job", job, "--wait")

    assert job in cpa(server, "audit", "--job", job).stdout

    proof = cpa(server, "audit", "--verify", "--json")

    assert proof.returncode == 0, proof.stdout
    assert json.loads(proof.stdout)["leaves"] >= 5


def test_a_job_replays_to_its_stored_state_beside_the_running_server(server: Scheduler) -> None:
    job = submitted(server, GRAPH)
    cpa(server, "job", job, "--wait")
    done = cpa(server, "replay", job)

    assert done.returncode == 0, done.stdout
    assert re.search(r"equal: \d+ events lead to the stored state, done", done.stdout)
    assert [cpa(server, "replay", part).stdout for part in ("last", job[-12:])] == [done.stdout] * 2


def test_a_second_server_on_the_same_folder_is_refused(server: Scheduler) -> None:
    done = cpa(server, "serve", "--port", "0", "--data", str(server.data))

    assert done.returncode == 3
    assert f"in use by process {server.process.pid}" in done.stderr


def test_a_port_that_is_taken_is_said(server: Scheduler, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    done = cpa(server, "serve", "--port", port, "--data", str(tmp_path / "data"))

    assert done.returncode == 3
    assert "cannot listen at 127.0.0.1:" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_start_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "cpa.yaml").write_text("version: 7\n")
    done = subprocess.run(
        [sys.executable, "-m", "cpa", "serve", "--port", "0", "--data", "new/cpa-data"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 2, done.stderr
    assert not (tmp_path / "new").exists()


def test_a_store_that_is_made_new_is_said(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        assert "new: there was no store yet" in first.line
        assert f"no cpa.yaml in {tmp_path}" in first.log.read_text()
        first.log.write_text("")
    with serving(tmp_path) as second:
        assert "there was no store yet" not in second.line
        assert "cpa.yaml" not in second.log.read_text()


def test_all_that_is_wrong_in_a_task_is_said_each_in_its_line(server: Scheduler) -> None:
    (server.data.parent / "plan.json").write_text(json.dumps([{"acton": "flow.noop", "nach": []}]))
    done = cpa(server, "submit", "--graph", "plan.json")

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "cpa: tasks[0].action: field required (Add this field.)",
        "cpa: tasks[0].acton: extra inputs are not permitted (Did you mean action? arguments of the action go "
        "below `arguments`.)",
        "cpa: tasks[0].nach: extra inputs are not permitted (Correct the name; arguments of the action go below "
        "`arguments`.)",
    ]


@pytest.mark.parametrize("waits", ["--watch", "--wait"])
def test_ctrl_c_ends_waiting_and_says_that_the_job_goes_on(server: Scheduler, waits: str) -> None:
    job = submitted(server, APPROVED)
    question_of(server, job)
    watching = subprocess.Popen(
        [sys.executable, "-m", "cpa", "job", job, waits],
        cwd=server.data.parent,
        env=clean_environment(CPA_URL=server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Either says that a person is asked, here or there.
    first = watching.stdout if waits == "--watch" else watching.stderr
    assert first is not None
    assert first.readline()
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=30)

    assert watching.returncode == 130
    assert errors.splitlines()[-1] == (
        f"cpa: job {job} goes on: `cpa job {job} --watch` looks at it again, `cpa cancel {job}` ends it"
    )
    assert "Traceback" not in errors
    assert cpa(server, "cancel", job).returncode == 0


def test_a_folder_is_served_again_with_everything_in_it(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        job = submitted(first, GRAPH)
        assert cpa(first, "job", job, "--wait").returncode == 0
    with serving(tmp_path) as second:
        assert second.key == first.key
        assert cpa(second, "job", job).returncode == 0
        assert cpa(second, "migrate", "--data", str(second.data)).returncode == 3
    assert cpa(second, "migrate", "--data", str(second.data)).returncode == 0


def test_output_into_a_closed_pipe_is_no_traceback(server: Scheduler) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m cpa jobs --json | true"],
        cwd=server.data.parent,
        env=clean_environment(CPA_URL=server.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "Traceback" not in done.stderr


def question_of(server: Scheduler, job: str) -> str:
    """The job's open question, once it asks."""

    def asking() -> list[str]:
        answer = json.loads(cpa(server, "questions", "--json").stdout)
        return [each["id"] for each in answer["questions"] if each["job"] == job]

    found = poll(asking)
    assert isinstance(found, list)
    return str(found[0])


def poll(condition: Any, tries: int = 30) -> Any:
    """Ask until the answer is true; each ask is a process and takes its time."""
    for _ in range(tries):
        if found := condition():
            return found
    raise AssertionError("it did not become true")
