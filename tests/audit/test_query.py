from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.repository.shell import Shell, plan

from cpa.audit.log import AuditLog
from cpa.audit.query import AuditPage, AuditQuery
from cpa.core import events as facts
from cpa.core.audit import seal
from cpa.errors import BadInput, CPAError, NotFound
from cpa.repository.database import Database
from cpa.repository.jobs import SqlJobRepository

ME, OTHER = "acme", "globex"


async def two_jobs(shell: Shell, log: AuditLog) -> None:
    shell.submit(ME, "a", plan("web.goto", "mail.send"))
    await shell.run(ME, "a", agent="agent://web/eins")
    shell.clock.now += 10
    await log.log_action(ME, "key_1", "key.created", "key_2")
    shell.clock.now += 10
    shell.submit(ME, "b", plan("web.goto", "mail.send"))
    await shell.run(ME, "b", agent="agent://web/zwei", fail=("t1",))


async def everything(query: AuditQuery, size: int = 1000) -> AuditPage:
    page = await query.list(ME, limit=size)
    entries = page.entries
    while page.cursor:
        page = await query.list(ME, limit=size, cursor=page.cursor)
        entries += page.entries
    return AuditPage(entries, "")


async def test_jobs_and_other_actions_are_one_trail_newest_first(
    shell: Shell, log: AuditLog, query: AuditQuery
) -> None:
    await two_jobs(shell, log)
    whole = (await everything(query)).entries
    assert [entry.time for entry in whole] == sorted((entry.time for entry in whole), reverse=True)
    assert whole[-1].text == "Job accepted with 2 tasks."
    assert [entry.job for entry in whole if entry.type == "action_logged"] == [""]
    for job in ("a", "b"):
        numbers = [entry.number for entry in whole if entry.job == job]
        assert numbers == list(range(len(numbers), 0, -1))
    for size in (1, 3, 7):
        assert (await everything(query, size)).entries == whole
    assert (await query.list(OTHER)).entries == ()


async def test_an_entry_tells_task_agent_result_and_picture(
    shell: Shell, log: AuditLog, query: AuditQuery
) -> None:
    await two_jobs(shell, log)
    found = (await query.list(ME, job="a", task="t1")).entries
    assert {entry.task for entry in found} == {"t1"}
    assert found[0].text == "Agent says that task t1 is done, after 4 ms (epoch 1)."
    assert found[0].artifacts == ("sha256:" + "a" * 64,)
    assert found[-1].agent == "agent://web/eins"
    [failed] = (await query.list(ME, types=("task_failed",))).entries
    assert (failed.job, failed.task) == ("b", "t1")
    assert failed.text.endswith("business login_refused: Das Passwort von Müller ist falsch.")


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_what_an_agent_said_names_it_wherever_a_page_begins(
    size: int, shell: Shell, log: AuditLog, query: AuditQuery
) -> None:
    await two_jobs(shell, log)
    said = [each for each in (await everything(query, size)).entries if each.type.startswith("task_")]

    assert {(each.job, each.agent) for each in said} == {("a", "agent://web/eins"), ("b", "agent://web/zwei")}


async def test_an_agent_is_found_that_was_given_the_task_long_before(
    shell: Shell, log: AuditLog, query: AuditQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_jobs(shell, log)
    monkeypatch.setattr("cpa.repository.audit.WINDOW", 1)  # an empty slice is not the end of the trail

    [failed] = (await query.list(ME, types=("task_failed",), job="b", limit=1)).entries

    assert failed.agent == "agent://web/zwei"


async def test_filters_join(shell: Shell, log: AuditLog, query: AuditQuery) -> None:
    await two_jobs(shell, log)
    whole = (await everything(query)).entries
    [action] = (await query.list(ME, actor="key_1")).entries
    assert action.type == "action_logged"
    assert {e.job for e in (await query.list(ME, actor="agent://web/zwei")).entries} == {"b"}
    assert (await query.list(ME, actor="agent://web/zwei", job="a")).entries == ()
    late = (await query.list(ME, since=action.time)).entries
    assert late == tuple(entry for entry in whole if entry.time >= action.time)
    early = (await query.list(ME, until=action.time)).entries
    assert early == tuple(entry for entry in whole if entry.time < action.time)
    kinds = (await query.list(ME, types=("job_submitted", "action_logged"))).entries
    assert [entry.type for entry in kinds] == ["job_submitted", "action_logged", "job_submitted"]
    assert (await query.list(ME, types=("job_submitted",), job="b")).entries[0].number == 1


async def test_a_value_in_a_filter_is_compared_not_interpreted(
    shell: Shell, log: AuditLog, query: AuditQuery
) -> None:
    await two_jobs(shell, log)
    for odd in ("agent://web/%", "' OR 1=1 --", '"', "key_1\x00", "größe"):
        assert (await query.list(ME, actor=odd)).entries == ()


async def test_an_unknown_task_is_refused_with_the_known_ones(
    shell: Shell, log: AuditLog, query: AuditQuery
) -> None:
    await two_jobs(shell, log)
    with pytest.raises(NotFound, match="no task t9") as caught:
        await query.list(ME, job="a", task="t9")
    assert "t0, t1" in str(caught.value.remedy)
    with pytest.raises(NotFound):
        await query.list(OTHER, job="a", task="t0")
    with pytest.raises(BadInput) as missing:
        await query.list(ME, task="t0")
    assert missing.value.field == "task"


@pytest.mark.parametrize("cursor", ["x", "1-2", "1-2-3-4", "1-2-ß", "-1-2-3", "1-2-" + "9" * 30, "²-1-1"])
async def test_a_made_up_cursor_is_refused(query: AuditQuery, cursor: str) -> None:
    with pytest.raises(BadInput) as caught:
        await query.list(ME, cursor=cursor)
    assert caught.value.field == "cursor"


async def test_erased_events_say_so(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database
) -> None:
    await two_jobs(shell, log)
    await SqlJobRepository(database).erase(ME, "b")
    [failed] = (await query.list(ME, types=("task_failed",))).entries
    assert failed.erased
    assert failed.text.endswith("business login_refused.")
    assert not (await query.list(ME, job="a")).entries[0].erased
    assert (await query.verify_leaves(ME)).sound


# -- verification --------------------------------------------------------------------------------------------


def alter(database: Database, statement: str, **values: object) -> None:
    assert database.write_now(lambda c: c.execute(sa.text(statement), values).rowcount) > 0


async def test_an_untouched_trail_is_sound(shell: Shell, log: AuditLog, query: AuditQuery) -> None:
    assert (await query.verify_leaves(ME)).sound
    await two_jobs(shell, log)
    shell.submit(OTHER, "c")
    checked = await query.verify_leaves(ME)
    assert (checked.sound, checked.jobs, checked.broken) == (True, 2, None)
    assert checked.leaves == len((await everything(query)).entries)
    assert (await query.verify_leaves(OTHER)).leaves == 1


FORGED = seal(facts.TaskSucceeded(time=1_700_000_000_005, task=0, epoch=1))

ATTACKS = {
    "body changed": (
        "UPDATE events SET body = replace(body, 'eins', 'drei') WHERE job = 'a' AND number = 3",
        ("a", 3, "do not hash"),
    ),
    "leaf changed": (
        "UPDATE events SET leaf = zeroblob(32) WHERE job = 'b' AND number = 2",
        ("b", 2, "do not"),
    ),
    "private part changed": (
        "UPDATE events SET private = replace(private, 'Müller', 'Maier') WHERE job = 'b' AND type = 'task_failed'",
        ("b", 8, "do not hash"),
    ),
    "event removed": ("DELETE FROM events WHERE job = 'a' AND number = 4", ("a", 4, "event 4 is missing")),
    "first event removed": ("DELETE FROM events WHERE job = 'b' AND number = 1", ("b", 1, "are missing")),
    "last event removed": ("DELETE FROM events WHERE job = 'a' AND number = 8", ("a", 8, "are missing")),
    "last event of the last job removed": (
        "DELETE FROM events WHERE job = 'b' AND number = 8",
        ("b", 8, "are missing"),
    ),
    "all events of a job removed": ("DELETE FROM events WHERE job = 'a'", ("a", 1, "are missing")),
    "all events of the last job removed": ("DELETE FROM events WHERE job = 'b'", ("b", 1, "are missing")),
    "type of the row changed": (
        "UPDATE events SET type = 'task_succeeded' WHERE type = 'task_failed'",
        ("b", 8, "differ"),
    ),
    "time of the row changed": (
        "UPDATE events SET time = 1 WHERE job = 'a' AND number = 2",
        ("a", 2, "differ"),
    ),
    "half a millisecond added": (
        "UPDATE events SET time = time + 0.5 WHERE job = 'a' AND number = 2",
        ("a", 2, "differ"),
    ),
    "a history given to another job": (
        "UPDATE events SET job = 'a0' WHERE job = 'b'",
        ("a0", 1, "another job"),
    ),
    "an event given to a name that is no text": (
        "UPDATE events SET job = CAST(x'ff' AS TEXT) WHERE job = 'b' AND number = 8",
        ("\ufffd", 8, "the name of the job is no text"),
    ),
    "a history under a name that is no text": (
        "UPDATE events SET job = CAST(x'62ff' AS TEXT) WHERE job = 'a'",
        ("a", 1, "are missing"),
    ),
    "a job under a name that is no text": (
        "UPDATE jobs SET id = CAST(x'62ff' AS TEXT) WHERE id = 'b'",
        ("b\ufffd", 8, "the name of the job is no text"),
    ),
    "an event more under a name that is no text": (
        "INSERT INTO events (tenant, job, number, time, type, body, leaf) SELECT tenant, CAST(x'61ff' AS TEXT), "
        "number, time, type, body, leaf FROM events WHERE job = 'b' AND number = 3",
        ("a\ufffd", 3, "the name of the job is no text"),
    ),
    "an action removed from sight": (
        "UPDATE audit_entries SET body = replace(body, 'key_2', 'key_3')",
        ("", 0, "do not hash"),
    ),
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda name: str(name).replace(" ", "-"))
async def test_whoever_alters_the_store_is_found_out(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database, attack: str
) -> None:
    await two_jobs(shell, log)
    statement, (job, number, says) = ATTACKS[attack]
    statement = statement.replace("replace(body,", "CAST(replace(CAST(body AS TEXT),", 1)
    statement = statement.replace("replace(private,", "CAST(replace(CAST(private AS TEXT),", 1)
    if "CAST(replace" in statement:
        statement = statement.replace("')", "') AS BLOB)", 1)
    alter(database, statement)
    checked = await query.verify_leaves(ME)
    assert checked.broken is not None
    assert (checked.broken.job, checked.broken.number) == (job, number)
    assert says in checked.broken.reason


async def test_an_event_replaced_by_another_sound_one_is_found_when_it_breaks_the_order(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database
) -> None:
    await two_jobs(shell, log)
    alter(
        database,
        "UPDATE events SET body = :body, leaf = :leaf, private = NULL, type = 'task_succeeded', time = :time"
        " WHERE job = 'a' AND number = 1",
        body=FORGED.body,
        leaf=FORGED.leaf,
        time=1_700_000_000_005,
    )
    checked = await query.verify_leaves(ME)
    assert checked.broken is not None
    assert "begins with its submission" in checked.broken.reason


async def test_a_leaf_over_bytes_that_are_no_event_is_found(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database
) -> None:
    import hashlib

    await two_jobs(shell, log)
    body = b'{"event":"nonsense"}'
    alter(
        database,
        "UPDATE events SET body = :body, leaf = :leaf, private = NULL WHERE job = 'a' AND number = 5",
        body=body,
        leaf=hashlib.sha256(body).digest(),
    )
    checked = await query.verify_leaves(ME)
    assert checked.broken is not None
    assert (checked.broken.job, checked.broken.number) == ("a", 5)
    assert "cannot be read" in checked.broken.reason


@pytest.mark.parametrize("value", ["'text'", "5", "x'ff'", "CAST(x'ff' AS TEXT)"])
async def test_a_damaged_action_is_shown_as_such_among_the_others(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database, value: str
) -> None:
    await two_jobs(shell, log)
    before = (await everything(query)).entries
    alter(database, f"UPDATE audit_entries SET body = {value}")
    after = (await everything(query)).entries
    [changed] = [new for new, old in zip(after, before, strict=True) if new != old]
    assert changed.text.startswith("Entry 1 is damaged")
    checked = await query.verify_leaves(ME)
    assert checked.broken is not None
    assert "do not hash" in checked.broken.reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("type = CAST(x'ff' AS TEXT)", "differ"),
        ("time = 'zwölf'", "differ"),
        ("time = CAST(x'ff' AS TEXT)", "differ"),
        ("time = x'00'", "differ"),
        ("time = 9223372036854775807", "differ"),
        ("number = 'drei'", "event 3 is missing"),
        ("number = 3.5", "event 3 is missing"),
        ("leaf = 'text'", "do not hash"),
        ("private = 5", "do not hash"),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 1000])
async def test_what_stands_beside_the_bytes_hides_nothing_and_is_found_out(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database, change: str, says: str, size: int
) -> None:
    await two_jobs(shell, log)
    before = (await everything(query)).entries
    alter(database, f"UPDATE events SET {change} WHERE job = 'a' AND number = 3")

    after = (await everything(query, size)).entries

    assert len(after) == len(before)
    assert {entry.text for entry in before} - {entry.text for entry in after} <= {before[-3].text}
    checked = await query.verify_leaves(ME)
    assert checked.broken is not None
    assert (checked.broken.job, checked.broken.number) == ("a", 3)
    assert says in checked.broken.reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE events SET number = 'eins' WHERE number = 1 AND job = 'b'", "are missing"),
        ("UPDATE events SET number = 'eins' WHERE job = 'c'", "its number is none"),
        ("UPDATE jobs SET number = 'viele' WHERE id = 'b'", "are missing"),
        ("UPDATE jobs SET number = 7.5 WHERE id = 'b'", "are missing"),
    ],
)
async def test_a_number_that_is_none_is_found_out(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database, change: str, says: str
) -> None:
    await two_jobs(shell, log)
    shell.submit(ME, "c")
    alter(database, change)
    checked = await query.verify_leaves(ME)
    assert checked.broken is not None
    assert says in checked.broken.reason


@pytest.mark.parametrize("value", ["'text'", "5", "x'ff'", "CAST(x'ff' AS TEXT)"])
async def test_where_the_plan_cannot_be_read_tasks_have_numbers(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database, value: str
) -> None:
    await two_jobs(shell, log)
    alter(database, f"UPDATE job_specs SET spec = {value} WHERE job = 'a'")
    tasks = {(entry.job, entry.task) for entry in (await everything(query)).entries if entry.task}
    assert tasks == {("a", "0"), ("a", "1"), ("b", "t0"), ("b", "t1")}


async def test_pages_of_the_walk_join(
    shell: Shell, log: AuditLog, query: AuditQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pages of three the borders fall inside jobs and between them."""
    await two_jobs(shell, log)
    for number in range(6):
        shell.submit(ME, f"c{number}")
    whole = await query.verify_leaves(ME)
    monkeypatch.setattr("cpa.repository.jobs.MAX_PAGE", 3)
    assert await query.verify_leaves(ME) == whole
    assert whole.jobs == 8


@pytest.mark.parametrize(
    "value",
    [
        "x''",
        'CAST(\'{"event":"task_\' AS BLOB)',
        'CAST(\'{"event":"unheard_of","time"\\:1}\' AS BLOB)',
        "x'ff00'",
        "'text'",
        "CAST(x'ff' AS TEXT)",
        "5",
        "1.5",
        'CAST(\'{"event":"x","schema"\\:99}\' AS BLOB)',
        'CAST(\'{"event":"x","schema"\\:0}\' AS BLOB)',
    ],
)
async def test_a_damaged_fact_is_shown_as_such_among_the_others(
    shell: Shell, log: AuditLog, query: AuditQuery, database: Database, value: str
) -> None:
    await two_jobs(shell, log)
    before = (await everything(query)).entries
    alter(database, f"UPDATE events SET body = {value} WHERE job = 'a' AND number = 3")
    after = (await everything(query)).entries
    changed = [new for new, old in zip(after, before, strict=True) if new.text != old.text]
    assert [(entry.job, entry.number, entry.text.split(";")[0]) for entry in changed] == [
        ("a", 3, "Event 3 of this job is damaged and cannot be read")
    ]
    assert (await query.list(ME, job="a", task="t1")).entries
    assert {e.job for e in (await query.list(ME, actor="agent://web/zwei")).entries} == {"b"}
    assert not (await query.verify_leaves(ME)).sound
    repository = SqlJobRepository(database)
    with pytest.raises(CPAError, match=r"event 3 of job a is damaged|schema 99"):
        await repository.events(ME, "a")
