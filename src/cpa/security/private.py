"""Files that only their owner may read: written durably, made once, refused when others can read them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cpa.errors import Unavailable


def kept_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a private file, made at the first call and then kept.

    Two processes starting at once agree on one. Raises `Unavailable` when others can read the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fresh = write_private(path, make())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass  # another process was first; its secret counts
        finally:
            fresh.unlink()
        _sync_folder(path.parent)
    require_private(path)
    return path.read_bytes()


def write_private(path: Path, content: bytes, *, replace: bool = False) -> Path:
    """Write durably with mode 0600 to a name beside `path`, or, with `replace`, in its place."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not replace:
            return fresh
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return path


def read_private(path: Path) -> str:
    """The first line of a private file; empty when there is none."""
    if not path.exists():
        return ""
    require_private(path)
    return path.read_text("ascii", errors="replace").strip()


def require_private(path: Path) -> None:
    """Raise `Unavailable` when others can read it."""
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise Unavailable(
            "others can read this secret file",
            field=str(path),
            remedy=f"chmod 600 {path}, and consider it known",
        )


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive power loss, where the system offers it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
