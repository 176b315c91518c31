"""What an agent remembers across its own death: which attempts it began, and which answers nobody has
acknowledged.

    take        before an attempt begins: the same request can come again, now or after a restart, and must be known
    answer      before it is sent: what was done must reach the scheduler, also through a crash
    delivered   when it was acknowledged: the answer stays for a day, for whoever asks again

An SQLite file of its own, written by one thread; what is asked for at the same time shares a commit. With one
connection to one file, held exclusively, two processes of the same agent exclude each other.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from cpa.errors import Conflict, Unavailable
from cpa.ports.agents import Named
from cpa.ports.clock import Clock

try:
    # The SQLite that comes with it is newer, and one process should hold one SQLite only.
    import pysqlite3 as sqlite3
except ImportError:
    import sqlite3

T = TypeVar("T")

KEPT: Final = 24 * 3600 * 1000
"""Milliseconds an answered and acknowledged attempt is remembered."""
_SWEEP: Final = 3600 * 1000
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS attempts (
        message TEXT PRIMARY KEY, job TEXT NOT NULL, task TEXT NOT NULL, epoch INTEGER NOT NULL,
        effect TEXT NOT NULL, life TEXT NOT NULL, taken INTEGER NOT NULL,
        answer_id TEXT, answer BLOB, delivered INTEGER) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS names ON attempts (job, task, epoch)",
    "CREATE INDEX IF NOT EXISTS answers ON attempts (answer_id) WHERE answer_id IS NOT NULL",
    """CREATE INDEX IF NOT EXISTS open_answers ON attempts (taken)
        WHERE answer IS NOT NULL AND delivered IS NULL""",
    "CREATE TABLE IF NOT EXISTS lives (incarnation INTEGER NOT NULL)",
)
"""`effect` is empty: nothing reads it, but an earlier version that opens the file would write it."""
_NEXT_LIFE: Final = (
    "INSERT INTO lives SELECT max(coalesce(max(incarnation), 0) + 1, ?) FROM lives RETURNING incarnation"
)
"""The clock's milliseconds, so that an agent whose folder was lost goes on counting; a clock put back does not."""

_HIDING: Final = ".gitignore"
_PREPARED: Final = frozenset({"secrets"})
"""What may lie in an agent's own folder before its first start."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request that was here before."""

    life: str
    """The process that took it."""
    answer: bytes | None
    """The LAM message that answers it; None as long as there is none."""


class Outbox:
    """One agent's memory. Everything is durable on return; `Unavailable` when it cannot be written.

    Open it with `open`, end it with `close`.
    """

    def __init__(
        self,
        connection: Any,
        thread: ThreadPoolExecutor,
        life: str,
        clock: Clock,
        incarnation: int,
        made: Path | None = None,
    ) -> None:
        """`made`: the file, where its folder was made for it."""
        self._made = made
        self.incarnation = incarnation
        """Greater each time the file is opened."""
        self._connection = connection
        self._thread = thread
        self._life = life
        self._clock = clock
        self._waiting: list[tuple[Callable[[Any], Any], asyncio.Future[Any]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._swept = 0

    @classmethod
    async def open(cls, path: Path, life: str, clock: Clock) -> Outbox:
        """The outbox in this file, made if it is not there; `life` names this process.

        `Conflict` when another process has it open, `Unavailable` when it cannot be opened.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        made = None if path.parent.exists() else path
        try:
            connect = partial(_connect, path, clock.now_ms())
            connection, incarnation = await asyncio.get_running_loop().run_in_executor(thread, connect)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread, life, clock, incarnation, made)

    async def take(self, message: str, named: Named) -> Kept | None:
        """Remember that this attempt begins, by the request of this id; or what is known of it, when it was taken
        before."""
        return await self._write(partial(self._take, message, named, self._clock.now_ms()))

    async def find(self, named: Named) -> Kept | None:
        """What is known of this attempt, by whatever request."""
        sql = "SELECT life, answer FROM attempts WHERE job = ? AND task = ? AND epoch = ?"
        row = await self._write(lambda db: db.execute(sql, (named.job, named.task, named.epoch)).fetchone())
        return None if row is None else _kept(row)

    async def answer(self, message: str, answer_id: str, answer: bytes) -> None:
        """Keep the answer to this request. The first one stays."""
        sql = "UPDATE attempts SET answer_id = ?, answer = ? WHERE message = ? AND answer IS NULL"
        await self._write(_run(sql, answer_id, answer, message))

    async def delivered(self, answer_id: str) -> None:
        """The scheduler has this answer."""
        sql = "UPDATE attempts SET delivered = ? WHERE answer_id = ?"
        await self._write(_run(sql, self._clock.now_ms(), answer_id))

    async def undelivered(self) -> list[bytes]:
        """The answers nobody has acknowledged, oldest first."""
        sql = "SELECT answer FROM attempts WHERE answer IS NOT NULL AND delivered IS NULL ORDER BY taken, message"
        return await self._write(lambda db: [bytes(row[0]) for row in db.execute(sql)])

    async def close(self) -> None:
        """Finish what is being written, and let go of the file."""
        if self._writer is not None:
            await self._writer
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        finally:
            self._thread.shutdown(wait=False)

    async def discard(self) -> None:
        """Close it; a folder that was made for it goes with it, unless somebody put something in. For an agent that
        never was one: there is nothing to remember."""
        await self.close()
        if self._made is not None:
            with suppress(OSError):
                self._made.unlink()
                hiding = self._made.with_name(_HIDING)
                if list(hiding.parent.iterdir()) == [hiding]:
                    hiding.unlink()
                    hiding.parent.rmdir()

    # -- inside --------------------------------------------------------------------------------------------

    def _take(self, message: str, named: Named, now: int, db: Any) -> Kept | None:
        if now - self._swept > _SWEEP:
            self._swept = now
            db.execute("DELETE FROM attempts WHERE delivered < ?", (now - KEPT,))
            # What never got an answer is the scheduler's business; after that long it does not ask again.
            db.execute(
                "DELETE FROM attempts WHERE answer IS NULL AND life <> ? AND taken < ?",
                (self._life, now - KEPT),
            )
        sql = "SELECT life, answer FROM attempts WHERE message = ?"
        row = db.execute(sql, (message,)).fetchone()
        if row is not None:
            return _kept(row)
        db.execute(
            "INSERT INTO attempts VALUES (?, ?, ?, ?, '', ?, ?, NULL, NULL, NULL)",
            (message, named.job, named.task, named.epoch, self._life, now),
        )
        return None

    async def _write(self, work: Callable[[Any], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._drain(), name="outbox")
        return await future

    async def _drain(self) -> None:
        """Commit what waits, together, until nothing does."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            works = [work for work, _ in batch]
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(self._thread, _commit, self._connection, works)
            for number, (_, future) in enumerate(batch):
                if future.done():
                    continue
                if isinstance(outcome, list):
                    future.set_result(outcome[number])
                else:
                    future.set_exception(outcome)


def _kept(row: Any) -> Kept:
    return Kept(life=row[0], answer=row[1])


def _run(sql: str, *values: Any) -> Callable[[Any], None]:
    def work(db: Any) -> None:
        db.execute(sql, values)

    return work


def _connect(path: Path, now: int) -> tuple[Any, int]:
    """The connection, and this life's incarnation."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _hide(path.parent)
        # Made before SQLite makes it: what it puts beside it has the same rights.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        for table in _TABLES:
            connection.execute(table)
        [incarnation] = connection.execute(_NEXT_LIFE, (now,)).fetchone()
        connection.execute("DELETE FROM lives WHERE incarnation < ?", (incarnation,))
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise Conflict(
                f"another process uses {path.parent}",
                field="data",
                value=str(path.parent),
                remedy="stop that agent, or give this one its own folder with --data",
            ) from error
        raise _unavailable(path, error) from error
    except (OSError, sqlite3.DatabaseError) as error:
        raise _unavailable(path, error) from error
    return connection, incarnation


def _hide(folder: Path) -> None:
    """Keep a folder that is the agent's alone out of any repository around it: its key comes to lie there."""
    if {each.name for each in folder.iterdir()} <= _PREPARED:
        hiding = folder / _HIDING
        hiding.touch(0o600)
        hiding.write_text("*\n", "ascii")


def _commit(connection: Any, works: list[Callable[[Any], Any]]) -> list[Any] | Unavailable:
    """Do these in one transaction; what each gave, or why none counts."""
    try:
        _undo(connection)
        connection.execute("BEGIN IMMEDIATE")
        found = [work(connection) for work in works]
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - returned: who waits for it must hear of it, whatever it is
        with suppress(sqlite3.Error):  # a disk that is away: undone by the next one
            _undo(connection)
        return _unavailable("the outbox", error)
    return found


def _undo(connection: Any) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _unavailable(what: object, error: Exception) -> Unavailable:
    return Unavailable(
        f"{what} cannot be written: {error}",
        field="data",
        remedy="check the folder's rights and the space left on its disk",
    )
