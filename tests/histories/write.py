"""Write the histories of a new logic number: `python -m tests.histories.write`.

Refuses when there are any for the number already: a committed history is never written again.
"""

from __future__ import annotations

import sys

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
        found[f"world_{seed:03}"] = made(f"drawn from seed {seed}", logic, drawn.spec, drawn.history)
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


if __name__ == "__main__":
    sys.exit(write())
