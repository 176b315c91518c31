"""Files of jobs: which there are, and saved where somebody wants them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpa.cli.call import part
from cpa.errors import BadInput

if TYPE_CHECKING:
    from cpa.cli.client import Client

_PAGE = 500
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_LONGEST = 150
"""Bytes of a file's name."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a job."""

    digest: str
    task: str
    name: str = ""
    """Empty where only the server knows it."""
    size: int = 0
    step: int = 0
    """Number of the event it was kept for; 0 for what a task gave as its result."""


def results(detail: Mapping[str, Any]) -> list[File]:
    """The files in the results of a job's tasks, each once."""
    found: dict[str, File] = {}
    for task in detail["tasks"]:
        for each in _references(task.get("result")):
            name, size = str(each.get("name") or ""), each.get("size")
            digest = each["artifact"]
            found.setdefault(digest, File(digest, task["id"], name, size if isinstance(size, int) else 0))
    return list(found.values())


def pictures(api: Client, job: str, *, beside: list[File]) -> list[File]:
    """What was kept of the job's steps, oldest first, without the files in `beside`."""
    known = {file.digest for file in beside}
    found: list[File] = []
    cursor = None
    while cursor != "":
        page = api.get("/audit", job=job, limit=_PAGE, cursor=cursor)
        cursor = page["next"] or ""
        for entry in page["entries"]:
            for kept in entry["pictures"]:
                if kept["artifact"] not in known:
                    found.append(File(kept["artifact"], entry.get("task") or "", step=entry["number"] or 0))
    return sorted(found, key=lambda file: file.step)


def save(api: Client, file: File, folder: Path) -> Path:
    """Where the file now lies in `folder`, which is made if need be.

    It appears under its name once it is whole, and nothing is overwritten: another file of that name makes it
    `name-2`, the same one there already is left as it is. `BadInput` when it cannot be written there.
    """
    name, chunks = api.download(f"/artifacts/{part(file.digest)}")
    shown = plain(file.name or name)
    if file.step:
        shown = plain(f"{file.step:03}-{file.task}{Path(shown).suffix}")
    begun = folder / f".{file.digest[-16:]}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with begun.open("wb") as out:
            for chunk in chunks:
                out.write(chunk)
        target = _place(folder, shown, file.digest)
        begun.replace(target)
    except OSError as error:
        raise BadInput(
            f"cannot write to {folder}: {error.strerror}", field="save", remedy="choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            begun.unlink()
    return target


def plain(name: str) -> str:
    """A name from elsewhere as that of a file here: no folder, not hidden, nothing a terminal or shell acts on."""
    kept = "".join(sign if sign.isalnum() or sign in "-_.()" else "_" for sign in name)
    # The end is kept: that is where the kind of file stands.
    return kept.encode()[-_LONGEST:].decode(errors="ignore").lstrip(".-") or "file"


def _place(folder: Path, name: str, digest: str) -> Path:
    stem, suffix = Path(name).stem, Path(name).suffix
    target, number = folder / name, 1
    while target.exists() and not _is(target, digest):
        number += 1
        target = folder / f"{stem}-{number}{suffix}"
    return target


def _is(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest


def _references(value: Any) -> Iterator[Mapping[str, Any]]:
    """The files in a result, however deep."""
    if isinstance(value, Mapping):
        if isinstance(digest := value.get("artifact"), str) and _DIGEST.fullmatch(digest):
            yield value
        else:
            for each in value.values():
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
