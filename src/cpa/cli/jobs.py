"""Commands that talk to a server: hand in, watch, explain, cancel, retry, look back."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from cpa.cli.call import (
    CONNECT,
    NEGATIVE,
    OK,
    Data,
    JobId,
    Json,
    Replies,
    Sentence,
    dump,
    job_id,
    leave,
    part,
    read,
    replies,
    sentence,
    server,
    settings,
    words,
)
from cpa.errors import BadInput, Conflict, UnknownIntent

if TYPE_CHECKING:
    from cpa.cli.client import Client

app = typer.Typer()

Wait = Annotated[
    bool, typer.Option("--wait", help="Come back when the run has ended; its end is the exit code.")
]
Watching = Annotated[bool, typer.Option("--watch", help="Show the task graph until the run has ended.")]


def add_to(root: typer.Typer) -> None:
    """Make these commands top-level ones of `root`."""
    root.registered_commands += app.registered_commands


@app.command(
    epilog="\b\nExamples:\n"
    '  cpa submit "Get ACME\'s latest invoice and mail it to billing@kunde.example" --watch\n'
    '  cpa submit "Hole die letzte Rechnung von ACME" --dry-run\n'
    '  cpa submit "Schicke die Rechnung von ACME" --reply to=anna@kunde.example\n'
    "  cpa submit --graph plan.json --wait           a plan of your own: docs/api.md\n"
    "  echo 'Zeige mir alle Kunden im Portal' | cpa submit - --at 2030-12-24T12:00:00Z\n\n" + CONNECT
)
def submit(
    text: Sentence = None,
    graph: Annotated[
        Path | None,
        typer.Option(
            help="A task graph (JSON, or YAML by its name) instead of a sentence; `description`: what it is for."
        ),
    ] = None,
    reply: Replies = None,
    watch: Watching = False,
    wait: Wait = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, risks and approvals; run nothing.")
    ] = False,
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    at: Annotated[str, typer.Option(help="RFC 3339, with zone; not before that.")] = "",
    deadline: Annotated[str, typer.Option(help="RFC 3339, with zone; what is not done by then fails.")] = "",
    idempotency_key: Annotated[str, typer.Option(help="The same key again gives the same job.")] = "",
    as_json: Json = False,
) -> None:
    """Hand in a request. Prints the job's id, once the job is durable. On a terminal, what is left open is
    asked for; elsewhere --reply gives it."""
    from cpa.cli import outcome

    path, body = _request(sentence(text), graph)
    body |= {"replies": replies(reply)} if reply else {}
    body |= {"priority": priority} if priority else {}
    body |= {"run_at": words(at)} if at else {}
    body |= {"deadline": words(deadline)} if deadline else {}
    body |= {"dry_run": True} if dry_run else {}
    with server() as api:
        answer = _asking(api, path, body, words(idempotency_key))
        if dry_run:
            dump(answer) if as_json else outcome.plan(answer)
        elif watch or wait:
            typer.echo(answer["job_id"], err=True)
            leave(_follow(api, answer["job_id"]) if watch else _await(api, answer["job_id"], as_json))
        else:
            dump(answer) if as_json else typer.echo(answer["job_id"])


@app.command(
    "jobs",
    epilog="\b\nExamples:\n  cpa jobs\n  cpa jobs --status failed --limit 5\n"
    "  cpa jobs --json | jq -r '.jobs[].id'\n\n" + CONNECT,
)
def list_jobs(
    status: Annotated[str, typer.Option(help="Only pending, running, done, failed or cancelled.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out.")] = 0,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    from cpa.cli import terminal

    with server() as api:
        page = api.get("/jobs", status=words(status).lower(), limit=limit, offset=offset)
    dump(page) if as_json else terminal.jobs(page)


@app.command(
    "job",
    epilog="\b\nExamples:\n  cpa job last\n  cpa job 22ed9013d85 --watch    the beginning or end of an id\n\n"
    + CONNECT,
)
def show_job(job: JobId, watch: Watching = False, wait: Wait = False, as_json: Json = False) -> None:
    """Show one job with its tasks and what came of it. --watch and --wait stay with it, also when the connection
    breaks or the server is started again."""
    from cpa.cli import outcome, terminal

    with server() as api:
        job = job_id(api, job)
        if watch or wait:
            leave(_follow(api, job) if watch else _await(api, job, as_json))
        detail = api.get(f"/jobs/{part(job)}")
        start = (
            terminal.start(api.get(f"/jobs/{part(job)}/explain")) if detail["status"] == "pending" else None
        )
    dump(detail) if as_json else outcome.job(detail, start=start)


@app.command(
    epilog="\b\nExamples:\n  cpa files last\n  cpa files last --save .\n"
    "  cpa files last --save steps --pictures\n\n" + CONNECT
)
def files(
    job: JobId,
    save: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write them there.")] = None,
    with_pictures: Annotated[
        bool, typer.Option("--pictures", help="Also the pictures kept of every step.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the files of a job. --save writes them where you can open them."""
    from cpa.cli.outcome import stored

    with server() as api:
        stored(api, job_id(api, job), save, with_pictures=with_pictures, as_json=as_json)


@app.command(epilog="\b\nExample:\n  cpa explain last\n\n" + CONNECT)
def explain(job: JobId, as_json: Json = False) -> None:
    """Why each open task is not running, and what helps. Reason, evidence, remedy, and who can act."""
    from cpa.cli import outcome, terminal

    with server() as api:
        job = job_id(api, job)
        answer = api.get(f"/jobs/{part(job)}/explain")
        detail = api.get(f"/jobs/{part(job)}")
    if as_json:
        dump(answer)
        return
    terminal.title(detail["job"])
    terminal.explanations(answer)
    outcome.end(detail)


@app.command(epilog="\b\nExample:\n  cpa cancel last\n\n" + CONNECT)
def cancel(job: JobId) -> None:
    """Cancel a job; running attempts end at their next safe point. Exit code 1 when it had ended."""
    from cpa.cli import outcome

    with server() as api:
        where = f"/jobs/{part(job_id(api, job))}"
        answer = _changed(api.delete(where))
        detail = api.get(where)
    outcome.cancelled(answer, detail)


@app.command(epilog="\b\nExample:\n  cpa retry last --watch\n\n" + CONNECT)
def retry(job: JobId, watch: Watching = False, wait: Wait = False) -> None:
    """Run a failed job again, from the failed task. What is done keeps its result.

    To change or take away an argument, or leave a task out: `cpa dead-letters retry JOB` with
    `--fix TASK.ARGUMENT=VALUE`, `--unset TASK.ARGUMENT`, `--skip TASK`.
    """
    with server() as api:
        job = job_id(api, job)
        before = api.get(f"/jobs/{part(job)}")["job"]["last_seq"] if watch else 0
        answer = _changed(api.post(f"/jobs/{part(job)}/retry"))
        typer.echo(f"{answer['job_id']} {answer['status']}")
        if watch or wait:
            leave(_follow(api, job, after=before) if watch else _await(api, job, as_json=False))


@app.command(epilog="\b\nExamples:\n  cpa audit --job last\n  cpa audit --verify\n\n" + CONNECT)
def audit(
    job: Annotated[str, typer.Option(help="Only of this job; `last` is the newest.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 50,
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute every leaf of the local store.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """What was done, when, by whom. --verify proves the stored trail, without a server."""
    from cpa.cli import trail

    if verify and job:
        raise BadInput(
            "--verify proves the whole trail",
            field="--job",
            value=job,
            remedy="leave it out, or leave out --verify",
        )
    if verify:
        from cpa.cli.upkeep import verify as verify_now

        proof = verify_now(settings(data=data))
        dump(proof.facts) if as_json else typer.echo(proof.text)
        raise typer.Exit(OK if proof.well else NEGATIVE)
    with server() as api:
        job = job_id(api, job)
        page = api.get("/audit", job=job, limit=limit)
        if job and not page["entries"]:
            api.get(f"/jobs/{part(job)}")  # Every job has entries: this says that there is no such job.
    dump(page) if as_json else trail.show(page, one_job=bool(job))


def _request(text: str, graph: Path | None) -> tuple[str, dict[str, Any]]:
    """Where to send it, and the body."""
    if graph is not None:
        plan = _graph(graph)
        if isinstance(plan, dict) and plan.keys() == {"tasks", "description"}:
            # With any other name beside it, it is a mapping of tasks by name.
            text = text or plan["description"]
            plan = {"tasks": plan["tasks"]}
        return "/jobs", {"task_graph": plan} | ({"description": text} if text else {})
    if not text.strip():
        raise BadInput(
            "there is no request", field="text", remedy="give a sentence, or a task graph with --graph"
        )
    return "/schedule", {"text": text}


def _asking(api: Client, path: str, body: dict[str, Any], key: str) -> Any:
    """Hand in; on a terminal, ask for what is missing and hand in again. Under one key, so that what was handed in
    again because its receipt got lost is one job."""
    from cpa.cli.waiting import Silence

    key = key or str(uuid4())
    silence = Silence(api, f"--idempotency-key {key} with the same request gives the same job if it arrived")
    while True:
        try:
            return silence.outlast(partial(api.post, path, body, key=key))
        except UnknownIntent as error:
            name = (error.field or "").removeprefix("arguments.")
            if name == error.field or not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise
            given = typer.prompt(error.remedy or name, prompt_suffix=" ", err=True)
            body["replies"] = body.get("replies", {}) | {name: words(given)}


def _graph(file: Path) -> Any:
    """The plan in a file, which is YAML where its name says so."""
    from cpa.config.loading import load_file

    yaml = file.suffix.lower() in (".yaml", ".yml")
    try:
        found = load_file(file).value if yaml else json.loads(read(file))
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # as it is sent
    except (ValueError, RecursionError) as error:
        wrong = "holds what cannot be sent" if yaml else "is no JSON"
        raise BadInput(f"{file} {wrong}: {error}", field="graph", remedy="docs/api.md shows one") from error
    if not isinstance(found, list | dict):
        raise BadInput(
            f"{file} is no plan, which is a list of tasks or an object of them by id",
            field="graph",
            value=found,
            remedy="docs/api.md shows one",
        )
    return found


def _changed(answer: dict[str, Any]) -> dict[str, Any]:
    if not answer["changed"]:
        ended = answer["reason"] == "ended"
        why = f"the job is {answer['status']}{' already' if ended else ''}"
        raise Conflict(f"nothing changed: {why}", remedy=None if ended else answer["reason"])
    return answer


def _await(api: Client, job: str, as_json: bool) -> str:
    """The status at the end of the run."""
    from cpa.cli import outcome, waiting

    hindrances, pause, silence = waiting.Hindrances(), waiting.SOON, waiting.silence(api, job)
    with waiting.interruptible(job):
        while True:
            look = partial(api.get, f"/jobs/{part(job)}", patience=pause, wait=pause)
            detail = silence.outlast(look)
            if detail["status"] in ("done", "failed", "cancelled"):
                break
            why = silence.outlast(partial(waiting.explained, api, detail))
            news = hindrances.news(why) + hindrances.asked(detail["questions"])
            waiting.say(news)
            pause = waiting.next_pause(pause, new=bool(news))
    dump(detail) if as_json else outcome.job(detail)
    return str(detail["status"])


def _follow(api: Client, job: str, *, after: int = 0) -> str:
    from cpa.cli.watch import follow

    return follow(api, job, after=after)
