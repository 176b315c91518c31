"""A job from its rows, each time in one snapshot of the store.

Many are read as one row per table, a JSON array that the store puts together: for each row the driver gives up the
interpreter lock and fetches it back, which beside a busy loop takes many times as long as the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, starmap
from secrets import randbits
from typing import Any, Final

import msgspec

from cpa.core.audit import ILLEGIBLE
from cpa.core.commands import AnyCommand, Command
from cpa.core.ids import shown
from cpa.core.job import JobHead, JobSpec, TaskRun
from cpa.errors import InternalError, NotFound
from cpa.ports.steps import StoredJob, Unreadable
from cpa.repository.tables import raw

Read = Callable[[str, Sequence[Any]], list[Any]]
"""Runs a statement with values on one connection; all rows."""
Key = tuple[str, str]
"""(tenant, job id)"""

HEAD: Final = msgspec.json.Decoder(JobHead)
_SPEC: Final = msgspec.json.Decoder(JobSpec)
_RUN: Final = msgspec.json.Decoder(TaskRun)
_COMMAND: Final[msgspec.json.Decoder[Command]] = msgspec.json.Decoder(AnyCommand)
_AT_ONCE: Final = 256
"""Jobs one statement reads: their bytes are in memory several times."""
_WHERE: Final = "WHERE tenant = ? AND job = ?"


def _many(table: str, job: str, body: str, order: str = "") -> str:
    """Selects one JSON array of what a table has of the jobs wanted, each as [number of the job, body]."""
    return (
        f"SELECT CAST('[' || coalesce(group_concat('[' || (n + ?) || ',' || {body} || ']' "  # noqa: S608
        f"{order}), '') || ']' AS BLOB) FROM wanted CROSS JOIN {table} "
        f"ON {table}.tenant = wanted.tenant AND {table}.{job} = wanted.job"
    )


_MANY: Final = (
    _many("jobs", "id", raw("head", "TEXT")),
    _many("job_specs", "job", raw("spec", "TEXT")),
    _many("task_runs", "job", raw("body", "TEXT"), "ORDER BY idx"),
    _many("outbox", "job", f"'[' || json_quote(key) || ',' || {raw('body', 'TEXT')} || ']'"),
)
_DECODE: Final[tuple[Callable[[bytes], list[tuple[int, Any]]], ...]] = tuple(
    msgspec.json.Decoder(list[tuple[int, each]]).decode  # type: ignore[valid-type]
    for each in (JobHead, JobSpec, TaskRun, tuple[str, AnyCommand])
)


def load(read: Read, tenant: str, job: str) -> StoredJob:
    """See `ports.steps.StepStore`."""
    key = (tenant, job)
    if not _legible(key):
        raise _unreadable(job, "its name is no text")
    read("BEGIN", ())
    try:
        heads = read(f"SELECT {raw('head')} FROM jobs WHERE tenant = ? AND id = ?", key)  # noqa: S608
        specs = read(f"SELECT {raw('spec')} FROM job_specs {_WHERE}", key)  # noqa: S608
        runs = read(f"SELECT {raw('body')} FROM task_runs {_WHERE} ORDER BY idx", key)  # noqa: S608
        commands = read(f"SELECT {raw('key')}, {raw('body')} FROM outbox {_WHERE}", key)  # noqa: S608
    finally:
        read("COMMIT", ())
    if not heads:
        raise NotFound(f"there is no job {job}", field="job", value=job, remedy="`cpa jobs` lists the jobs")
    try:
        stored = StoredJob(
            head=HEAD.decode(heads[0][0]),
            spec=_SPEC.decode(specs[0][0] if specs else b""),
            tasks=tuple(_RUN.decode(body) for (body,) in runs),
            commands=tuple(_its_own(name.decode(), _COMMAND.decode(body)) for name, body in commands),
        )
    except (*ILLEGIBLE, InternalError) as error:
        raise _unreadable(job, error) from error
    if (stored.head.tenant, stored.head.id) != key:
        raise _unreadable(job, f"its head is that of {stored.head.id}")
    return stored


def load_many(read: Read, keys: Sequence[Key]) -> dict[Key, StoredJob]:
    """See `ports.steps.StepStore`."""
    found: dict[Key, StoredJob] = {}
    keys = [key for key in keys if _legible(key)]
    for start in range(0, len(keys), _AT_ONCE):
        found.update(_load_some(read, keys[start : start + _AT_ONCE]))
    return found


def _load_some(read: Read, keys: Sequence[Key]) -> dict[Key, StoredJob]:
    """Those of a few jobs that can be read. Where not all can, the halves tell which; `load` tells why."""
    try:
        heads, specs, runs, commands = _values(read, keys)
        return {
            key: StoredJob(heads[n][0], specs[n][0], tuple(runs[n]), tuple(starmap(_its_own, commands[n])))
            for n, key in enumerate(keys)
            if specs[n] and heads[n] and (heads[n][0].tenant, heads[n][0].id) == key
        }
    except (*ILLEGIBLE, InternalError):
        middle = len(keys) // 2
        return _load_some(read, keys[:middle]) | _load_some(read, keys[middle:]) if middle else {}


def _values(read: Read, keys: Sequence[Key]) -> list[list[list[Any]]]:
    """By table and job: its head, its spec, its task runs in their order, its open commands with their keys.

    The jobs' numbers are drawn anew each time: a row that holds more than one value could else name another job as
    theirs.
    """
    first = randbits(60)
    wanted = ", ".join([f"({n}, ?, ?)" for n in range(len(keys))])
    # Not in the statement: the driver knows one that it has seen before.
    values = [*chain.from_iterable(keys), first]
    read("BEGIN", ())
    try:
        texts = [read(f"WITH wanted(n, tenant, job) AS (VALUES {wanted}) {each}", values) for each in _MANY]
    finally:
        read("COMMIT", ())
    return [_by_job(decode(text), first, len(keys)) for [(text,)], decode in zip(texts, _DECODE, strict=True)]


def _by_job(rows: Iterable[tuple[int, Any]], first: int, jobs: int) -> list[list[Any]]:
    found: list[list[Any]] = [[] for _ in range(jobs)]
    for n, value in rows:
        if not 0 <= n - first < jobs:
            raise InternalError("a row holds what names another job as its own", field="number", value=n)
        found[n - first].append(value)
    return found


def _its_own(name: str, command: Command) -> Command:
    """The command of the row with this key: by another one it would never be closed."""
    if command.key != name:
        raise InternalError(f"the row {name} holds the command {command.key}", field="key", value=name)
    return command


def _legible(key: Key) -> bool:
    """Whether it can be a job's."""
    return all(shown(name) == name for name in key)


def _unreadable(job: str, why: object) -> Unreadable:
    job = shown(job)
    return Unreadable(
        f"what is stored of job {job} cannot be read: {why}",
        field="job",
        value=job,
        remedy="restore the store from a backup; the other jobs go on",
    )
