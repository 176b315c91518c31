"""`cpa dead-letters`: failed jobs that only a person takes up again, and what the person says in doing so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Any

import typer

from cpa.cli.call import CONNECT, JobId, Json, dump, job_id, leave, part, server, words
from cpa.cli.hints import Hinting
from cpa.errors import BadInput, Conflict


class _Commands(Hinting):
    meant = MappingProxyType({"list": "dead-letters", "show": "job JOB"})


app = typer.Typer(cls=_Commands, rich_markup_mode=None)
_WIDTH = 80
_LONGEST = 500


@app.callback(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  cpa dead-letters\n"
    "  cpa dead-letters retry last --fix send.to=rechnung@kunde.example\n"
    '  cpa dead-letters discard last --note "cancelled by the customer"\n\n' + CONNECT,
)
def dead_letters(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out.")] = 0,
    as_json: Json = False,
) -> None:
    """Failed jobs that wait for a person. List them, take one up with corrections, or discard it."""
    if context.invoked_subcommand is not None:
        return
    with server() as api:
        page = api.get("/dead-letters", limit=limit, offset=offset)
        # Those that `cpa retry` takes up, and those that were discarded: who looks for a failed job looks here.
        failed = 0 if as_json or page["total"] else api.get("/jobs", status="failed", limit=1)["total"]
    dump(page) if as_json else show(page, failed)


@app.command(
    epilog="\b\nExamples:\n  cpa dead-letters retry last --fix send.to=rechnung@kunde.example --watch\n"
    "  cpa dead-letters retry last --unset send.cc --watch\n"
    "  cpa dead-letters retry last --skip note --again signed_in\n"
    '  cpa dead-letters retry last --done \'download={"file": {"artifact": "sha256:…"}}\'\n\n'
    "Any failed or cancelled job can be taken up so. What is done stays done; approvals are asked for anew. What "
    "was corrected wrongly and has not run yet: `cpa cancel JOB`, then take it up with another correction.\n\n"
    + CONNECT
)
def retry(
    job: JobId,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK.ARGUMENT=VALUE", help="Another argument; may be repeated."),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK.ARGUMENT", help="Without this argument; may be repeated."),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="Do not do it; may be repeated.")
    ] = None,
    done: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK[=JSON]", help="It was done by hand, with this result; may be repeated."),
    ] = None,
    again: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="Do a done task again, and all after it; may be repeated."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the task graph until the run has ended.")
    ] = False,
) -> None:
    """Take a failed job up with corrections. It begins anew at what failed."""
    from cpa.cli.watch import follow

    with server() as api:
        job = job_id(api, job)
        detail = api.get(f"/jobs/{part(job)}")
        body = {
            "run": detail["job"]["retry_count"],
            "fixes": fixes(detail["tasks"], list(map(words, fix or ())), list(map(words, unset or ()))),
            "skip": [words(each) for each in skip or ()],
            "done": dict(by_hand(words(each)) for each in done or ()),
            "restart": [words(each) for each in again or ()],
        }
        changed = api.post(f"/dead-letters/{part(job)}/retry", body)
        typer.echo(f"{changed['job_id']} {changed['status']}")
        if watch:
            leave(follow(api, changed["job_id"], after=detail["job"]["last_seq"]))


@app.command(
    epilog='\b\nExample:\n  cpa dead-letters discard last --note "cancelled by the customer"\n\n' + CONNECT
)
def discard(job: JobId, note: Annotated[str, typer.Option(help="Why; kept in the audit trail.")]) -> None:
    """Give a failed job up. It leaves the dead letters and stays failed; exit code 1 when it was so before."""
    with server() as api:
        changed = api.post(f"/dead-letters/{part(job_id(api, job))}/discard", {"note": words(note)})
    if not changed["changed"]:
        raise Conflict("it was discarded before", remedy="`cpa audit --job` tells by whom and why")
    typer.echo(f"{changed['job_id']} discarded")


def fixes(
    tasks: Sequence[Mapping[str, Any]], said: Sequence[str], unset: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """The whole arguments of the tasks that are named, with what was said in place of what they had, and without
    what is `unset`."""
    known = {task["id"]: task for task in tasks}
    found: dict[str, dict[str, Any]] = {}
    for word in said:
        place, given, value = word.partition("=")
        task, dot, argument = place.partition(".")
        if not (given and dot and task and argument):
            raise BadInput(
                "this is no correction",
                field="--fix",
                value=word,
                remedy="write TASK.ARGUMENT=VALUE, as in send.to=…",
            )
        had: Mapping[str, Any] = {}
        if task in known:  # Of any other the server says which there are.
            had = known[task]["arguments"]
            _check_argument(known[task], argument, word)
        found.setdefault(task, dict(had))[argument] = meant(value, had.get(argument), place)
    for word in unset:
        task, _, argument = word.partition(".")
        had = known[task]["arguments"] if task in known else {}
        if argument not in had:
            there = f"{task} has {_listed(had)}" if task in known else f"its tasks are {_listed(known)}"
            raise BadInput(
                f"the job has no argument {word!r}",
                field="--unset",
                value=word,
                remedy=f"write TASK.ARGUMENT; {there}",
            )
        found.setdefault(task, dict(had)).pop(argument, None)
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(list(dict.fromkeys(names))[:20]) or "none"


def _check_argument(task: Mapping[str, Any], argument: str, word: str) -> None:
    """`BadInput` for an argument that the task does not have and its action does not know. An action of one's own
    takes any, so nobody else would notice that it is misspelled."""
    from cpa.core.actions import CATALOGUE
    from cpa.core.catalogue import is_own

    action = task["action"]
    if action not in CATALOGUE and not is_own(action):
        return  # The server is newer than this program.
    names = [*task["arguments"], *CATALOGUE.get(action).arguments]
    close = get_close_matches(argument, names, n=1)
    if argument in names or (is_own(action) and not close):
        return  # Of its own actions only the agent knows the arguments: this may be one that was missing.
    has = f"it has: {_listed(names)}"
    raise BadInput(
        f"task {task['id']} has no argument {argument!r}",
        field="--fix",
        value=word,
        remedy=f"did you mean {close[0]}? {has}" if close else has,
    )


def meant(text: str, old: Any, field: str = "") -> Any:
    """What somebody typed: text in place of text, a number, yes or no in place of such, else JSON.

    `BadInput` for what is none where a value of a kind stood: an approver would hardly see that it is a text now.
    """
    from cpa.cli.approvals import decision
    from cpa.core.numbers import in_doubt, number

    if isinstance(old, str):
        return text
    word = text.strip()
    if isinstance(old, bool) and (said := decision(word)) is not None:
        return said
    if isinstance(old, int | float) and not isinstance(old, bool):
        if doubt := in_doubt(word, f"--fix {field}"):
            raise doubt
        if (value := number(word)) is not None:
            return value
    try:
        return json.loads(text)
    except ValueError:
        if old is None or "{{" in text:
            return text
        raise BadInput(
            f"there was {json.dumps(old, ensure_ascii=False)[:80]}, and this is no JSON",
            field=f"--fix {field}",
            value=text,
            remedy=f"write such a value, or for a text put it in quotes: '{json.dumps(text, ensure_ascii=False)}'",
        ) from None


def by_hand(word: str) -> tuple[str, Any]:
    """(task, result) of `TASK` or `TASK={…}`."""
    task, given, text = word.partition("=")
    try:
        result = json.loads(text) if given else {}
    except ValueError as error:
        raise BadInput(
            f"the result is no JSON: {error}",
            field="--done",
            value=text,
            remedy='write TASK={"name": "value"}',
        ) from error
    return task, result


def show(page: Mapping[str, Any], failed: int = 0) -> None:
    """Each job with what failed and how it may go on; where there is none, how many `failed` in other ways."""
    from textwrap import wrap

    from cpa.cli.outcome import over
    from cpa.cli.terminal import harmless, line

    found = page["dead_letters"]
    if not found:
        line("no job waits to be taken up by hand")
    if failed:
        line(f"{failed} {'job' if failed == 1 else 'jobs'} failed: cpa jobs --status failed")
    for letter in found:
        line(letter["job"]["id"])
        for depth, text in _lines(letter):
            plain = harmless(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … (all of it: --json)")
            begin = "    " * depth
            for piece in wrap(plain, _WIDTH, initial_indent=begin, subsequent_indent=f"{begin}  "):
                line(piece)
        job = letter["job"]["id"]
        if any(map(over, letter["failed"])):
            line(f"    cpa dead-letters discard {job} --note …")
        else:
            line(f"    cpa dead-letters retry {job}")
    if page["total"] > len(found):
        line(f"{len(found)} of {page['total']}; see more with --limit and --offset")


def _lines(letter: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    from cpa.cli.terminal import clock, told

    job = letter["job"]
    yield 1, f"failed {job['retry_count'] + 1} times, last {clock(job['ended_at'])}"
    if said := job["description"] or job["intent"]:
        yield 1, said
    for task in letter["failed"]:
        error = task["error"] or {"code": "failed", "message": ""}
        yield 1, f"{task['id']} ({task['action']}): {error['code']}: {error['message']}"
        if error.get("remedy"):
            yield 2, error["remedy"]
        for name, value in task["arguments"].items():
            yield 2, f"{name}: {told(value)}"
    if letter["left"]:
        yield 1, f"not reached: {', '.join(letter['left'])}"
