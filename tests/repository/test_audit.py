from __future__ import annotations

import pytest
from tests.contracts.repository import ME, AuditRepositoryContract
from tests.repository.shell import Shell, plan

from cpa.errors import BadInput
from cpa.ports.repository import AuditFilter, AuditRow
from cpa.repository import audit
from cpa.repository.audit import SqlAuditRepository
from cpa.repository.database import Database


class TestSqlAuditRepository(AuditRepositoryContract):
    @pytest.fixture
    def repository(self, database: Database) -> SqlAuditRepository:
        return SqlAuditRepository(database)

    async def test_a_rare_match_costs_a_bounded_look(
        self, repository: SqlAuditRepository, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only a window is searched per call; what lies deeper is found by going on."""
        monkeypatch.setattr(audit, "WINDOW", 10)
        shell.submit(ME, "old", plan())
        await shell.run(ME, "old", agent="agent://rare")
        for number in range(8):
            await self.log(repository, 10**12 + number)
            shell.clock.now += 1
            shell.submit(ME, f"j{number}", plan())
            await shell.run(ME, f"j{number}")
        which = AuditFilter(actor="agent://rare")
        found = await repository.slice(ME, which)
        assert (found.rows, found.next is None) == ((), False)
        looks, hits = 1, []
        while found.next is not None:
            found = await repository.slice(ME, which, below=found.next)
            hits += [row.job for row in found.rows]
            looks += 1
        assert hits == ["old"]
        assert 3 < looks < 12

    async def test_both_kinds_join_in_one_order_whatever_the_window(
        self, repository: SqlAuditRepository, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(5):
            shell.submit(ME, f"j{number}", plan())
            await shell.run(ME, f"j{number}")
            await self.log(repository, shell.clock.now - 1000)
            await self.log(repository, shell.clock.now - 1000)
        whole = (await repository.slice(ME, AuditFilter(), limit=1000)).rows
        assert [row.place for row in whole] == sorted((row.place for row in whole), reverse=True)
        assert {row.place[1] for row in whole} == {0, 1}
        for window, size in ((3, 2), (7, 50), (1, 1), (20_000, 4)):
            monkeypatch.setattr(audit, "WINDOW", window)
            seen: list[AuditRow] = []
            found = await repository.slice(ME, AuditFilter(), limit=size)
            seen += found.rows
            while found.next is not None:
                found = await repository.slice(ME, AuditFilter(), limit=size, below=found.next)
                seen += found.rows
            assert tuple(seen) == whole

    async def test_a_task_without_its_job_is_refused(self, repository: SqlAuditRepository) -> None:
        with pytest.raises(BadInput) as caught:
            await repository.slice(ME, AuditFilter(task=0))
        assert caught.value.field == "task"
