"""Looking after a server's folder: serve it, upgrade it, prove its trail, replay its jobs, keep keys and tokens.

Everything but `serve` and `migrate` works beside a running server: reading looks at one snapshot of the
store, and a key is one short transaction, which SQLite admits from a second process.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import typer

from cpa.cli.call import Finding, fitting, read
from cpa.core.events import AnyEvent, Event
from cpa.core.job import JobHead, JobSpec, JobState, TaskRun
from cpa.core.replay import replay as rerun
from cpa.core.views import rfc3339
from cpa.errors import BadInput, CPAError, InvalidDocument, NotFound, first_error
from cpa.ports.keys import Scope, StoredKey
from cpa.repository.database import Database, upgrade
from cpa.repository.jobs import SqlJobRepository
from cpa.repository.keys import SqlKeyStore
from cpa.settings import Settings

if TYPE_CHECKING:
    from cpa.bootstrap import Scheduler

T = TypeVar("T")
TENANT = "default"
DAY = 86_400_000


class History(msgspec.Struct, frozen=True):
    """A job as stored: what was planned, what happened, and where it stood then."""

    spec: JobSpec
    events: list[AnyEvent]
    head: JobHead | None = None
    tasks: list[TaskRun] = []
    """Those that ever moved."""


# -- the server ----------------------------------------------------------------------------------------------


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; one line on standard output when requests are answered."""
    # What is made until requests are answered lives as long as the process, so the collector would look through it
    # again and again, finding next to nothing: a tenth of the start. `tune` switches it on again.
    gc.disable()
    from cpa.agents.loop import run
    from cpa.bootstrap import serve as serve_forever

    def ready(scheduler: Scheduler, url: str) -> None:
        new = " (new: there was no store yet)" if scheduler.store.new else ""
        if new and settings.workspace is None:
            typer.echo(
                f"cpa: there is no cpa.yaml in {Path.cwd()}: only what CPA brings along can be asked for. "
                "To serve a workspace, start in its folder or name it with --workspace; `cpa init` makes one.",
                err=True,
            )
        far = f", jobs on Temporal at {settings.temporal_address}" if settings.engine == "temporal" else ""
        typer.echo(f"cpa is ready at {url}, data in {settings.data.absolute()}{new}{far}")

    try:
        run(serve_forever(settings, ready=ready))
    except* CPAError as group:
        raise first_error(group) from None


def migrate(settings: Settings) -> str:
    """Upgrade the store; says from which revision to which."""
    before, after = upgrade(_url(settings))
    if before == after:
        return f"the store is at revision {after} already"
    return f"the store went from revision {before or 'none'} to {after}"


# -- the store -----------------------------------------------------------------------------------------------


def _url(settings: Settings) -> str | Path:
    return settings.database_url or settings.data / "cpa.db"


def _with_store(
    settings: Settings, work: Callable[[Database], Coroutine[Any, Any, T]], *, write: bool = False
) -> T:
    """Run `work` on the store, whether or not a server has it open."""
    path = _url(settings)
    if isinstance(path, Path) and not path.exists():
        raise NotFound(
            f"there is no store at {path}",
            field="data",
            value=str(path),
            remedy="name its folder with --data",
        )
    database = Database.open(path, readers=1, readonly=True)
    if write:
        known = database.path
        database.close()
        database = Database(known, None, readers=1, readonly=False)
    try:
        return asyncio.run(work(database))
    finally:
        database.close()


def verify(settings: Settings) -> Finding:
    """Recompute every leaf of the audit trail from the stored bytes, and look for gaps."""
    from cpa.audit.query import AuditQuery
    from cpa.repository.audit import SqlAuditRepository

    found = _with_store(settings, lambda store: AuditQuery(SqlAuditRepository(store)).verify_leaves(TENANT))
    facts = {"sound": found.sound, "leaves": found.leaves, "jobs": found.jobs}
    if found.broken is None:
        return Finding(True, f"sound: {found.leaves} leaves of {found.jobs} jobs, no gap", facts)
    broken = found.broken
    where = f"event {broken.number} of job {broken.job}" if broken.job else f"entry {broken.seq}"
    facts["broken"] = msgspec.to_builtins(broken)
    return Finding(
        False, f"NOT sound at {where}: {broken.reason} ({found.leaves} leaves before it are)", facts
    )


# -- replay --------------------------------------------------------------------------------------------------


def replay(what: str, settings: Settings) -> Finding:
    """Run a stored history through the core, and compare what comes out with what is stored."""
    file = Path(what)
    history = _from_file(file) if file.is_file() else _from_store(what, settings)
    try:
        steps = [state for _, _, state in rerun(history.spec, history.events)]
    except CPAError as error:
        return Finding(
            False, f"the core does not accept this history: {error}", {"equal": False, "error": str(error)}
        )
    if not steps:
        raise InvalidDocument("this history has no events", field="events", remedy="name a whole history")
    state = steps[-1]
    different = _differences(history, state)
    head = state.head
    facts = {
        "equal": not different,
        "events": head.number,
        "status": head.status.value,
        "differences": different,
    }
    if history.head is None:
        return Finding(
            True, f"{head.number} events lead to {head.status.value}; no state is stored to compare", facts
        )
    if different:
        return Finding(False, f"NOT equal after {head.number} events: {'; '.join(different)}", facts)
    return Finding(True, f"equal: {head.number} events lead to the stored state, {head.status.value}", facts)


def _differences(history: History, state: JobState) -> list[str]:
    """In which parts the stored state is another than the one the events lead to."""
    found = []
    if history.head is not None and history.head != state.head:
        names = [f.name for f in msgspec.structs.fields(JobHead) if _differ(history.head, state.head, f.name)]
        found.append(f"head: {', '.join(names)}")
    for run in history.tasks if history.head is not None else []:
        if run != state.task(run.index):
            found.append(f"task {history.spec.tasks[run.index].id}")
    return found


def _differ(left: object, right: object, name: str) -> bool:
    return bool(getattr(left, name) != getattr(right, name))


def _from_store(job: str, settings: Settings) -> History:
    async def load(store: Database) -> History:
        jobs = SqlJobRepository(store)
        newest = await jobs.page(TENANT, limit=1000)
        wanted = fitting(job.strip().lower(), [head.id for head, _, _ in newest.jobs])
        while True:
            snapshot = await jobs.get(TENANT, wanted)
            events: list[Event] = []
            while page := await jobs.events(TENANT, wanted, after=len(events)):
                events += [stored.event for stored in page]
            # A running job may have gone on between the two looks: look again.
            if len(events) == snapshot.head.number:
                return History(snapshot.spec, events, snapshot.head, list(snapshot.tasks))  # type: ignore[arg-type]

    return _with_store(settings, load)


def _from_file(file: Path) -> History:
    try:
        return msgspec.json.decode(read(file), type=History)
    except msgspec.MsgspecError as error:
        raise InvalidDocument(
            f"{file} is no history: {error}", value=str(file), remedy="a history has the keys spec and events"
        ) from error


# -- keys ----------------------------------------------------------------------------------------------------


def add_key(settings: Settings, name: str, scopes: list[str], days: int) -> str:
    """Make a key; the key itself, to be shown once."""
    from cpa.security.auth import Hasher, check_name, issue

    try:
        wanted = frozenset(Scope(scope) for scope in scopes)
    except ValueError as error:
        raise BadInput(
            f"there is no scope {str(error).split()[0]}",
            field="scope",
            remedy=f"choose of {', '.join(Scope)}",
        ) from error
    now = time.time_ns() // 1_000_000

    async def work(store: Database) -> str:
        hasher, keys = Hasher.of(settings.data), SqlKeyStore(store)
        check_name(name, await keys.list(TENANT))
        key, stored = issue(
            hasher, name=name, scopes=wanted, now=now, expires=now + days * DAY if days else 0
        )
        await keys.add(stored)
        return key

    return _with_store(settings, work, write=True)


def all_keys(settings: Settings) -> list[dict[str, str]]:
    now = time.time_ns() // 1_000_000
    found = _with_store(settings, lambda store: SqlKeyStore(store).list(TENANT))
    return [_shown(key, now) for key in found]


def found_keys(settings: Settings, folder: Path) -> tuple[StoredKey, ...] | None:
    """The keys in the store of these settings, or else in the `cpa-data` of this folder; None where there is no
    store that can be read: rules can be looked at without any."""
    for data in (settings.data, folder / "cpa-data"):
        known = settings.model_copy(update={"data": data})
        try:
            return _with_store(known, lambda store: SqlKeyStore(store).list(TENANT))
        except CPAError:
            continue
    return None


def _shown(key: StoredKey, now: int) -> dict[str, str]:
    state = "active" if key.active(now) else "revoked" if key.revoked else "expired"
    return {
        "id": key.id,
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "created": rfc3339(key.created),
        "expires": rfc3339(key.expires) if key.expires else "",
        "state": state,
    }


def revoke_key(settings: Settings, key: str) -> None:
    now = time.time_ns() // 1_000_000
    done = _with_store(settings, lambda store: SqlKeyStore(store).revoke(TENANT, key, now), write=True)
    if not done:
        raise NotFound(
            f"there is no active key {key}", field="key", value=key, remedy="`cpa keys list` shows the keys"
        )


def add_token(settings: Settings, name: str, uses: int, hours: int) -> str:
    """Make an enrolment token; the token itself, to be shown once."""
    from cpa.repository.enrolment import SqlTokenStore
    from cpa.security.auth import Hasher
    from cpa.security.enrolment import issue_token

    now = time.time_ns() // 1_000_000
    expires = now + hours * 3_600_000 if hours else 0

    async def work(store: Database) -> str:
        hasher = Hasher.of(settings.data)
        token, stored = issue_token(hasher, now=now, tenant=TENANT, name=name, uses=uses, expires=expires)
        await SqlTokenStore(store).add(stored)
        return token

    return _with_store(settings, work, write=True)


def all_tokens(settings: Settings) -> list[dict[str, Any]]:
    from cpa.repository.enrolment import SqlTokenStore

    now = time.time_ns() // 1_000_000
    return [
        {
            "id": token.id,
            "agent": token.name,
            "uses": token.uses,
            "created": rfc3339(token.created),
            "expires": rfc3339(token.expires) if token.expires else "",
            "state": "active" if token.active(now) else "revoked" if token.revoked else "over",
        }
        for token in _with_store(settings, lambda store: SqlTokenStore(store).list(TENANT))
    ]


def revoke_token(settings: Settings, token: str) -> None:
    from cpa.repository.enrolment import SqlTokenStore

    now = time.time_ns() // 1_000_000
    if not _with_store(settings, lambda store: SqlTokenStore(store).revoke(TENANT, token, now), write=True):
        raise NotFound(
            f"there is no active token {token}",
            field="token",
            value=token,
            remedy="`cpa agents tokens` shows the tokens",
        )
