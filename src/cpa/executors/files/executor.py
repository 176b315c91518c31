"""`file.read`, `file.write` and `file.move`, below configured folders only.

Writing replaces what was there, in one step: a reader sees the old content or the new, never a part. Moving
never replaces: a target with other content is a business answer. That makes a move provable afterwards,
also in another process: the source is gone and the target is there only if it happened.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import mimetypes
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from cpa.errors import NotFound, Unavailable
from cpa.executors.arguments import (
    Stopped,
    attempt,
    bad_argument,
    business,
    in_thread,
    prose,
    reference,
    refuse_tainted,
    text,
    uninterrupted,
)
from cpa.executors.files.folders import (
    CHUNK,
    Folders,
    Place,
    digest,
    faults,
    look,
    must_be_file_or_absent,
    open_file,
    parent,
    replacement,
    write_all,
)
from cpa.ports.artifacts import ArtifactStore
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification

MAX_INLINE = 16 * 1024
"""Bytes of a text file that appear in the result."""

_DEFAULT = "default"
_NO_HARD_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


class FileExecutor(BaseExecutor):
    """Reads, writes and moves files.

    `folders` are those of the tenant `default`; `tenants` names the folders of others. A tenant without
    folders may touch nothing. Relative paths are below the first folder. Size limits are the artifact
    store's.
    """

    actions = ("file.read", "file.write", "file.move")

    def __init__(
        self,
        folders: Sequence[Path],
        artifacts: ArtifactStore,
        *,
        tenants: Mapping[str, Sequence[Path]] | None = None,
    ) -> None:
        if os.open not in os.supports_dir_fd:
            raise Unavailable(
                "this system cannot open files relative to a folder",
                remedy="run the agent that touches files on Linux or macOS",
            )
        self._folders = {tenant: Folders(roots) for tenant, roots in (tenants or {}).items()}
        self._folders[_DEFAULT] = Folders(folders)
        self._artifacts = artifacts

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        return await attempt(self._perform, request)

    async def verify(self, request: ActionRequest) -> Verification:
        if request.action == "file.read":
            return Verification(
                verdict=Verdict.ABSENT, evidence="Reading changes nothing; it can be repeated."
            )
        try:
            if request.action == "file.write":
                return await self._prove_write(request)
            return await self._prove_move(request)
        except Stopped as stopped:
            return Verification(verdict=Verdict.UNKNOWN, evidence=f"It could not be looked: {stopped}.")

    async def _perform(self, request: ActionRequest) -> ExecutionResult:
        if request.action == "file.read":
            return await self._read(request)
        if request.action == "file.write":
            return await self._write(request)
        return await self._move(request)

    def _locate(self, request: ActionRequest, argument: str) -> Place:
        refuse_tainted(request, (argument,))
        folders = self._folders.get(request.tenant, Folders(()))
        return folders.locate(argument, text(request, argument))

    # -- reading ---------------------------------------------------------------------------------------------

    async def _read(self, request: ActionRequest) -> ExecutionResult:
        place = self._locate(request, "path")
        with ExitStack() as stack:
            descriptor, name = await in_thread(_open, stack, place)
            head = await in_thread(os.pread, descriptor, MAX_INLINE + 1, 0)
            file = await self._artifacts.put(
                request.tenant, _chunks(descriptor, place), name=name, media_type=_media_type(name)
            )
        result: dict[str, Any] = {"file": file.as_reference()}
        content = _as_text(head) if file.size <= MAX_INLINE else None
        if content is not None:
            result["text"] = content
        return ExecutionResult(success=True, result=result, artifacts=(file.digest,))

    # -- writing ---------------------------------------------------------------------------------------------

    async def _write(self, request: ActionRequest) -> ExecutionResult:
        place = self._locate(request, "path")
        wanted = _wanted(request)
        if isinstance(wanted, bytes):
            size = await in_thread(_replace, place, wanted)
        else:
            size = await self._write_stored(request, place, wanted)
        return ExecutionResult(success=True, result={"path": str(place), "size": size})

    async def _write_stored(self, request: ActionRequest, place: Place, wanted: str) -> int:
        """Stream an artifact into place; it is complete there or not at all."""
        size = 0
        chunks = aiter(self._artifacts.open(request.tenant, wanted))
        async with AsyncExitStack() as reading:
            if isinstance(chunks, AsyncGenerator):
                reading.push_async_callback(chunks.aclose)
            stack = reading.enter_context(ExitStack())
            try:
                chunk = await uninterrupted(_next(chunks))
            except NotFound as error:
                raise business(
                    "artifact_not_found",
                    f"the file {wanted[:19]}… is not stored",
                    remedy="run the task again that produced it",
                    argument="file",
                ) from error
            descriptor = await in_thread(_begin, stack, place)
            while chunk:
                await in_thread(write_all, descriptor, chunk)
                size += len(chunk)
                chunk = await uninterrupted(_next(chunks))
            await in_thread(stack.close)
        return size

    async def _prove_write(self, request: ActionRequest) -> Verification:
        place = self._locate(request, "path")
        wanted = _wanted(request)
        if isinstance(wanted, bytes):
            wanted = f"sha256:{hashlib.sha256(wanted).hexdigest()}"
        found = await asyncio.to_thread(look, place)
        if found is None or found.digest != wanted:
            return Verification(
                verdict=Verdict.ABSENT, evidence=f"{place} does not hold the content that was to be written."
            )
        return Verification(
            verdict=Verdict.HAPPENED,
            evidence=f"{place} holds {wanted}.",
            result={"path": str(place), "size": found.size},
        )

    # -- moving ----------------------------------------------------------------------------------------------

    async def _move(self, request: ActionRequest) -> ExecutionResult:
        source, target = self._locate(request, "source"), self._locate(request, "target")
        await in_thread(_move, source, target, request.epoch > 1)
        return ExecutionResult(success=True, result={"path": str(target)})

    async def _prove_move(self, request: ActionRequest) -> Verification:
        source, target = self._locate(request, "source"), self._locate(request, "target")
        if source.same_as(target):
            return Verification(
                verdict=Verdict.HAPPENED,
                evidence="Source and target are the same.",
                result={"path": str(target)},
            )
        left = await asyncio.to_thread(look, source)
        arrived = await asyncio.to_thread(look, target)
        if left is None and arrived is not None:
            return Verification(
                verdict=Verdict.HAPPENED,
                evidence=f"{source} is gone and {target} holds {arrived.digest}.",
                result={"path": str(target)},
            )
        if left is not None:
            seen = (
                "holds the same" if arrived == left else "holds something else" if arrived else "is not there"
            )
            return Verification(verdict=Verdict.ABSENT, evidence=f"{source} is still there; {target} {seen}.")
        return Verification(verdict=Verdict.UNKNOWN, evidence=f"Neither {source} nor {target} is there.")


def _open(stack: ExitStack, place: Place) -> tuple[int, str]:
    """A descriptor that lives until the stack is closed, and the file's name."""
    with parent(place) as (folder, name):
        descriptor = open_file(folder, name, place)
        stack.callback(os.close, descriptor)
        return descriptor, name


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    """The next chunk; empty at the end."""
    return await anext(chunks, b"")


async def _chunks(descriptor: int, place: Place) -> AsyncIterator[bytes]:
    with faults(place):
        offset = 0
        while chunk := await in_thread(os.pread, descriptor, CHUNK, offset):
            offset += len(chunk)
            yield chunk


def _as_text(content: bytes) -> str | None:
    """The content as text; None for a binary file."""
    if b"\x00" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _wanted(request: ActionRequest) -> bytes | str:
    """What is to be written: the bytes of a text, or the digest of an artifact."""
    given, file = request.arguments.get("text"), request.arguments.get("file")
    if (given is None) == (file is None):
        raise bad_argument(request, "text", "or 'file' must be given, not both", "give one of them")
    if file is not None:
        return reference(request, "file", file)[0]
    return prose(request, "text").encode()


def _begin(stack: ExitStack, place: Place) -> int:
    """Open the file that will take the place when the stack is closed."""
    folder, name = stack.enter_context(parent(place, create=True))
    before = must_be_file_or_absent(folder, name, place)
    mode = before.st_mode & 0o777 if before else 0o644
    return stack.enter_context(replacement(folder, name, mode=mode))


def _replace(place: Place, content: bytes) -> int:
    with ExitStack() as stack:
        write_all(_begin(stack, place), content)
    return len(content)


def _move(source: Place, target: Place, again: bool) -> None:
    """Move a file; a second attempt (`again`) finishes what the first one began."""
    if again and look(source) is None and look(target) is not None:
        return
    with parent(source) as (folder, name):
        descriptor = open_file(folder, name, source)
        try:
            if source.same_as(target):
                return
            with parent(target, create=True) as (onward, new_name):
                _arrive(descriptor, (folder, name), (onward, new_name), target)
                os.fsync(onward)
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(descriptor)


def _arrive(descriptor: int, origin: tuple[int, str], goal: tuple[int, str], target: Place) -> None:
    """Let the target hold what the open file holds, without ever replacing anything else."""
    there = must_be_file_or_absent(*goal, target)
    if there is not None:
        if os.path.samestat(there, os.fstat(descriptor)) or _holds_the_same(descriptor, goal, target):
            return
        raise _taken(target)
    try:
        os.link(origin[1], goal[1], src_dir_fd=origin[0], dst_dir_fd=goal[0], follow_symlinks=False)
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _copy(descriptor, goal)


def _holds_the_same(descriptor: int, goal: tuple[int, str], target: Place) -> bool:
    other = open_file(*goal, target)
    try:
        return digest(other) == digest(descriptor)
    finally:
        os.close(other)


def _copy(descriptor: int, goal: tuple[int, str]) -> None:
    """Between file systems, or where there are no hard links."""
    status = os.fstat(descriptor)
    with replacement(*goal, mode=status.st_mode & 0o777) as new:
        offset = 0
        while chunk := os.pread(descriptor, CHUNK, offset):
            write_all(new, chunk)
            offset += len(chunk)
        os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))


def _taken(target: Place) -> Stopped:
    return business(
        "target_exists",
        f"'{target}' exists and holds something else",
        remedy="choose another target, or move the old file away first",
        path=str(target),
    )
