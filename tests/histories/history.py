"""A committed history: what once was stored of a job, event by event, and how it is replayed.

One JSON file per history under `tests/histories/<logic>/`. `spec` is the stored plan; each step holds as text the
stored event (`body`, and `private` where it had personal values) and the bytes of the changes and commands that
the core of that logic number made of it. These bytes never change: whoever wants another outcome takes the next
logic number, behind a branch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cpa.core.audit import seal, unseal
from cpa.core.events import Event
from cpa.core.job import JobSpec
from cpa.core.replay import replay

FOLDER = Path(__file__).resolve().parent
_encode = msgspec.json.Encoder().encode


class Left(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event and what it left in the store, each as the text of the exact bytes."""

    body: str
    changes: str
    commands: str
    private: str = ""

    def event(self) -> Event:
        return unseal(self.body.encode(), self.private.encode() or None)


class History(msgspec.Struct, frozen=True):
    about: str
    logic: int
    spec: JobSpec
    steps: tuple[Left, ...]

    def events(self) -> list[Event]:
        return [step.event() for step in self.steps]


def made(about: str, logic: int, spec: JobSpec, events: Sequence[Event]) -> History:
    """The history this core makes of these events."""
    steps = []
    for number, (event, decision, _) in enumerate(replay(spec, events), 1):
        salt = hashlib.sha256(f"{about} {number}".encode()).digest()[:16]
        sealed = seal(event, salt)
        steps.append(
            Left(
                body=sealed.body.decode(),
                changes=_encode(decision.changes).decode(),
                commands=_encode(decision.commands).decode(),
                private=(sealed.private or b"").decode(),
            )
        )
    return History(about, logic, spec, tuple(steps))


def paths() -> list[Path]:
    return sorted(FOLDER.glob("[0-9]*/*.json"))


def read(path: Path) -> History:
    return msgspec.json.decode(path.read_bytes(), type=History)


def encoded(history: History) -> bytes:
    """The file's bytes: one step per line, for readable differences."""
    return msgspec.json.format(_encode(history), indent=1) + b"\n"
