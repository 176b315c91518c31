"""`ports.claims` in a folder: an artifact store of its own, in which each job has a room.

<root>/<job>/ab/<64 hex>     as in `artifacts.folder`
"""

from __future__ import annotations

import asyncio
import hashlib
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
            if (await self._files().stat(job, digest)).size == len(content):
                return digest
        except NotFound:
            pass
        return (await self._files().put(job, content, name=job)).digest

    async def read(self, job: str, digest: str) -> bytes:
        _check(job)
        return await self._files().read(job, digest, limit=self._limit)

    async def jobs(self, age: float) -> Sequence[str]:
        return await asyncio.to_thread(self._old, time.time() - age)

    async def forget(self, job: str) -> None:
        _check(job)
        await asyncio.to_thread(shutil.rmtree, self._root / job, ignore_errors=True)

    def _files(self) -> FolderArtifacts:
        """Anew each time: it remembers rooms, and there is one for each job."""
        return FolderArtifacts(self._root, self._limit)

    def _old(self, before: float) -> list[str]:
        if not self._root.is_dir():
            return []
        rooms = [each for each in self._root.iterdir() if _JOB.fullmatch(each.name) and each.is_dir()]
        return sorted(room.name for room in rooms if _newest(room) < before)


def _newest(room: Path) -> float:
    """When something was put there last; 0 when it went meanwhile."""
    try:
        return max(each.stat().st_mtime for each in (room, *room.rglob("*")))
    except FileNotFoundError:
        return 0.0


def _check(job: str) -> None:
    if not _JOB.fullmatch(job):
        raise BadInput("this is no id of a job", field="job", value=job)
