"""A store that is not the one that belongs here is told, and not taken for health."""

from __future__ import annotations

from pathlib import Path

from cpa.api.services import Condition, PartHealth
from cpa.bootstrap import open_engine, services_of
from cpa.settings import Settings


async def health(settings: Settings, *, lose: bool = False) -> PartHealth:
    """What a server that opens this folder says about its store; `lose`: once its file was deleted."""
    async with open_engine(settings) as scheduler:
        if lose:
            (settings.data / "cpa.db").unlink()
        return await services_of(scheduler).probes["store"]()


async def test_a_new_store_beside_older_files_and_a_lost_one_are_told(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data=tmp_path, builtin_agent=False)
    assert (await health(settings)).condition is Condition.HEALTHY
    assert (await health(settings)).condition is Condition.HEALTHY

    lost = await health(settings, lose=True)
    assert (lost.condition, "deleted" in lost.detail) == (Condition.UNHEALTHY, True)
    assert (await health(settings)).condition is Condition.HEALTHY

    (tmp_path / "admin.key").write_text("")
    for empty in (False, True):
        for path in tmp_path.glob("cpa.db*"):
            path.unlink()
        if empty:
            (tmp_path / "cpa.db").touch()
        new = await health(settings)
        assert (new.condition, "right folder" in new.detail) == (Condition.DEGRADED, True)
        assert (await health(settings)).condition is Condition.HEALTHY
