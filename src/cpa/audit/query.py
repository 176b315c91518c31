"""Asking the trail: what happened, newest first, and whether it is still what was written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from cpa.core.audit import AuditEntry, entry, kind, unseal, verify
from cpa.core.events import (
    AgentChosen,
    JobSubmitted,
    LeaseLost,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskStarted,
    TaskSucceeded,
    TaskVerified,
)
from cpa.core.ids import shown
from cpa.errors import BadInput, CPAError, NotFound
from cpa.ports.engine import StoredEvent
from cpa.ports.repository import MAX_PAGE, AuditFilter, AuditRepository, AuditRow, LeafRow

_NEW = 1
"""Number of a job's first event."""
_OF_AN_ATTEMPT = (
    TaskStarted,
    TaskRefused,
    TaskSucceeded,
    TaskFailed,
    TaskVerified,
    TaskProposed,
    LeaseLost,
)
"""What became of an attempt; which agent has it, only the event before says that hands it out."""
_CHOSEN = (str(AgentChosen.__struct_config__.tag),)

_Attempt = tuple[str, int, int]
"""Job, index of the task, epoch."""


class AuditPage(msgspec.Struct, frozen=True):
    entries: tuple[AuditEntry, ...]
    """Newest first. May be fewer than asked for, even none, before the end is reached."""
    cursor: str
    """Pass it to go on; empty at the end."""


class Broken(msgspec.Struct, frozen=True):
    """The first fact that is not as it was written."""

    job: str
    number: int
    seq: int
    reason: str


class Verification(msgspec.Struct, frozen=True):
    """What a walk over a tenant's whole trail found."""

    leaves: int
    jobs: int
    broken: Broken | None = None

    @property
    def sound(self) -> bool:
        return self.broken is None


class AuditQuery:
    """Reads one tenant's trail: the events of its jobs and what was done outside them."""

    def __init__(self, repository: AuditRepository) -> None:
        self._repository = repository

    async def list(
        self,
        tenant: str,
        *,
        job: str = "",
        task: str = "",
        actor: str = "",
        types: tuple[str, ...] = (),
        since: int = 0,
        until: int = 0,
        limit: int = 50,
        cursor: str = "",
    ) -> AuditPage:
        """Entries that match every given filter. `task` is a task's id and needs `job`; `actor` an agent,
        person or key; `since` and `until` (exclusive) are milliseconds since 1970 UTC; 0 is no bound.

        Pictures and files of an entry are its `artifacts`; of what became of an attempt, the `agent` is the one
        that had it. Raises `BadInput` for a cursor that is none of
        ours and `NotFound` for a task the job does not have.
        """
        index = await self._index(tenant, job, task)
        which = AuditFilter(job=job, task=index, actor=actor, types=types, since=since, until=until)
        found = await self._repository.slice(tenant, which, limit=limit, below=_place(cursor))
        plans = await self._repository.task_ids(tenant, (row.job for row in found.rows if row.job))
        agents = await self._agents(tenant, found.rows)
        entries = tuple(_entry(row, plans.get(row.job, ()), agents) for row in found.rows)
        return AuditPage(entries, _cursor(found.next))

    async def _agents(self, tenant: str, rows: Sequence[AuditRow]) -> dict[_Attempt, str]:
        """The agent of each attempt in these rows. Most are handed out among them; the others are looked for."""
        found = _chosen(rows)
        open_: dict[str, tuple[tuple[int, int, int], set[_Attempt]]] = {}
        for row in rows:
            attempt = _attempt(row)
            if attempt is not None and attempt not in found:
                open_.setdefault(row.job, (row.place, set()))[1].add(attempt)
        for job, (place, wanted) in open_.items():
            below: tuple[int, int, int] | None = place
            while below is not None and not wanted <= found.keys():
                which = AuditFilter(job=job, types=_CHOSEN)
                page = await self._repository.slice(tenant, which, limit=MAX_PAGE, below=below)
                found |= _chosen(page.rows)
                below = page.next
        return found

    async def _index(self, tenant: str, job: str, task: str) -> int:
        if not task:
            return -1
        if not job:
            raise BadInput("a task is looked for within a job", field="task", remedy="name the job too")
        ids = (await self._repository.task_ids(tenant, (job,))).get(job, ())
        if task not in ids:
            raise NotFound(
                f"job {job} has no task {task}",
                field="task",
                value=task,
                remedy=f"its tasks are: {', '.join(ids[:20])}" if ids else "check the job's id",
            )
        return ids.index(task)

    async def verify_leaves(self, tenant: str) -> Verification:
        """Recompute every leaf of the tenant and check that numbers run 1, 2, 3 … to the job's last.

        Stops at the first fact that was changed, removed or added; `broken` says which. Walks the whole
        trail page by page while others write: what is stored during the walk may or may not be part of it.
        """
        leaves = jobs = 0
        heads = _Heads(self._repository, tenant)
        last: LeafRow | None = None
        async for row in self._walk(tenant):
            if last is None or row.job != last.job:
                broken = await heads.skipped(row, last)
                jobs += 1
            else:
                broken = _gap(row, last)
            broken = broken or _unsound(row, tenant)
            if broken is not None:
                return Verification(leaves, jobs, broken)
            leaves, last = leaves + 1, row
        broken = await heads.rest(last)
        if broken is not None:
            return Verification(leaves, jobs, broken)
        return await self._verify_others(tenant, leaves, jobs)

    async def _verify_others(self, tenant: str, leaves: int, jobs: int) -> Verification:
        after = 0
        while rows := await self._repository.other_leaves(tenant, after=after):
            for row in rows:
                broken = _unsound(row, tenant)
                if broken is not None:
                    return Verification(leaves, jobs, broken)
                leaves += 1
            after = rows[-1].seq
        return Verification(leaves, jobs)

    async def _walk(self, tenant: str) -> AsyncIterator[LeafRow]:
        after = ("", 0)
        while rows := await self._repository.leaves(tenant, after=after):
            for row in rows:
                yield row
            after = (rows[-1].job, rows[-1].number)


class _Heads:
    """Walks the jobs table beside the events: each job's last number must be that of its last event."""

    def __init__(self, repository: AuditRepository, tenant: str) -> None:
        self._repository, self._tenant = repository, tenant
        self._page: list[tuple[str, int]] = []
        self._after = ""

    async def skipped(self, row: LeafRow, last: LeafRow | None) -> Broken | None:
        """At the first event of a job: whether the job before was complete, and none in between is without
        events. A job that appeared or grew after its events were read is no gap."""
        if shown(row.job) != row.job:
            return _nameless(row.job, row.number, row.seq)
        broken = await self._until(row.job, last)
        if broken is None and row.number != _NEW:
            missing = (
                f"events 1 to {row.number - 1} are missing" if row.number > _NEW else "its number is none"
            )
            return Broken(row.job, _NEW, row.seq, missing)
        return broken

    async def rest(self, last: LeafRow | None) -> Broken | None:
        return await self._until(None, last)

    async def _until(self, job: str | None, last: LeafRow | None) -> Broken | None:
        while (head := await self._next()) is not None:
            name, number = head
            if shown(name) != name:
                return _nameless(name, number)
            if job is not None and name >= job:
                return None
            self._page.pop()
            seen = last.number if last is not None and last.job == name else 0
            if seen < number and not await self._grew(name, seen):
                return Broken(name, seen + 1, 0, f"events {seen + 1} to {number} are missing")
        return None

    async def _grew(self, job: str, seen: int) -> bool:
        """Whether the missing events came in after the walk had passed."""
        rows = await self._repository.leaves(self._tenant, after=(job, seen), limit=1)
        return bool(rows) and (rows[0].job, rows[0].number) == (job, seen + 1)

    async def _next(self) -> tuple[str, int] | None:
        if not self._page:
            page = await self._repository.numbers(self._tenant, after=self._after)
            if page:
                self._after = page[-1][0]
            self._page = list(page[::-1])
        return self._page[-1] if self._page else None


def _nameless(job: str, number: int, seq: int = 0) -> Broken:
    return Broken(shown(job), number, seq, "the name of the job is no text")


def _gap(row: LeafRow, last: LeafRow) -> Broken | None:
    if row.number == last.number + 1:
        return None
    return Broken(row.job, last.number + 1, row.seq, f"event {last.number + 1} is missing")


def _unsound(row: LeafRow, tenant: str) -> Broken | None:
    """Whether the bytes are those of the leaf, and the row around them says the same as they do."""
    if not verify(row.body, row.private, row.leaf):
        return Broken(row.job, row.number, row.seq, "the stored bytes do not hash to the leaf")
    try:
        event = unseal(row.body, row.private)
    except CPAError as error:
        return Broken(row.job, row.number, row.seq, error.message)
    if (kind(event), event.time) != (row.type, row.time):
        return Broken(row.job, row.number, row.seq, "type or time of the row differ from the stored bytes")
    submitted = isinstance(event, JobSubmitted)
    if submitted != (row.number == _NEW and bool(row.job)):
        return Broken(row.job, row.number, row.seq, "a job begins with its submission, and only there")
    if isinstance(event, JobSubmitted) and (event.tenant, event.job) != (tenant, row.job):
        return Broken(row.job, row.number, row.seq, "the submission is that of another job")
    return None


def _entry(row: AuditRow, tasks: tuple[str, ...], agents: Mapping[_Attempt, str]) -> AuditEntry:
    read = StoredEvent(row.job, row.number, row.event, row.leaf, row.body)
    told = entry(read, tasks, erased=row.erased)
    attempt = _attempt(row)
    return told if attempt is None else replace(told, agent=agents.get(attempt, ""))


def _chosen(rows: Sequence[AuditRow]) -> dict[_Attempt, str]:
    """The agent of each attempt that these rows hand out."""
    return {
        (row.job, row.event.task, row.event.epoch): row.event.agent
        for row in rows
        if isinstance(row.event, AgentChosen)
    }


def _attempt(row: AuditRow) -> _Attempt | None:
    """The attempt that a row says something of; None where it is none of an agent."""
    event = row.event
    return (row.job, event.task, event.epoch) if isinstance(event, _OF_AN_ATTEMPT) and event.epoch else None


def _cursor(place: tuple[int, int, int] | None) -> str:
    return "" if place is None else "-".join(str(part) for part in place)


def _place(cursor: str) -> tuple[int, int, int] | None:
    if not cursor:
        return None
    parts = cursor.split("-")
    if len(parts) != 3 or not all(map(_counts, parts)):
        raise BadInput(
            "this is no cursor of the audit trail",
            field="cursor",
            value=cursor,
            remedy="pass the cursor of the last page unchanged, or none to begin anew",
        )
    time, source, seq = (int(part) for part in parts)
    return time, source, seq


def _counts(part: str) -> bool:
    """Whether it is a number that the store can hold."""
    return part.isascii() and part.isdigit() and len(part) < 20 and int(part) < 1 << 63
