"""`ports.claims` in a folder: an artifact store of its own, in which each job has a room.

<root>/<job>/ab/<64 hex>     as in `artifacts.folder`
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from cpa.artifacts.folder import FolderArtifacts
from cpa.errors import BadInput, NotFound

_JOB = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Ids of jobs are UUIDs: no two of them share a folder on any file system."""


class FolderClaims:
    """`limit`: the largest value, in bytes."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root, self._limit = root, limit

    async def put(self, job: str, content: bytes) -> str:
        _check(job)
        digest = f"sha256:{(await asyncio.to_thread(hashlib.sha256, content)).hexdigest()}"
        try:
            # Before the look: what is found then is young, and nobody who cleans takes it away.
            await asyncio.to_thread(os.utime, self._root / job)
            if (await self._files().stat(job, digest)).size == len(content):
                return digest
        except (NotFound, OSError):
            # What hinders here hinders the writing too, and is told there.
            pass
        return (await self._files().put(job, content, name=job)).digest

    async def read(self, job: str, digest: str) -> bytes:
        _check(job)
        return await self._files().read(job, digest, limit=self._limit)

    async def jobs(self, age: float) -> Sequence[str]:
        return await asyncio.to_thread(self._old, age)

    async def forget(self, job: str, age: float) -> bool:
        _check(job)
        return await asyncio.to_thread(_remove, self._root / job, age)

    def _files(self) -> FolderArtifacts:
        """Anew each time: it remembers rooms, and there is one for each job."""
        return FolderArtifacts(self._root, self._limit)

    def _old(self, age: float) -> list[str]:
        if not self._root.is_dir():
            return []
        rooms = [each for each in self._root.iterdir() if _JOB.fullmatch(each.name) and each.is_dir()]
        return sorted(room.name for room in rooms if _unused(room, age))


def _remove(room: Path, age: float) -> bool:
    found = _unused(room, age)
    if found:
        shutil.rmtree(room, ignore_errors=True)
    return found


def _unused(room: Path, age: float) -> bool:
    """Whether nothing was put there for so many seconds. What moves under our eyes is being put there just now."""
    try:
        newest = max(each.stat().st_mtime for each in (room, *room.rglob("*")))
    except FileNotFoundError:
        return False
    return newest < time.time() - age


def _check(job: str) -> None:
    if not _JOB.fullmatch(job):
        raise BadInput("this is no id of a job", field="job", value=job)
