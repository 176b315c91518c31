"""Large values in a folder: each job has a room, and only `forget` empties it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cpa.artifacts.claims import FolderClaims
from cpa.errors import BadInput, InternalError, NotFound, TooLarge

ONE, OTHER = "0190aaaa-0000-7000-8000-000000000001", "0190aaaa-0000-7000-8000-000000000002"


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
    before = time.time() - 100
    for path in (tmp_path / "claims" / ONE, *(tmp_path / "claims" / ONE).rglob("*")):
        os.utime(path, (before, before))

    assert await claims.jobs(50) == [ONE]
    assert await claims.jobs(-10) == [ONE, OTHER]

    await claims.put(ONE, b"def")
    assert await claims.jobs(50) == []


async def test_a_room_is_forgotten_whole(claims: FolderClaims) -> None:
    digest, other = await claims.put(ONE, b"abc"), await claims.put(OTHER, b"abc")
    await claims.forget(ONE)
    await claims.forget(ONE)

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
        await claims.forget(job)
