"""What a job came to, for people: its tasks, what failed, what nothing proves, the answer, the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cpa.cli import asking, files
from cpa.cli.call import dump, part
from cpa.cli.terminal import (
    AT_WORK,
    again,
    clock,
    console,
    flat,
    graph,
    harmless,
    line,
    remedy,
    shorten,
    told,
)
from cpa.errors import NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from cpa.cli.client import Client
    from cpa.cli.files import File

OF_THE_SENTENCE = frozenset({"customer_ambiguous", "customer_not_found", "no_such_list"})
"""Codes of the shipped intents that say that a name in the request is the wrong one: the same again fails again."""

_OF_THE_PLAN = frozenset({"approval_denied", "effect_understated"})
"""Codes of what is no mishap: somebody said no, or the plan says too little. A job keeps its plan."""
_OF_PEOPLE = frozenset({"approval_expired", "unanswered"})
"""Codes of what nobody answered in time: nothing is wrong."""
_LONGEST = 500
"""Characters of one result; `--json` has it whole."""


def job(detail: Mapping[str, Any], *, start: str | None = None) -> None:
    """A job and its tasks, and what came of it, or when it is to `start`."""
    console().print(graph(detail))
    if start:
        line(f"It is to start at {clock(start)}.")
    for task in detail["tasks"]:
        failure = task.get("error")
        if failure and task["status"] in AT_WORK:
            line(f"{task['id']}: {flat(again(task) + ': ' + failure['message'])}")
        elif failure:
            line(f"{task['id']}: {flat(failure['message'] + remedy(failure))}")
    for name in detail.get("unproved", ()):
        line(
            f"unproved: {name} is done by word of its agent; nothing shows its effect. "
            f"Why: cpa explain {detail['job']['id']}"
        )
    end(detail)


def end(detail: Mapping[str, Any]) -> None:
    """What came of a job: what it asks, the answer, else the results; its files; what to do next."""
    head = detail["job"]
    asking.show(detail.get("questions", ()))
    if detail.get("answer"):
        line("")
        for at, text in enumerate(harmless(detail["answer"]).splitlines()):
            # Its further lines stand apart: a result in it may have some, and none looks like one of ours.
            line(f"{'  ' if at else ''}{text}")
    elif head["status"] == "done":
        for text in _results(detail):
            line(text)
    if found := files.results(detail):
        for file in found:
            line(_listed(file))
        line(f"    save: cpa files {head['id']} --save FOLDER")
    failed = [task for task in detail["tasks"] if task["status"] == "failed"]
    if head["status"] == "failed" and not any(map(over, failed)):
        verb = "dead-letters retry" if head.get("dead_letter") or head.get("discarded") else "retry"
        if head.get("discarded"):
            line("")
            line("It was discarded: nobody will take it up, unless somebody says so.")
        line("")
        unasked = failed and all((task.get("error") or {}).get("code") in _OF_PEOPLE for task in failed)
        when = "To have people asked once more" if unasked else "Once what is wrong has been put right"
        line(f"{when}: cpa {verb} {head['id']} --watch")
        if task := _refused(detail):
            line(f"With other arguments: cpa dead-letters retry {head['id']} --fix {task}.ARGUMENT=… --watch")
            line(f"(--unset {task}.ARGUMENT takes one away)")


def _refused(detail: Mapping[str, Any]) -> str:
    """The task that failed by what it was given: done once more as it is, it would fail once more."""
    for task in detail["tasks"]:
        error = task.get("error")
        if task["status"] == "failed" and task.get("arguments") and error and error["failure"] == "business":
            return str(task["id"])
    return ""


def cancelled(answer: Mapping[str, Any], detail: Mapping[str, Any]) -> None:
    """What cancelling did: attempts under way end at their next safe point, and the job with them, unless only a
    person can tell what became of one. `detail` is the job after it."""
    job_id, status = answer["job_id"], answer["status"]
    if status == "running" and detail["questions"]:
        line(f"{job_id} is being cancelled, and ends once this has been answered:")
        asking.show(detail["questions"])
    elif status == "running":
        line(f"{job_id} is being cancelled; `cpa job {job_id} --wait` waits for its end")
    else:
        line(f"{job_id} {status}")


def over(task: Mapping[str, Any]) -> bool:
    """Whether a failed task fails again when its job is taken up as it is, as its remedy says: over a word of the
    request, over its plan, or over a no."""
    error = task.get("error") or {}
    code = error.get("code")
    declined = code == "declined" and task["action"] == "person.ask"  # An agent may call so what it likes.
    return code in OF_THE_SENTENCE | _OF_THE_PLAN or declined


def plan(answer: Mapping[str, Any]) -> None:
    """What a dry run found: each task with all it would be done with, what is risky, who would be asked."""
    line(f"intent: {answer['intent'] or '-'}")
    for task in answer["tasks"]:
        after = f"  after {', '.join(map(str, task['depends_on']))}" if task.get("depends_on") else ""
        line(f"{task['id']}  {task['action']}{after}")
        asking.arguments(task["arguments"])
    for name in ("risks", "approvals"):
        for entry in answer[name]:
            line(f"{name.removesuffix('s')}: {entry}")


def stored(api: Client, job: str, folder: Path | None, *, with_pictures: bool, as_json: bool) -> None:
    """List a job's files, or save them in `folder`."""
    detail = api.get(f"/jobs/{part(job)}")
    found = files.results(detail)
    kept = files.pictures(api, detail["job"]["id"], beside=found)
    told: list[dict[str, Any]] = []
    missing: list[str] = []
    for file in [*found, *kept] if with_pictures else found:
        try:
            saved = "" if folder is None else str(files.save(api, file, folder))
        except NotFound:  # What an agent made up, or what was cleaned away, keeps nobody from the others.
            missing.append(file.digest)
            continue
        told.append(asdict(file) | ({"saved": saved} if saved else {}))
        if not as_json:
            line(f"saved {saved}" if saved else _listed(file))
    if as_json:
        dump(told)
    elif kept and not with_pictures:
        line(f"{len(kept)} more, kept of its steps: --pictures")
    elif not told and not missing:
        line("the job has no files")
    if missing:
        raise NotFound(
            f"the server does not have {len(missing)} of the job's files",
            field="artifact",
            value=missing[0],
            remedy="all others are saved",
        )


def _listed(file: File) -> str:
    size = f", {file.size:,} bytes" if file.size else ""
    what = f"file: {files.plain(file.name)}" if file.name else f"kept of step {file.step}: {file.digest}"
    return f"{what}, from {file.task}{size}"


def _results(detail: Mapping[str, Any]) -> Iterator[str]:
    """What the last tasks gave: those that no other builds on."""
    needed = {need for task in detail["tasks"] for need in task["depends_on"]}
    for task in detail["tasks"]:
        if task["id"] in needed or not task.get("result"):
            continue
        for name, value in task["result"].items():
            if not (isinstance(value, Mapping) and "artifact" in value):
                yield f"{task['id']}.{flat(name)}: {shorten(_text(value), _LONGEST)}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return told(value)
