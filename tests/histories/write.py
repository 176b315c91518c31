"""Write the histories of a new logic number: `python -m tests.histories.write`; `--add` only those of new stories.

A committed history is never written again: without `--add` it refuses when the number has any, with it only what is
missing is written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cpa.core.job import LOGIC

from .history import FOLDER, History, encoded, made
from .stories import STORIES, WORLDS, world


def histories(logic: int) -> dict[str, History]:
    """By file name."""
    found = {}
    for tell in STORIES:
        story = tell()
        found[tell.__name__] = made(tell.__doc__ or "", logic, story.spec, story.history)
    for seed in WORLDS:
        drawn = world(seed)
        found[f"world_{seed:03}"] = made(f"drawn from seed {seed}", logic, drawn.spec, drawn.watch.history)
    return found


def write(logic: int = LOGIC) -> int:
    """Write them all, or nothing; the exit code."""
    folder = FOLDER / str(logic)
    if folder.exists():
        print(
            f"{folder} is there already. Committed histories are never written again: give the changed "
            "behaviour the next LOGIC number in src/cpa/core/job.py, behind a branch.",
            file=sys.stderr,
        )
        return 1
    folder.mkdir()
    for name, history in histories(logic).items():
        (folder / f"{name}.json").write_bytes(encoded(history))
    return 0


def add(logic: int = LOGIC) -> list[Path]:
    """Write the stories that have no history yet; their files."""
    missing = {
        FOLDER / str(logic) / f"{tell.__name__}.json": tell
        for tell in STORIES
        if not (FOLDER / str(logic) / f"{tell.__name__}.json").exists()
    }
    for path, tell in missing.items():
        story = tell()
        path.write_bytes(encoded(made(tell.__doc__ or "", logic, story.spec, story.history)))
    return list(missing)


if __name__ == "__main__":
    if "--add" in sys.argv:
        print(*add(), sep="\n")
    else:
        sys.exit(write())
