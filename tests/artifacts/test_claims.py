"""Large values in a folder: each job has a room, and only `forget` empties it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cpa.artifacts.claims import FolderClaims
from cpa.errors import BadInput, InternalError, NotFound, TooLarge

ONE, OTHER = "0190aaaa-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-000000000002"


def aged(room: Path) -> None:
    """As if all of it had been put there long ago."""
    before = time.time() - 100
    for path in (*room.rglob("*"), room):
        os.utime(path, (before, before))


@pytest.fixture
def claims(tmp_path: Path) -> FolderClaims:
    return FolderClaims(tmp_path / "claims", 1_000)


async def test_what_was_put_is_read_and_stored_once(claims: FolderClaims, tmp_path: Path) -> None:
    digest = await claims.put(ONE, b"abc")

    assert await claims.put(ONE, b"abc") == digest
    assert await claims.read(ONE, digest) == b"abc"
    assert (
        len([each for each in (tmp_path / "claims").rglob("*") if each.suffix == "" and each.is_file()]) == 1
    )


async def test_jobs_do_not_see_each_others_values(claims: FolderClaims) -> None:
    digest = await claims.put(ONE, b"abc")
    with pytest.raises(NotFound):
        await claims.read(OTHER, digest)


async def test_a_room_is_old_when_its_newest_value_is(claims: FolderClaims, tmp_path: Path) -> None:
    assert await claims.jobs(0) == []
    await claims.put(ONE, b"abc")
    await claims.put(OTHER, b"abc")
    aged(tmp_path / "claims" / ONE)

    assert await claims.jobs(50) == [ONE]
    assert await claims.jobs(-10) == [ONE, OTHER]

    await claims.put(ONE, b"def")
    assert await claims.jobs(50) == []


async def test_what_is_put_once_more_is_young_again(claims: FolderClaims, tmp_path: Path) -> None:
    """A job that is about to start may find its value there, from a try a day ago."""
    digest = await claims.put(ONE, b"abc")
    aged(tmp_path / "claims" / ONE)
    assert await claims.jobs(50) == [ONE]

    assert await claims.put(ONE, b"abc") == digest
    assert await claims.jobs(50) == []
    assert not await claims.forget(ONE, 50), "whoever listed it before looks again"
    assert await claims.read(ONE, digest) == b"abc"


async def test_what_is_being_put_there_is_not_old(
    claims: FolderClaims, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lay in `incoming` a moment ago has been renamed by the time somebody looks at its age."""
    room = tmp_path / "claims" / ONE
    digest = await claims.put(ONE, b"abc")
    going = room / "incoming" / "0"
    going.touch()
    aged(room)
    look = Path.stat

    def stat(path: Path, **more: Any) -> os.stat_result:
        if path == going:
            going.unlink(missing_ok=True)
        return look(path, **more)

    monkeypatch.setattr(Path, "stat", stat)
    assert await claims.jobs(50) == []
    assert not going.exists()
    going.touch()
    assert not await claims.forget(ONE, -1)
    assert await claims.read(ONE, digest) == b"abc"


async def test_a_room_is_forgotten_whole(claims: FolderClaims) -> None:
    digest, other = await claims.put(ONE, b"abc"), await claims.put(OTHER, b"abc")
    assert await claims.forget(ONE, -1)
    assert not await claims.forget(ONE, -1)

    with pytest.raises(NotFound):
        await claims.read(ONE, digest)
    assert await claims.read(OTHER, other) == b"abc"


async def test_rot_and_size_are_noticed(claims: FolderClaims, tmp_path: Path) -> None:
    digest = await claims.put(ONE, b"abc")
    next(each for each in (tmp_path / "claims").rglob(digest[7:])).write_bytes(b"abd")
    with pytest.raises(InternalError):
        await claims.read(ONE, digest)
    with pytest.raises(TooLarge):
        await claims.put(ONE, bytes(1_001))


@pytest.mark.parametrize("job", ["", ".", "..", "../x", "a/b", "A", "~x", "ü"])
async def test_what_is_no_job_has_no_room(claims: FolderClaims, job: str) -> None:
    with pytest.raises(BadInput):
        await claims.put(job, b"abc")
    with pytest.raises(BadInput):
        await claims.read(job, "sha256:" + "0" * 64)
    with pytest.raises(BadInput):
        await claims.forget(job, -1)
