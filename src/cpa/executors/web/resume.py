"""What survives a process: enough of a browser session to go on in another.

After every step the session's cookies and local storage, the address of its page and what was typed into it
since the page was loaded are written to one file per job, mode 0600, named by a hash. Secrets stand there as
the names they were given by. When a later step of the job meets a process without its context, the file
restores it: same cookies, same page, same typed values. The file goes when the job's run ends.

What it cannot bring back: session storage, pages that only a POST leads to, and what scripts had changed on
the page. Then the step says `session_lost`, or does not find its element.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Something typed or chosen on the current page."""

    kind: str
    """`fill` or `select`."""
    selector: str
    value: Any
    """As it was given: text, `{"secret": name}`, or a list of such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A session as written."""

    url: str
    storage: dict[str, Any]
    inputs: tuple[Input, ...] = ()
    masks: tuple[str, ...] = field(default=())
    """Selectors of the fields that held a secret, to be covered on pictures."""
    secrets: tuple[str, ...] = field(default=())
    """Names of the secrets that the job was given: its pages may show them again."""
    done: tuple[str, dict[str, Any]] | None = None
    """Idempotency key and result of the step that led here. Asked for again, because its answer was lost with the
    process, it is not done again: its page is gone, and the button with it."""


class ResumeFiles:
    """The files below one folder. Blocking: call in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, tenant: str, job: str, saved: Saved) -> None:
        """Replace what was there, at once or not at all."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(tenant, job)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        body = {
            "schema": _SCHEMA,
            "url": saved.url,
            "storage": saved.storage,
            "inputs": [
                {"kind": each.kind, "selector": each.selector, "value": each.value} for each in saved.inputs
            ],
            "masks": list(saved.masks),
            "secrets": list(saved.secrets),
            "done": list(saved.done) if saved.done is not None else None,
        }
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(body, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, tenant: str, job: str) -> Saved | None:
        """What was saved last; None if there is nothing, or nothing that can be read."""
        try:
            body = json.loads(self._path(tenant, job).read_bytes())
            if body["schema"] != _SCHEMA:
                return None
            done = body.get("done")
            return Saved(
                url=str(body["url"]),
                storage=dict(body["storage"]),
                inputs=tuple(Input(**each) for each in body["inputs"]),
                masks=tuple(map(str, body["masks"])),
                secrets=tuple(map(str, body.get("secrets", ()))),
                done=(str(done[0]), dict(done[1])) if done else None,
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):
            return None

    def drop(self, tenant: str, job: str) -> None:
        self._path(tenant, job).unlink(missing_ok=True)

    def _path(self, tenant: str, job: str) -> Path:
        return self._folder / (hashlib.sha256(f"{tenant}\x1f{job}".encode()).hexdigest() + ".json")
