"""Secrets out of traces.

A Playwright trace holds what was filled, in clear: in the call log, in DOM snapshots, in recorded request
bodies. Before a trace is kept every occurrence of every known secret is replaced, in the content of every
entry and in its name.

Pictures cannot be searched: traces are recorded without a film strip, and the executor's screenshots cover
the fields instead.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from cpa.executors.redaction import MASK, SHORTEST, pattern


def redact_zip(source: Path, target: Path, secrets: Iterable[str]) -> bool:
    """Copy a trace without the secrets. False, and no target, if a secret is too short to be found safely.
    Blocking: call it in a thread."""
    values = {secret for secret in secrets if secret}
    if any(len(value) < SHORTEST for value in values):
        return False
    found = pattern(values)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content, name = old.read(entry), entry.filename.encode()
            if found is not None:
                content, name = found.sub(MASK, content), found.sub(MASK, name)
            new.writestr(name.decode(), content)
    return True
