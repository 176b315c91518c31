"""Artifacts in a folder: one file per content, named by its SHA-256.

    <root>/<tenant>/ab/<64 hex>         the bytes
    <root>/<tenant>/ab/<64 hex>.json    name and media type, as first put
    <root>/<tenant>/incoming/<random>   what is being written now

A put writes into `incoming`, hashing on the way, makes the file durable (fsync), renames it to its digest and
makes the rename durable (fsync of the folders). A name therefore exists only for complete, durable bytes, and
two puts of the same bytes meet in the same rename: whoever comes last replaces equal by equal (and thereby
mends a file that rotted). What a killed process left in `incoming` is swept a day later.

A tenant's name becomes a folder name as it is when it is plain (`a-z 0-9 _ -`), else a hash of it: no two
tenants share a folder on a file system that ignores case or normalises Unicode.

File I/O happens in threads. A cancelled call waits for the thread call under way, so nothing is written or
removed behind the caller's back.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from cpa.artifacts.names import WINDOWS_DEVICE, check_digest, check_tenant, safe_media_type, safe_name
from cpa.artifacts.room import Room, Share
from cpa.errors import CPAError, InternalError, NotFound, TooLarge, Unavailable
from cpa.ports.artifacts import Artifact, whole

P = ParamSpec("P")
T = TypeVar("T")

CHUNK = 1024 * 1024
_PLAIN_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_STALE = 24 * 3600.0


class FolderArtifacts:
    """`ports.artifacts.ArtifactStore` below one folder, which any number of processes may share.

    `max_bytes` is the size limit of one artifact, `max_tenant_bytes` that of all of one tenant, as this process
    counts them. The reference that `put` returns carries the name given to
    that call; `stat` answers with the name of the first put of those bytes.
    """

    def __init__(
        self,
        root: Path,
        max_bytes: int,
        max_tenant_bytes: int = sys.maxsize,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._monotonic = root, monotonic
        self._max_bytes, self._max_tenant_bytes = max_bytes, max_tenant_bytes
        self._rooms: dict[str, Room] = {}
        self._swept: set[str] = set()

    async def put(
        self,
        tenant: str,
        content: bytes | AsyncIterator[bytes],
        *,
        name: str = "file",
        media_type: str = "application/octet-stream",
    ) -> Artifact:
        folder = self._folder(tenant)
        incoming = await self._disk(self._prepare, folder)
        room = self._rooms.setdefault(folder.name, Room(folder, self._max_tenant_bytes, self._monotonic))
        if room.doubtful:
            room.learn(await self._disk(room.measure))
        temporary, share, new = incoming / secrets.token_hex(16), Share(room), False
        try:
            digest, size = await self._receive(temporary, content, share)
            artifact = Artifact(
                digest=f"sha256:{digest}",
                size=size,
                name=safe_name(name),
                media_type=safe_media_type(media_type),
            )
            new = await self._disk(_publish, temporary, folder, artifact)
        finally:
            share.close(kept=new)
            await self._disk(temporary.unlink, missing_ok=True)
            if not isinstance(content, bytes) and (aclose := getattr(content, "aclose", None)):
                await aclose()
        return artifact

    async def stat(self, tenant: str, digest: str) -> Artifact:
        path = self._path(tenant, digest)
        return await self._disk(_describe, path, digest)

    async def open(self, tenant: str, digest: str) -> AsyncIterator[bytes]:
        """The last chunk is held back until the digest is checked: rotten bytes never look complete."""
        path = self._path(tenant, digest)
        opening = asyncio.ensure_future(self._disk(_open, path, digest))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread may still open it; nobody else would close it then.
            opening.add_done_callback(_close_opened)
            raise
        try:
            found = hashlib.sha256()
            held = b""
            while chunk := await self._disk(_read_hashed, file, found):
                if held:
                    yield held
                held = chunk
            if found.hexdigest() != path.name:
                raise InternalError(
                    "A stored artifact no longer has the content it is named by.",
                    field="artifact",
                    value=digest,
                    remedy="Restore the file from a backup, or put the original again.",
                )
            if held:
                yield held
        finally:
            await self._disk(file.close)

    async def read(self, tenant: str, digest: str, *, limit: int = 64 * 1024 * 1024) -> bytes:
        return await whole(self, tenant, digest, limit=limit)

    async def close(self) -> None:
        """Nothing is held between calls."""

    # -- inside ----------------------------------------------------------------------------------------------

    async def _disk(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """One piece of file work in a thread. What the disk refuses is `Unavailable`; what the caller's own
        stream raises is not ours to rename, so only this is wrapped."""
        try:
            return await _in_thread(call, *args, **kwargs)
        except OSError as error:
            raise _unavailable(error, self._root) from error

    def _folder(self, tenant: str) -> Path:
        check_tenant(tenant)
        if _PLAIN_TENANT.fullmatch(tenant) and not WINDOWS_DEVICE.match(tenant):
            return self._root / tenant
        return self._root / ("~" + hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:40])

    def _path(self, tenant: str, digest: str) -> Path:
        check_digest(digest)
        hexadecimal = digest.removeprefix("sha256:")
        return self._folder(tenant) / hexadecimal[:2] / hexadecimal

    def _prepare(self, folder: Path) -> Path:
        """Make the folders, durably, and sweep what a killed process left long ago."""
        incoming = folder / "incoming"
        _make(self._root, folder, incoming)
        if folder.name not in self._swept:
            self._swept.add(folder.name)
            _sweep(incoming)
        return incoming

    async def _receive(
        self, temporary: Path, content: bytes | AsyncIterator[bytes], share: Share
    ) -> tuple[str, int]:
        """Write everything to the temporary file, durably; its hexadecimal digest and size."""
        if isinstance(content, bytes):
            self._check_size(len(content))
            share.take(len(content))
            return await self._disk(_write_whole, temporary, content), len(content)
        found, size, waiting = hashlib.sha256(), 0, bytearray()
        file = await self._disk(_create, temporary)
        try:
            async for chunk in content:
                size += len(chunk)
                self._check_size(size)
                share.take(len(chunk))
                waiting += chunk
                if len(waiting) >= CHUNK:
                    await self._disk(_write_hashed, file, bytes(waiting), found)
                    waiting.clear()
            await self._disk(_write_hashed, file, bytes(waiting), found)
            await self._disk(_sync, file)
        finally:
            await self._disk(file.close)
        return found.hexdigest(), size

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(
                f"An artifact may have at most {self._max_bytes} bytes.",
                field="content",
                value=f"{size} bytes or more",
                remedy="Send a smaller file, or raise CPA_MAX_ARTIFACT_BYTES.",
            )


def _close_opened(opening: asyncio.Future[IO[bytes]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _in_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread and, when cancelled, still wait for it: nobody may outlive the caller's clean-up."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:  # a second cancellation must not abandon the thread either
                continue
        work.cancelled() or work.exception()
        raise


def _create(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)


def _write_all(file: IO[bytes], content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _write_hashed(file: IO[bytes], content: bytes, found: Any) -> None:
    found.update(content)
    _write_all(file, content)


def _write_whole(path: Path, content: bytes) -> str:
    with _create(path) as file:
        _write_all(file, content)
        _sync(file)
    return hashlib.sha256(content).hexdigest()


def _read_hashed(file: IO[bytes], found: Any) -> bytes:
    chunk = file.read(CHUNK)
    found.update(chunk)
    return chunk


def _sync(file: IO[bytes]) -> None:
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there; NTFS journals the rename
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(*folders: Path) -> None:
    """Create the folders that are missing, each made durable in its parent."""
    for folder in folders:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(folder.parent)


def _publish(temporary: Path, folder: Path, artifact: Artifact) -> bool:
    """Rename to the digest, sidecar first: whoever sees the bytes finds their description. Whether they are new."""
    hexadecimal = artifact.digest.removeprefix("sha256:")
    target = folder / hexadecimal[:2] / hexadecimal
    _make(target.parent)
    sidecar = target.with_name(target.name + ".json")
    if not sidecar.exists():
        described = temporary.with_name(temporary.name + ".json")
        try:
            _write_whole(
                described, json.dumps({"name": artifact.name, "media_type": artifact.media_type}).encode()
            )
            described.replace(sidecar)
        finally:
            described.unlink(missing_ok=True)
    new = not target.exists()
    temporary.replace(target)
    _sync_folder(target.parent)
    return new


def _describe(path: Path, digest: str) -> Artifact:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise _absent(digest) from None
    try:
        described = json.loads(path.with_name(path.name + ".json").read_bytes())
        name, media_type = str(described["name"]), str(described["media_type"])
    except (OSError, ValueError, KeyError, TypeError):  # the bytes are what counts; a lost description is not
        return Artifact(digest=digest, size=size)
    return Artifact(digest=digest, size=size, name=safe_name(name), media_type=safe_media_type(media_type))


def _open(path: Path, digest: str) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise _absent(digest) from None


def _sweep(incoming: Path) -> None:
    for left in incoming.iterdir():
        with suppress(FileNotFoundError):  # another process sweeps or finishes it at the same time
            if time.time() - left.stat().st_mtime > _STALE:
                left.unlink()


def _absent(digest: str) -> NotFound:
    return NotFound("There is no such artifact.", field="artifact", value=digest)


def _unavailable(error: OSError, root: Path) -> CPAError:
    if error.errno in _FULL:
        return Unavailable(
            "The disk of the artifact store is full.",
            field="artifacts",
            value=str(root),
            remedy="Free space or move the data folder; nothing was stored.",
        )
    return Unavailable(
        f"The artifact store cannot be used: {error.strerror or error}.",
        field="artifacts",
        value=str(root),
        remedy="Check that the folder exists, is mounted and writable.",
    )
