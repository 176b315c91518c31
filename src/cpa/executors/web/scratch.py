"""The folder for what a running browser writes aside: raw traces, unfinished downloads.

Both hold what the job's secrets were filled into. So they lie in the data folder, for nobody else to read, and
not in the machine's folder for temporary files; and what a killed process left there goes when the next one
begins. A process holds a lock on its part, which the operating system drops with the process."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from pathlib import Path

TRACES = "traces"
_LOCK = "lock"


class Scratch:
    """One process's part of `folder`. Blocking: call in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: Path | None = None
        self._handle: int | None = None

    def open(self) -> Path:
        """The part, made on first use; before that, parts without a living owner are removed."""
        if self._own is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in self._folder.iterdir():
                _remove_abandoned(part)
            own = self._folder / secrets.token_hex(8)
            own.mkdir(mode=0o700)
            self._handle = _taken(own / _LOCK, os.O_CREAT)
            self._own = own
        return self._own

    def forget(self, trace: str, *, last: bool) -> None:
        """Remove a raw trace that was written under this name. The browser would keep it as long as it runs. What
        traces share goes with the `last` of those that are being written. At once: no other may begin meanwhile."""
        if self._own is None:
            return
        for path in (self._own / TRACES).glob(f"{trace}*"):
            path.unlink(missing_ok=True)
        if last:
            shutil.rmtree(self._own / TRACES / "resources", ignore_errors=True)

    def close(self) -> None:
        """Remove it; more than once does no harm."""
        own, self._own = self._own, None
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _remove_abandoned(part: Path) -> None:
    try:
        handle = _taken(part / _LOCK)
    except FileNotFoundError:
        shutil.rmtree(part, ignore_errors=True)  # killed before it had its lock
        return
    except OSError:
        return  # somebody works in it
    shutil.rmtree(part, ignore_errors=True)
    os.close(handle)


def _taken(path: Path, flags: int = 0) -> int:
    """The file, open and locked; OSError if somebody else has it."""
    handle = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
