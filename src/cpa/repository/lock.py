"""One process per store file: an advisory lock that the operating system drops when the process dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cpa.errors import Unavailable

if sys.platform == "win32":
    import msvcrt

    _BYTE = 1 << 30  # far behind the pid, so that others can still read it

    def _take(handle: int) -> None:
        os.lseek(handle, _BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """Holds `<path>.lock` from construction to `release`.

    Raises `Unavailable` naming the holder's process id when another process (or another lock in this one) has
    it. The file stays: removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".lock")
        self._handle: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(self._handle)
        except OSError as error:
            pid = (
                os.pread(self._handle, 32, 0).decode(errors="replace").strip() if os.name == "posix" else "?"
            )
            os.close(self._handle)
            self._handle = None
            raise Unavailable(
                f"the store {path} is in use by process {pid or 'unknown'}",
                field="database_url",
                value=str(path),
                remedy="stop that process, or give this one its own folder with --data",
            ) from error
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give it up; more than once does no harm."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)
