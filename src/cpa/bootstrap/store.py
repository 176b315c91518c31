"""Whether the store's file is the one that belongs here.

Two accidents look like health from the inside: a store that was made new although keys and files of an earlier
one lie beside it (the wrong folder was mounted, the file was not restored), and one whose file was deleted or
replaced under the running server, which goes on writing into a file that no name leads to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cpa.api.services import Condition, PartHealth


def made_beside_others(store: Path, data: Path) -> bool:
    """Whether there is no store yet, but what only a server with one leaves. Ask before it is opened."""
    left = (data / "admin.key").exists() or any((data / "artifacts").glob("*/*/*"))
    return left and is_new(store)


def is_new(store: Path) -> bool:
    """Whether opening it will make it."""
    return not store.exists() or store.stat().st_size == 0


@dataclass(frozen=True, slots=True)
class StoreFile:
    """The file as it was when it was opened."""

    path: Path
    identity: tuple[int, int]
    new: bool = False
    """It was made then."""
    new_beside_others: bool = False

    @classmethod
    def opened(cls, path: Path, *, new: bool, new_beside_others: bool) -> StoreFile:
        return cls(path, _identity(path), new, new_beside_others)

    def trouble(self) -> PartHealth | None:
        """What is wrong with it now, if anything. Looks at the folder: call it in a thread."""
        try:
            same = _identity(self.path) == self.identity
        except OSError:
            same = False
        if not same:
            said = "the store's file was deleted or replaced while the server runs: stop it and put the file back"
            return PartHealth(Condition.UNHEALTHY, said)
        if self.new_beside_others:
            said = "the store was made new beside the keys and files of an earlier one: is this the right folder?"
            return PartHealth(Condition.DEGRADED, said)
        return None


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
