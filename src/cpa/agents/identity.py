"""Who an agent is: its id, address and key, kept beside its outbox, readable by its owner alone."""

from __future__ import annotations

import os
import re
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from cpa.errors import BadInput

FILE: Final = "agent.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the first registration was answered with."""

    id: str
    address: str
    key: str
    url: str
    """The scheduler's."""
    signing_key: str = ""
    """The private one; empty for an agent that signs nothing."""
    key_id: str = ""
    """What its signing key is called there, or would be."""


def known(folder: Path) -> Identity | None:
    """The identity in this folder. `BadInput` when its file cannot be read, or others can."""
    path = folder / FILE
    if not path.exists():
        return None
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise BadInput(
            f"others can read {path}, and be this agent",
            field="data",
            value=str(path),
            remedy=f"chmod 600 {path}; if others were on this machine, remove the agent and let it in anew",
        )
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(
            f"{path} cannot be read: {error}",
            field="data",
            value=str(path),
            remedy="restore it, or remove it and register the agent anew under another name",
        ) from error


def keep(folder: Path, identity: Identity) -> None:
    """Durable on return; a reader sees the old file or the new one."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = folder / f".{FILE}.{os.getpid()}"
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(identity)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / FILE)
    if os.name == "posix":
        # The name too: the key in it is told once.
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def own_name(kind: str) -> str:
    """A name for an agent nobody named: what it is, and where it runs."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "here"
    return f"{kind}-{host}"[:100].rstrip("-.")


def machine() -> dict[str, str]:
    """What is told about where the agent runs."""
    try:
        release = version("cpa-scheduler")
    except PackageNotFoundError:
        release = "unknown"
    return {
        "version": release,
        "platform": sys.platform,
        "hostname": socket.gethostname(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "process": str(os.getpid()),
    }
