"""A job from its rows, each time in one snapshot of the store.

Many are read by a statement per table and not per job: each call of the driver gives up the interpreter lock and
fetches it back, which costs more than a row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from cpa.core.commands import AnyCommand, Command
from cpa.core.job import JobHead, JobSpec, TaskRun
from cpa.errors import NotFound
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
"""Jobs one statement reads."""
_WHERE: Final = "WHERE tenant = ? AND job = ?"


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
    except msgspec.MsgspecError as error:
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
        some = keys[start : start + _AT_ONCE]
        heads, specs, runs, commands = _rows(read, some)
        for key in some:
            try:
                found[key] = _stored(heads[key][0], specs[key][0], runs[key], commands[key])
            except (IndexError, msgspec.MsgspecError):
                continue  # `load` says what is wrong with it
    return found


def _rows(read: Read, keys: Sequence[Key]) -> tuple[defaultdict[Key, list[bytes]], ...]:
    """By job: its head, its spec, its task runs in their order, its open commands."""
    wanted = f"IN (VALUES {', '.join(['(?, ?)'] * len(keys))})"
    values = [part for key in keys for part in key]
    read("BEGIN", ())
    try:
        tables = [
            read(f"SELECT tenant, id, head FROM jobs WHERE (tenant, id) {wanted}", values),  # noqa: S608
            read(f"SELECT tenant, job, spec FROM job_specs WHERE (tenant, job) {wanted}", values),  # noqa: S608
            read(
                f"SELECT tenant, job, body FROM task_runs WHERE (tenant, job) {wanted} "  # noqa: S608
                "ORDER BY tenant, job, idx",
                values,
            ),
            read(f"SELECT tenant, job, body FROM outbox WHERE (tenant, job) {wanted}", values),  # noqa: S608
        ]
    finally:
        read("COMMIT", ())
    return tuple(_by_job(rows) for rows in tables)


def _by_job(rows: Iterable[tuple[str, str, bytes]]) -> defaultdict[Key, list[bytes]]:
    found: defaultdict[Key, list[bytes]] = defaultdict(list)
    for tenant, job, body in rows:
        found[tenant, job].append(body)
    return found


def _stored(head: bytes, spec: bytes, runs: Iterable[bytes], commands: Iterable[bytes]) -> StoredJob:
    return StoredJob(
        head=HEAD.decode(head),
        spec=_SPEC.decode(spec),
        tasks=tuple(map(_RUN.decode, runs)),
        commands=tuple(map(_COMMAND.decode, commands)),
    )
