from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from pysqlite3 import dbapi2

from cpa.errors import BadInput, CPAError, InternalError, Unavailable
from cpa.repository.database import Database, store_path, upgrade
from cpa.repository.migrations import REVISIONS

ADD = "INSERT INTO job_counts VALUES ('default', 'done', 1)"
COUNT = "SELECT count(*) FROM job_counts"


def add(connection: sa.Connection) -> None:
    connection.exec_driver_sql(ADD)


def count(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql(COUNT).scalar_one())


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/cpa.db", "/var/lib/cpa.db"),
        ("sqlite+pysqlite:////var/lib/cpa.db", "/var/lib/cpa.db"),
        ("/srv/Büro/cpa.db", "/srv/Büro/cpa.db"),
        ("sqlite:///cpa.db", str(Path.cwd() / "cpa.db")),
    ],
)
def test_urls_and_paths_name_a_file(url: str, path: str) -> None:
    assert store_path(url) == Path(path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://cpa:geheim@db/cpa", "postgresql is not offered"),
        ("mysql+pymysql://db/cpa", "mysql is not offered"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("sqlite+aiosqlite:///cpa.db", "driver aiosqlite"),
        ("://", "cannot be read"),
        ("", "must be a file"),
    ],
)
def test_other_stores_are_refused_clearly(url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        store_path(url)
    assert caught.value.field == "database_url"
    assert caught.value.remedy
    assert "geheim" not in str(caught.value.problem())


def test_a_new_store_is_private_durable_and_current(tmp_path: Path) -> None:
    path = tmp_path / "neu" / "cpa.db"
    database = Database.open(path)
    try:
        connection = database.connect()
        asked = ("journal_mode", "synchronous", "foreign_keys", "mmap_size", "busy_timeout")
        assert [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked] == [
            "wal",
            2,
            1,
            0,
            10_000,
        ]
        connection.close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        version = database.read_now(lambda c: c.exec_driver_sql("SELECT * FROM alembic_version").scalar())
        assert version == REVISIONS[-1]
    finally:
        database.close()


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    for round_ in range(3):
        database = Database.open(tmp_path / "cpa.db")
        assert database.read_now(count) == min(round_, 1)
        if not round_:
            database.write_now(add)
        database.close()
        database.close()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "cpa.db"
    database = Database.open(path)
    code = (
        "import sys\nfrom cpa.repository.database import Database\nfrom cpa.errors import Unavailable\n"
        "try: Database.open(sys.argv[1])\nexcept Unavailable as error: print(error)"
    )
    try:
        told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    finally:
        database.close()
    assert f"in use by process {os.getpid()}" in told.stdout
    free = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert free.stdout == ""


def test_a_reader_beside_the_owner_sees_commits_and_changes_nothing(database: Database) -> None:
    reader = Database.open(database.path, readonly=True)
    try:
        database.write_now(add)
        assert reader.read_now(count) == 1
        with pytest.raises(Unavailable, match="read-only"):
            reader.write_now(add)
    finally:
        reader.close()


async def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def half(connection: sa.Connection) -> None:
        add(connection)
        raise BadInput("no")

    with pytest.raises(BadInput, match="no"):
        await database.write(half)
    assert await database.read(count) == 0
    await database.write(add)
    assert await database.read(count) == 1


async def test_reading_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable, match="read-only"):
        await database.read(add)


async def test_one_read_is_one_snapshot(database: Database) -> None:
    """What is committed in the middle of a reading call is not seen by it."""
    between, written = threading.Event(), threading.Event()

    def twice(connection: sa.Connection) -> tuple[int, int]:
        first = count(connection)
        between.set()
        assert written.wait(10)
        return first, count(connection)

    reading = asyncio.create_task(database.read(twice))
    await asyncio.to_thread(between.wait, 10)
    await database.write(add)
    written.set()
    assert await reading == (0, 0)
    assert await database.read(count) == 1


async def test_a_writer_waits_for_the_hot_step(database: Database) -> None:
    """Both take `writing`; no busy error and no lost write between two connections."""
    hot = database.connect()
    with database.writing:
        hot.execute("BEGIN IMMEDIATE")
        other = asyncio.create_task(database.write(add))
        hot.execute("INSERT INTO job_counts VALUES ('default', 'failed', 1)")
        assert not other.done()
        hot.execute("COMMIT")
    await other
    hot.close()
    assert await database.read(count) == 2


def test_a_current_store_opens_fast_and_without_the_migration_library(tmp_path: Path) -> None:
    path = tmp_path / "cpa.db"
    code = (
        "import sys, time\nfrom cpa.repository.database import Database\n"
        "best = 9.0\n"
        "for _ in range(3):\n"
        "    start = time.process_time(); database = Database.open(sys.argv[1])\n"
        "    best = min(best, time.process_time() - start); database.close()\n"
        "print(best < 0.3, 'alembic' in sys.modules, 'sqlite3' in sys.modules, '_sqlite3' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "False", "False", "False"]
    start = time.process_time()
    Database.open(tmp_path / "new.db").close()
    assert time.process_time() - start < 0.3


def schema(path: Path) -> dict[str, str]:
    connection = dbapi2.connect(str(path))
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'").fetchall()
    connection.close()
    return {name: sql for name, sql in rows if sql}


def test_the_migrations_create_exactly_the_tables(database: Database, tmp_path: Path) -> None:
    """A new store is made from the tables, an old one lifted by scripts: both must end the same."""
    path = tmp_path / "lifted.db"
    connection = dbapi2.connect(str(path))
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    connection.close()

    assert upgrade(path) == ("base", REVISIONS[-1])
    assert upgrade(path) == (REVISIONS[-1], REVISIONS[-1])
    assert schema(path) == schema(database.path)
    assert {"jobs", "jobs_by_status", "queue_line", "queue_later", "outbox_due"} <= set(schema(path))


def test_the_known_revisions_are_those_of_the_scripts() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "cpa.repository:migrations")
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(REVISIONS)


def test_the_developers_command_line_lifts_a_file(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "hand.db"
    ini = Path(__file__).parents[2] / "src/cpa/repository/migrations/alembic.ini"
    command = [sys.executable, "-m", "alembic", "-c", str(ini), "-x", f"store={path}", "upgrade", "head"]
    subprocess.run(command, check=True, capture_output=True)
    assert schema(path) == schema(database.path)


def _stamped(path: Path, revision: str) -> Path:
    Database.open(path).close()
    connection = dbapi2.connect(str(path))
    connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.commit()
    connection.close()
    return path


def _foreign(path: Path) -> Path:
    connection = dbapi2.connect(str(path))
    connection.execute("CREATE TABLE bookmarks (id INTEGER)")
    connection.close()
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(b"Dies ist keine Datenbank. " * 400)
    return path


def _damaged(path: Path) -> Path:
    Database.open(path).close()
    content = bytearray(path.read_bytes())
    content[100:4096] = bytes(3996)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: _stamped(path, "9999"), "newer than this program"),
        (_foreign, "tables of another program"),
        (_noise, "is no SQLite database"),
        (_damaged, "is damaged"),
        (lambda path: path.mkdir() or path, "cannot be opened"),
    ],
    ids=["newer", "foreign", "noise", "damaged", "folder"],
)
def test_a_file_that_cannot_be_the_store_is_refused(tmp_path: Path, make: object, says: str) -> None:
    assert callable(make)
    path = make(tmp_path / "cpa.db")
    for _ in range(2):  # the lock must be free again after a refusal
        with pytest.raises(CPAError, match=says) as caught:
            Database.open(path)
        assert caught.value.remedy


def test_a_missing_store_is_not_created_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be opened"):
        Database.open(tmp_path / "cpa.db", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_operators_matter_and_loses_nothing(database: Database) -> None:
    database.write_now(add)

    def flood(connection: sa.Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}")
        row = (
            "INSERT INTO messages (tenant, id, sender, direction, type, body) VALUES ('t', '', '', '', '', ?)"
        )
        for _ in range(10):
            connection.exec_driver_sql(row, (bytes(100_000),))

    with pytest.raises(Unavailable, match="the disk is full") as caught:
        database.write_now(flood)
    assert caught.value.retryable
    assert database.read_now(count) == 1


def test_a_statement_that_makes_no_sense_is_a_defect(database: Database) -> None:
    with pytest.raises(InternalError, match="no such table"):
        database.read_now(lambda c: c.exec_driver_sql("SELECT * FROM nonsense"))
