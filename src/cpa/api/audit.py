"""The audit trail, for reading."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Query, Response
from msgspec.structs import replace
from pydantic import AwareDatetime, BaseModel, Field

from cpa.api.caller import Administrator, Reader
from cpa.api.render import answer, problems
from cpa.api.route import DirectRouter
from cpa.api.services import ApiServices, Services
from cpa.api.times import milliseconds
from cpa.core.audit import AuditEntry
from cpa.core.display import displayed
from cpa.core.events import JobReopened
from cpa.core.job import TaskSpec
from cpa.core.views import Timestamp, rfc3339
from cpa.ports.steps import Unreadable

router = DirectRouter(prefix="/audit", tags=["audit"])
_REOPENED: Final = str(JobReopened.__struct_config__.tag)


class Break(BaseModel):
    job: str
    number: int
    seq: int
    reason: str


class Verdict(BaseModel):
    sound: bool
    leaves: int = Field(description="How many were checked.")
    jobs: int
    broken: Break | None


class File(BaseModel):
    artifact: str
    href: str = Field(description="Where it is fetched.")


class Entry(BaseModel):
    time: Timestamp
    what: str = Field(
        description="Event type; `action_logged` for what no job did.", examples=["task_succeeded"]
    )
    text: str = Field(description="What happened, one sentence.")
    leaf: str = Field(description="SHA-256 of the stored bytes.")
    job: str | None = None
    number: int | None = Field(default=None, description="Event number within the job.")
    task: str | None = None
    epoch: int | None = None
    agent: str | None = Field(default=None, description="The one that has the attempt which this is about.")
    by: str | None = Field(default=None, description="The person or key that did or decided it.")
    subject: str | None = None
    details: dict[str, Any] | None = Field(
        default=None,
        description="Further facts. Of a job that was taken up with corrections, `fixes`: by task and argument "
        "what was `planned` and what it is `now`, each left out where the argument is not given.",
    )
    pictures: list[File] = Field(description="Files and pictures kept of it.")
    erased: bool = Field(default=False, description="Personal data was in it and has been deleted.")


class EntryList(BaseModel):
    entries: list[Entry]
    next: str | None = Field(description="To be given as `cursor` for the next page; null at the end.")


@router.get(
    "", summary="What was done, newest first", response_model=EntryList, responses=problems(400, 404, 422)
)
async def list_entries(
    services: Services,
    caller: Reader,
    job: Annotated[str, Query(max_length=64)] = "",
    task: Annotated[str, Query(max_length=200)] = "",
    actor: Annotated[str, Query(max_length=200)] = "",
    since: Annotated[AwareDatetime | None, Query(description="RFC 3339, with zone.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str, Query(max_length=500)] = "",
) -> Response:
    """Every action with its reason, its result and its picture."""
    page = await services.audit.list(
        caller.tenant,
        job=_plain(job),
        task=_plain(task),
        actor=_plain(actor),
        since=_since(since),
        limit=limit,
        cursor=_plain(cursor),
    )
    entries = [await _with_fixes(services, caller.tenant, entry) for entry in page.entries]
    return answer({"entries": [_entry(entry) for entry in entries], "next": page.cursor or None})


@router.get(
    "/verify", summary="Is the trail still what was written", response_model=Verdict, responses=problems()
)
async def verify_trail(services: Services, caller: Administrator) -> Response:
    """Recomputes every leaf of the tenant; takes as long as the trail is. Stops at the first broken entry."""
    found = await services.audit.verify_leaves(caller.tenant)
    broken = found.broken
    return answer(
        {
            "sound": found.sound,
            "leaves": found.leaves,
            "jobs": found.jobs,
            "broken": None
            if broken is None
            else {"job": broken.job, "number": broken.number, "seq": broken.seq, "reason": broken.reason},
        }
    )


async def _with_fixes(services: ApiServices, tenant: str, entry: AuditEntry) -> AuditEntry:
    """The entry of a job that was taken up, with what a person corrected, against the plan. What would be hidden of
    an argument elsewhere is hidden here."""
    if entry.type != _REOPENED:
        return entry
    try:
        [stored] = await services.engine.events(tenant, entry.job, after=entry.number - 1, limit=1)
        if not isinstance(stored.event, JobReopened) or not stored.event.fixes:
            return entry
        spec = (await services.engine.query(tenant, entry.job)).spec
    except Unreadable:
        return entry  # Its plan cannot be read any more; that it was corrected still can.
    fixes = {
        spec.tasks[int(index)].id: _corrected(spec.tasks[int(index)], now)
        for index, now in stored.event.fixes.items()
    }
    return replace(entry, details=entry.details | {"fixes": fixes})


def _corrected(task: TaskSpec, now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By argument that is another one than planned, both."""
    seen = {"planned": displayed(task.action, task.arguments), "now": displayed(task.action, now)}
    names = dict.fromkeys((*task.arguments, *now))
    return {
        name: {when: known[name] for when, known in seen.items() if name in known}
        for name in names
        if (name in task.arguments, task.arguments.get(name)) != (name in now, now.get(name))
    }


def _since(since: datetime | None) -> int:
    return 0 if since is None else max(0, milliseconds(since, "since"))


def _plain(text: str) -> str:
    """No stored text holds NUL, so asking for it is asking for nothing; some stores refuse even the
    question."""
    return text.replace("\0", "�")


def _entry(entry: AuditEntry) -> dict[str, Any]:
    return {
        "time": rfc3339(entry.time),
        "what": entry.type,
        "text": entry.text,
        "leaf": entry.leaf,
        "job": entry.job or None,
        "number": entry.number or None,
        "task": entry.task or None,
        "epoch": entry.epoch or None,
        "agent": entry.agent or None,
        "by": entry.by or None,
        "subject": entry.subject or None,
        "details": entry.details or None,
        "pictures": [{"artifact": digest, "href": f"/artifacts/{digest}"} for digest in entry.artifacts],
        "erased": entry.erased,
    }
