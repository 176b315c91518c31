"""What `cpa init` writes: a small commented workspace that works as it stands."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from cpa.errors import BadInput, Conflict

NAMES = {
    "cpa.yaml": "cpa.yaml",
    "intents.yaml": "intents.yaml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
}
"""Template → name in the workspace."""


def write(folder: Path) -> list[Path]:
    """Write the workspace into a new or an empty folder, and say what was written.

    `Conflict` when one of its files is there: nothing is overwritten, nothing written then.
    """
    targets = [folder / name for name in NAMES.values()]
    if there := [path for path in targets if path.exists()]:
        raise Conflict(
            f"{there[0]} exists, and nothing is overwritten", value=str(folder), remedy="name another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for template, target in zip(NAMES, targets, strict=True):
            target.write_text((files("cpa") / "cli" / "workspace" / template).read_text("utf-8"), "utf-8")
    except OSError as error:
        raise BadInput(
            f"cannot write to {folder}: {error.strerror}",
            value=str(folder),
            remedy="choose a folder you may write to",
        ) from error
    return targets
