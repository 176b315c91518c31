"""A job from its rows, each time in one snapshot of the store.

Many are read as one row per table, a JSON array that the store puts together: for each row the driver gives up the
interpreter lock and fetches it back, which beside a busy loop takes many times as long as the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from cpa.core.audit import ILLEGIBLE
from cpa.core.commands import AnyCommand, Command
from cpa.core.job import JobHead, JobSpec, TaskRun
from cpa.errors import InternalError, NotFound
from cpa.ports.steps import StoredJob, Unreadable

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
        f"SELECT CAST('[' || coalesce(group_concat('[' || n || ',' || CAST({body} AS TEXT) || ']' "  # noqa: S608
        f"{order}), '') || ']' AS BLOB) FROM wanted CROSS JOIN {table} "
        f"ON {table}.tenant = wanted.tenant AND {table}.{job} = wanted.job"
    )


_MANY: Final = (
    _many("jobs", "id", "head"),
    _many("job_specs", "job", "spec"),
    _many("task_runs", "job", "body", "ORDER BY idx"),
    _many("outbox", "job", "body"),
)
_DECODE: Final[tuple[Callable[[bytes], list[tuple[int, Any]]], ...]] = tuple(
    msgspec.json.Decoder(list[tuple[int, each]]).decode  # type: ignore[valid-type]
    for each in (JobHead, JobSpec, TaskRun, AnyCommand)
)


def load(read: Read, tenant: str, job: str) -> StoredJob:
    """See `ports.steps.StepStore`."""
    key = (tenant, job)
    read("BEGIN", ())
    try:
        heads = read("SELECT head FROM jobs WHERE tenant = ? AND id = ?", key)
        specs = read(f"SELECT spec FROM job_specs {_WHERE}", key)  # noqa: S608
        runs = read(f"SELECT body FROM task_runs {_WHERE} ORDER BY idx", key)  # noqa: S608
        commands = read(f"SELECT body FROM outbox {_WHERE}", key)  # noqa: S608
    finally:
        read("COMMIT", ())
    if not heads:
        raise NotFound(f"there is no job {job}", field="job", value=job, remedy="`cpa jobs` lists the jobs")
    try:
        spec = specs[0][0] if specs else b""
        return _stored(heads[0][0], spec, (body for (body,) in runs), (body for (body,) in commands))
    except ILLEGIBLE as error:
        raise Unreadable(
            f"what is stored of job {job} cannot be read: {error}",
            field="job",
            value=job,
            remedy="restore the store from a backup; the other jobs go on",
        ) from error


def load_many(read: Read, keys: Sequence[Key]) -> dict[Key, StoredJob]:
    """See `ports.steps.StepStore`."""
    found: dict[Key, StoredJob] = {}
    for start in range(0, len(keys), _AT_ONCE):
        found.update(_load_some(read, keys[start : start + _AT_ONCE]))
    return found


def _load_some(read: Read, keys: Sequence[Key]) -> dict[Key, StoredJob]:
    """Those of a few jobs that can be read. Where not all can, the halves tell which; `load` tells why."""
    try:
        heads, specs, runs, commands = _values(read, keys)
    except (*ILLEGIBLE, InternalError):
        middle = len(keys) // 2
        return _load_some(read, keys[:middle]) | _load_some(read, keys[middle:]) if middle else {}
    return {
        key: StoredJob(heads[n][0], specs[n][0], tuple(runs[n]), tuple(commands[n]))
        for n, key in enumerate(keys)
        if heads[n] and specs[n]
    }


def _values(read: Read, keys: Sequence[Key]) -> list[list[list[Any]]]:
    """By table and job: its head, its spec, its task runs in their order, its open commands."""
    wanted = ", ".join([f"({n}, ?, ?)" for n in range(len(keys))])
    values = [part for key in keys for part in key]
    read("BEGIN", ())
    try:
        texts = [read(f"WITH wanted(n, tenant, job) AS (VALUES {wanted}) {each}", values) for each in _MANY]
    finally:
        read("COMMIT", ())
    return [_by_job(decode(text), len(keys)) for [(text,)], decode in zip(texts, _DECODE, strict=True)]


def _by_job(rows: Iterable[tuple[int, Any]], jobs: int) -> list[list[Any]]:
    found: list[list[Any]] = [[] for _ in range(jobs)]
    for n, value in rows:
        found[n].append(value)
    return found


def _stored(head: bytes, spec: bytes, runs: Iterable[bytes], commands: Iterable[bytes]) -> StoredJob:
    return StoredJob(
        head=HEAD.decode(head),
        spec=_SPEC.decode(spec),
        tasks=tuple(map(_RUN.decode, runs)),
        commands=tuple(map(_COMMAND.decode, commands)),
    )
