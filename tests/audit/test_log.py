from __future__ import annotations

from tests.repository.shell import Shell

from cpa.audit.log import AuditLog
from cpa.audit.query import AuditQuery
from cpa.core.audit import verify
from cpa.repository.audit import SqlAuditRepository
from cpa.repository.database import Database


async def test_an_action_outside_jobs_is_told_and_verifies(
    log: AuditLog, query: AuditQuery, shell: Shell
) -> None:
    await log.log_action("acme", "key_1", "key.created", "key_2", {"name": "Büro Süd"})
    [entry] = (await query.list("acme")).entries
    assert (entry.type, entry.by, entry.subject) == ("action_logged", "key_1", "key_2")
    assert entry.details == {"name": "Büro Süd"}
    assert (entry.time, entry.job, entry.text) == (shell.clock.now, "", "key_1: key.created key_2.")
    checked = await query.verify_leaves("acme")
    assert (checked.sound, checked.leaves) == (True, 1)


async def test_details_are_sealed_each_under_a_salt_of_its_own(log: AuditLog, database: Database) -> None:
    for _ in range(2):
        await log.log_action("acme", "key_1", "auth.refused", details={"mail": "jäger@kunde.example"})
    first, second = await SqlAuditRepository(database).other_leaves("acme")
    assert first.leaf != second.leaf
    assert "jäger".encode() not in first.body
    assert first.private is not None
    assert "jäger".encode() in first.private
    assert verify(first.body, None, first.leaf)


async def test_actions_without_details_need_none(log: AuditLog, database: Database) -> None:
    places = [await log.log_action("acme", "system", "config.loaded") for _ in range(3)]
    assert places == sorted(set(places))
    leaves = await SqlAuditRepository(database).other_leaves("acme")
    assert [leaf.private for leaf in leaves] == [None] * 3
