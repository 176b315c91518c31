"""The store: one SQLite file in WAL mode, opened by one process, through pysqlite3's own SQLite alone.

Who writes and who reads:
- The hot step has a raw connection of its own (`connect`). Everything else writes through `write`, in one
  short transaction. Both hold `writing` while they do: SQLite admits one writer, and a lock hands over at
  once where its busy handler would sleep and poll.
- Reads run in a few threads, each call on one snapshot; they never wait for a writer.

synchronous=FULL makes a returned commit survive power loss. Memory-mapped reading is off: with it an I/O
error kills the process. Freed bytes are overwritten (`secure_delete`), so that erased data is not left in the
file: by the hot step in pages it writes anyway, by `write` in all pages.

A new file gets the tables as they are today and the newest revision's stamp; Alembic, which takes long to
import, is loaded only to lift an older store.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from pysqlite3 import dbapi2
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool

from cpa.errors import BadInput, CPAError, InternalError, Unavailable
from cpa.repository.lock import FileLock
from cpa.repository.migrations import REVISIONS
from cpa.repository.tables import metadata

T = TypeVar("T")

BUSY_MS: Final = 10_000
"""How long a connection waits for another process (a backup, an offline reader) to let go."""
_PRAGMAS: Final = (
    f"PRAGMA busy_timeout={BUSY_MS}",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA mmap_size=0",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA secure_delete=FAST",
    "PRAGMA journal_size_limit=67108864",
)
_CACHE_KIB: Final = 8_192


def store_path(url: str | Path) -> Path:
    """The file a store URL (`sqlite:///relative`, `sqlite:////absolute`) or plain path names.

    Raises `BadInput` for an in-memory store and for databases this version does not offer.
    """
    text = str(url)
    if isinstance(url, Path) or "://" not in text:
        return _file(text, text)
    try:
        parsed = sa.make_url(text)
    except ArgumentError as error:
        raise _refused(text, "the database URL cannot be read") from error
    if parsed.get_backend_name() != "sqlite":
        shown = parsed.render_as_string(hide_password=True)
        raise _refused(shown, f"{parsed.get_backend_name()} is not offered in this version, only SQLite is")
    if parsed.get_driver_name() not in ("", "pysqlite"):
        raise _refused(text, f"driver {parsed.get_driver_name()} is not used here")
    return _file(parsed.database or "", text)


def _file(name: str, url: str) -> Path:
    if not name or name == ":memory:" or name.startswith("file:"):
        raise _refused(url, "the store must be a file, it has to survive the process")
    return Path(name).expanduser().absolute()


def _refused(url: str, message: str) -> BadInput:
    return BadInput(
        message,
        field="database_url",
        value=url,
        remedy="set DATABASE_URL to sqlite:////absolute/path/cpa.db, or leave it empty for <data>/cpa.db",
    )


# -- errors --------------------------------------------------------------------------------------------------

_TROUBLE: Final[dict[int, tuple[str, str]]] = {
    3: ("may not be accessed", "give the process's user read and write rights on the file and its folder"),
    5: ("is locked by another program", "close backup tools or shells that hold it, then try again"),
    6: ("is locked", "try again"),
    8: ("is read-only", "give the process's user write rights on the file and its folder"),
    10: ("cannot be read or written (I/O error)", "check the disk, then restart"),
    11: ("is damaged", "stop, keep a copy of the file, and restore the last backup"),
    13: ("has no room: the disk is full", "free disk space, then try again; nothing stored was lost"),
    14: ("cannot be opened", "check that its folder exists and may be written"),
    26: ("is no SQLite database", "name another file, or restore the last backup"),
}
"""By SQLite's primary result code."""


def trouble(error: BaseException, path: Path | str) -> CPAError:
    """The clear error for what the driver (or SQLAlchemy around it) raised: `Unavailable` where an operator
    can mend it, `InternalError` for everything else."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    code = getattr(original, "sqlite_errorcode", None)
    known = _TROUBLE.get(code & 0xFF) if isinstance(code, int) else None
    if known is None:
        return InternalError(f"the store refused a statement: {original}", field="store", value=str(path))
    return Unavailable(f"the store {path} {known[0]}", field="database_url", value=str(path), remedy=known[1])


@contextmanager
def _clear(path: Path) -> Iterator[None]:
    """Turns the driver's errors into ours."""
    try:
        yield
    except (dbapi2.Error, DBAPIError) as error:
        raise trouble(error, path) from error


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the store {path} cannot be opened: {error.strerror or error}",
            field="database_url",
            value=str(path),
            remedy="check that its folder exists and may be written",
        ) from error


# -- the store -----------------------------------------------------------------------------------------------


class Database:
    """An open store. Build it with `Database.open`; whoever opened it closes it, after its users."""

    def __init__(self, path: Path, lock: FileLock | None, *, readers: int, readonly: bool) -> None:
        self.path = path
        self.readonly = readonly
        self.writing = threading.Lock()
        """Held by whoever is in a write transaction of this process."""
        self._lock = lock
        self._reader = _engine(partial(self.connect, query_only=True), readers)
        self._writer = _engine(self._erasing, 1)
        self._read_pool = ThreadPoolExecutor(readers, thread_name_prefix="store-read")
        self._write_pool = ThreadPoolExecutor(1, thread_name_prefix="store-write")

    @classmethod
    def open(cls, url: str | Path, *, readers: int = 4, readonly: bool = False) -> Database:
        """Open, creating or upgrading the file first.

        With `readonly` the file must exist and be current; nothing is locked or changed, so it may be read
        while another process serves it. Otherwise this process owns the file until `close`. Raises
        `Unavailable` (in use, newer than this program, damaged, no rights, disk full) or `BadInput` (URL).
        """
        path = store_path(url)
        with _opening(path):
            lock = None if readonly else _own(path)
        database = cls(path, lock, readers=readers, readonly=readonly)
        try:
            _upgrade(database)
        except BaseException:
            database.close()
            raise
        return database

    def connect(self, *, query_only: bool = False, cache_kib: int = _CACHE_KIB) -> Any:
        """A new driver connection (DB-API, autocommit: say BEGIN yourself), prepared like all others.

        The caller closes it. May be used from any one thread at a time.
        """
        mode = "ro" if self.readonly else "rw"
        connection = dbapi2.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            connection.execute(f"PRAGMA cache_size=-{cache_kib}")
            if query_only or self.readonly:
                connection.execute("PRAGMA query_only=ON")
            else:
                connection.execute("PRAGMA journal_mode=WAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _erasing(self) -> Any:
        connection = self.connect()
        connection.execute("PRAGMA secure_delete=ON")
        return connection

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a reading thread, on one consistent snapshot."""
        return await asyncio.get_running_loop().run_in_executor(self._read_pool, self.read_now, work)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one write transaction; durable on return, undone if `work` raises. Keep it short:
        every other writer waits. A cancelled caller does not stop it."""
        return await asyncio.get_running_loop().run_in_executor(self._write_pool, self.write_now, work)

    def read_now(self, work: Callable[[sa.Connection], T]) -> T:
        """`read` for callers without an event loop."""
        with _clear(self.path), self._reader.connect() as connection, connection.begin():
            return work(connection)

    def write_now(self, work: Callable[[sa.Connection], T]) -> T:
        """`write` for callers without an event loop."""
        with (
            _clear(self.path),
            self.writing,
            self._writer.connect() as connection,
            connection.execution_options(immediate=True).begin(),
        ):
            return work(connection)

    def close(self) -> None:
        """Wait for running calls, close every connection, let go of the file; more than once does no harm."""
        try:
            self._read_pool.shutdown()
            self._write_pool.shutdown()
            self._reader.dispose()
            self._writer.dispose()
        finally:
            if self._lock is not None:
                self._lock.release()


def _engine(connect: Callable[[], Any], size: int) -> sa.Engine:
    engine = sa.create_engine(
        "sqlite://",
        module=dbapi2,
        creator=connect,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=BUSY_MS / 1000,
    )

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # The driver would begin only before the first change, and then too late to see one snapshot.
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _own(path: Path) -> FileLock:
    """Lock the file, creating it and its folder for this user's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except BaseException:
        lock.release()
        raise
    return lock


# -- revisions -----------------------------------------------------------------------------------------------

_VERSIONS: Final = sa.table("alembic_version", sa.column("version_num", sa.String))


def upgrade(url: str | Path) -> tuple[str, str]:
    """Bring a store to this program's revision; returns (before, after), before is "" for a new one."""
    path = store_path(url)
    before = ""
    if path.exists() and path.stat().st_size:
        with _clear(path):
            connection = dbapi2.connect(f"{path.as_uri()}?mode=ro", uri=True)
            try:
                before = _revision(lambda sql: connection.execute(sql).fetchall()) or ""
            finally:
                connection.close()
    Database.open(path).close()
    return before, REVISIONS[-1]


def _revision(query: Callable[[str], Any]) -> str | None:
    """The stamp of a store; None for an empty file, "base" before the first, "?" for a foreign database."""
    names = {row[0] for row in query("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" not in names:
        return "?" if names else None
    rows = query("SELECT version_num FROM alembic_version")
    return str(rows[0][0]) if rows else "base"


def _upgrade(database: Database) -> None:
    revision = database.read_now(lambda c: _revision(lambda sql: c.exec_driver_sql(sql).fetchall()))
    if revision == REVISIONS[-1]:
        return
    if revision not in (None, "base", *REVISIONS):
        raise _foreign(database.path, revision)
    if database.readonly:
        raise Unavailable(
            f"the store {database.path} is of revision {revision or 'none'}, not {REVISIONS[-1]}",
            field="database_url",
            value=str(database.path),
            remedy="upgrade it first with `cpa migrate`",
        )
    database.write_now(_create if revision is None else _migrate)


def _foreign(path: Path, revision: str | None) -> Unavailable:
    if revision == "?":
        message, remedy = "holds tables of another program", "name another file"
    else:
        message = f"is of revision {revision}, newer than this program ({REVISIONS[-1]})"
        remedy = "start the newer version that wrote it, or restore a backup from before"
    return Unavailable(f"the store {path} {message}", field="database_url", value=str(path), remedy=remedy)


def _create(connection: sa.Connection) -> None:
    metadata.create_all(connection)
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.execute(sa.insert(_VERSIONS).values(version_num=REVISIONS[-1]))


def _migrate(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def developer_engine(url: str) -> sa.Engine:
    """A bare engine for Alembic's command line: no lock, no upgrade. Not for the program."""
    path = store_path(url)

    def connect() -> Any:
        return dbapi2.connect(str(path), isolation_level=None)

    return _engine(connect, 1)
