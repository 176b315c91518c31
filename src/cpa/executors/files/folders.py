"""Paths below configured folders, resolved so that nothing leads out: the blocking half of the file executor.

A check of a path's text is worth nothing if the path is walked again afterwards: a component may have
become a symbolic link meanwhile. So a path is walked once, component by component, each opened relative to
the one before and never through a link; what is then opened, renamed or removed is named relative to the
last folder's descriptor. Links below a configured folder are refused even when they lead back inside: that
costs little and is easy to be sure of. A configured folder itself may be reached through links, for its
owner is the operator.

Names are compared in Unicode's composed form (NFC), because macOS and many archives store `ü` as two
characters. A name that exists is used in its own spelling, a new one is written composed. Case counts.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cpa.core.classes import FailureClass
from cpa.executors.arguments import Stopped, business, policy, technical

CHUNK = 1024 * 1024

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# Non-blocking, because opening a pipe would wait for its other end.
_READ = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: a configured folder and the names below it, at least one."""

    root: Path
    names: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.root.joinpath(*self.names))

    def same_as(self, other: Place) -> bool:
        """Whether both name the same place; no component is a link, so equal paths are the same file."""
        return composed(str(self)) == composed(str(other))


class Folders:
    """The folders one tenant may touch. A relative path is below the first of them."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(Path(os.path.realpath(root)) for root in roots)

    def locate(self, argument: str, path: str) -> Place:
        """Where this path leads. Raises `Stopped` for one that leads out; looks at no disk."""
        if not self._roots:
            raise policy(
                "outside_allowed_folders",
                "no folder is configured for files",
                remedy="name the folders in the setting files",
                argument=argument,
            )
        if _CONTROL.search(path):
            raise business(
                "bad_argument",
                f"the argument '{argument}' contains a control character",
                remedy="correct the path",
                argument=argument,
            )
        given = PurePosixPath(path)
        root, names = self._below(given)
        if root is None or ".." in given.parts:
            allowed = ", ".join(map(str, self._roots))
            raise policy(
                "outside_allowed_folders",
                f"'{path[:200]}' is outside the allowed folders ({allowed})",
                remedy="use a path below one of them, or add the folder to the setting files",
                argument=argument,
            )
        if not names:
            raise is_folder(path)
        return Place(root, names)

    def _below(self, given: PurePosixPath) -> tuple[Path | None, tuple[str, ...]]:
        if not given.is_absolute():
            return self._roots[0], given.parts
        parts = tuple(map(composed, given.parts))
        # The deepest folder first, should one lie within another.
        for root in sorted(self._roots, key=lambda each: len(each.parts), reverse=True):
            if parts[: len(root.parts)] == tuple(map(composed, root.parts)):
                return root, given.parts[len(root.parts) :]
        return None, ()


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


@contextmanager
def parent(place: Place, *, create: bool = False) -> Iterator[tuple[int, str]]:
    """The open folder that holds the place, and the name in it as the disk spells it.

    With `create`, missing folders on the way are made. Faults of the file system come out as `Stopped`.
    """
    with faults(place):
        descriptor = _open_root(place)
        try:
            for name in place.names[:-1]:
                onward = _step(descriptor, name, place, create=create)
                os.close(descriptor)
                descriptor = onward
            yield descriptor, spelled(descriptor, place.names[-1])
        finally:
            os.close(descriptor)


def open_file(folder: int, name: str, place: Place) -> int:
    """A descriptor of the regular file of this name; the caller closes it."""
    status = lstat(folder, name)
    if status is None:
        raise not_found(place)
    _must_be_regular(status, place)
    descriptor = os.open(name, _READ, dir_fd=folder)
    try:
        _must_be_regular(os.fstat(descriptor), place)
    except Stopped:
        os.close(descriptor)
        raise
    return descriptor


def lstat(folder: int, name: str) -> os.stat_result | None:
    """What stands under this name; None if nothing does. Links are not followed."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def must_be_file_or_absent(folder: int, name: str, place: Place) -> os.stat_result | None:
    """The status of the regular file of this name, None if there is nothing; anything else is refused."""
    status = lstat(folder, name)
    if status is not None:
        _must_be_regular(status, place)
    return status


@contextmanager
def replacement(folder: int, name: str, *, mode: int = 0o644) -> Iterator[int]:
    """Write a new file, and put it under `name` at the end of the block: durable and in one step, or not at
    all."""
    temporary = f".{secrets.token_hex(12)}.tmp"
    descriptor = os.open(temporary, _CREATE, 0o600, dir_fd=folder)
    try:
        try:
            yield descriptor
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise


def digest(descriptor: int) -> str:
    """`sha256:…` of the whole file."""
    seen = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, CHUNK, offset):
        seen.update(chunk)
        offset += len(chunk)
    return f"sha256:{seen.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it lies there."""

    digest: str
    size: int


def look(place: Place) -> Found | None:
    """The file at this place; None if there is nothing."""
    try:
        with parent(place) as (folder, name):
            descriptor = open_file(folder, name, place)
            try:
                return Found(digest(descriptor), os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)
    except Stopped as stopped:
        if stopped.error.code == "file_not_found":
            return None
        raise


def write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def spelled(folder: int, name: str) -> str:
    """The name as it stands in this folder: as given, composed, or however else the disk spells it."""
    wanted = composed(name)
    for candidate in (name, wanted):
        if lstat(folder, candidate) is not None:
            return candidate
    if wanted.isascii():
        return wanted
    return next((each for each in os.listdir(folder) if composed(each) == wanted), wanted)


def not_found(place: Place) -> Stopped:
    return business(
        "file_not_found",
        f"there is no file '{place}'",
        remedy="check the path, or run the task first that makes the file",
        path=str(place),
    )


def is_folder(path: object) -> Stopped:
    return business("is_a_folder", f"'{path}' is a folder", remedy="name the file in it", path=str(path))


@contextmanager
def faults(place: Place) -> Iterator[None]:
    """Faults of the file system as reasons to stop."""
    try:
        yield
    except FileNotFoundError as error:
        raise not_found(place) from error
    except PermissionError as error:
        raise business(
            "permission_denied",
            f"'{place}' may not be touched: {error.strerror}",
            remedy="give the user that runs the scheduler the right to it",
            path=str(place),
        ) from error
    except OSError as error:
        raise _fault(error, place) from error


def _fault(error: OSError, place: Place) -> Stopped:
    if error.errno in _FULL:
        return Stopped(
            FailureClass.ENVIRONMENT,
            "disk_full",
            f"'{place}' cannot be written: {error.strerror}",
            remedy="make room on the disk",
        )
    if error.errno == errno.ELOOP:
        return _link(place)
    if error.errno == errno.ENAMETOOLONG:
        return business("bad_argument", f"the path '{str(place)[:200]}…' is too long", remedy="shorten it")
    return technical(
        "file_failed",
        f"'{place}' failed: {error.strerror or error}",
        remedy="it is tried again; check the disk if it lasts",
    )


def _link(place: Place) -> Stopped:
    return policy(
        "symbolic_link",
        f"'{place}' leads through a symbolic link",
        remedy="name the real path, below one of the allowed folders",
        path=str(place),
    )


def _open_root(place: Place) -> int:
    try:
        return os.open(place.root, _FOLDER)
    except OSError as error:
        raise Stopped(
            FailureClass.ENVIRONMENT,
            "folder_unavailable",
            f"the folder {place.root} is not there: {error.strerror}",
            remedy="create or mount it, or correct the setting files",
        ) from error


def _step(folder: int, name: str, place: Place, *, create: bool) -> int:
    """One folder deeper."""
    actual = spelled(folder, name)
    status = lstat(folder, actual)
    if status is None:
        if not create:
            raise not_found(place)
        with suppress(FileExistsError):
            os.mkdir(actual, 0o755, dir_fd=folder)
            os.fsync(folder)
    elif stat.S_ISLNK(status.st_mode):
        raise _link(place)
    elif not stat.S_ISDIR(status.st_mode):
        raise business(
            "not_a_folder", f"'{name}' in '{place}' is no folder", remedy="correct the path", path=str(place)
        )
    return os.open(actual, _FOLDER, dir_fd=folder)


def _must_be_regular(status: os.stat_result, place: Place) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise is_folder(place)
    if stat.S_ISLNK(status.st_mode):
        raise _link(place)
    if not stat.S_ISREG(status.st_mode):
        raise policy(
            "not_a_file",
            f"'{place}' is a device, pipe or socket",
            remedy="name a regular file",
            path=str(place),
        )
