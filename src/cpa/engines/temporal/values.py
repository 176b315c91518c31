"""What crosses between the workflow, its activity and the gateway: the core's own values, as msgspec JSON.

Stored in histories, so these forms only grow by fields with defaults.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from temporalio.common import SearchAttributeKey

from cpa.core.audit import MIN_SALT, seal
from cpa.core.commands import AnyCommand
from cpa.core.events import PERSONAL, AgentChosen, AnyEvent, Event
from cpa.core.job import Changes, Decision, JobHead, JobSpec, TaskRun
from cpa.core.storing import UNSTORABLE, doubtful, storable
from cpa.ports.nonces import Nonce

WORKFLOW = "cpa.job"
FACTS = "facts"
"""Signal: facts that nobody waits for."""
TELL = "tell"
"""Update: facts whose outcome somebody waits for."""
LEAVE = "leave"
"""Signal: another engine takes the job over."""
PUBLISH = "cpa.publish"
"""Activity, local or not: steps into the store, commands to the orchestrator."""
MOST_BYTES = 512 * 1024
"""Of facts in one call, result or publication, as JSON: with one more of the largest the server still takes it."""
UNCHANGED = "unchanged"
"""Type of the refusal of an update that would change nothing."""
STATUS = SearchAttributeKey.for_keyword("CpaStatus")
"""What the server's lists show of a job's status."""
STALE = "stale_start"
"""Type of the failure of an execution of a new job whose id another job has."""


class Fact(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An event on its way into a job, with all that is drawn by chance: replay must find it again."""

    event: AnyEvent
    salt: str = ""
    """Of the digests of its personal fields, hexadecimal."""
    message: tuple[str, str] | None = None
    """(sender, id) of the message it came with."""
    digest: str = ""
    """Of the message's body."""
    nonce: Nonce | None = None
    since: int = 0
    """Number of the job's last event that its sender had seen in the store."""
    run: int | None = None
    """The only run of the job that it is meant for."""

    def late(self, head: JobHead) -> bool:
        """Whether the job went on to another run than it is meant for."""
        return self.run not in (None, head.run)


class Step(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A fact that changed the job; its event has its time."""

    number: int
    fact: Fact
    effect: str = ""
    """Digest of what it changed and commanded: whoever takes the step must come to the same."""


class JobInput(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What an execution begins with: a new job, a job to be reopened, or the rest of the execution before."""

    spec: JobSpec
    head: JobHead
    tasks: tuple[TaskRun, ...] = ()
    commands: tuple[AnyCommand, ...] = ()
    due: dict[str, int] = {}
    """When the timers of open commands fire, by key; milliseconds since 1970 UTC."""
    start: int = 0
    """When a postponed job may start; 0 is not postponed."""
    inbox: tuple[Fact, ...] = ()
    """Not decided yet."""
    seen: tuple[tuple[str, str], ...] = ()
    """Messages of the execution before."""
    salt: str = ""
    """Of the ids of activities, which stand in clear: nobody shall try out what a digest is of."""
    shown: str = ""
    """The status that the server's lists show; empty is none, they have no place for it."""


class Publication(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Steps of one job, in order, for the store and for those who carry out what follows."""

    tenant: str
    job: str
    after: int = 0
    """The last event the workflow knows to be in the store."""
    spec: JobSpec | None = None
    """Until the store has the first step of a job."""
    steps: tuple[Step, ...] = ()
    refused: tuple[AgentChosen, ...] = ()
    """Choices of agents that changed nothing: their slots are free again."""


class Published(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    facts: tuple[Fact, ...] = ()
    """What was answered at once."""
    missed: tuple[AnyEvent, ...] = ()
    """What the store has beyond `after`, when it is something else than the steps: of these nothing was stored. The
    first of them where they are many."""


class Told(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of a fact; as `ports.engine.Outcome`."""

    changed: bool
    number: int
    reason: str = ""


class Ended(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The result of an execution: how the job ended, or how it stood when another engine took it over."""

    status: str
    number: int
    start: int = 0
    """When a postponed job that left may start."""


def sealed(event: Event, chance: Callable[[int], bytes], since: int = 0) -> Fact:
    """The event as it can be stored, with the salt it will be stored with, of random bytes. InvalidDocument as
    `storable`."""
    salt = chance(MIN_SALT) if type(event) in PERSONAL else b""
    try:
        if doubtful(seal(event, salt)):
            event = storable(event)
    except UNSTORABLE:
        event = storable(event)
    return Fact(event, salt.hex(), since=since)  # type: ignore[arg-type]  # all events are of the union


def effect_of(decision: Decision) -> str:
    """Digest of what a decision changes and commands, in whatever order: that is another one where the job was
    rebuilt from what is stored."""
    changes, commands = decision.changes, sorted(decision.commands, key=lambda command: command.key)
    if changes is not None:
        tasks = tuple(sorted(changes.tasks, key=lambda run: run.index))
        changes = Changes(changes.head, tasks, tuple(sorted(changes.closed)))
    return hashlib.sha256(_encode(changes) + _encode(commands)).hexdigest()[:16]


def content_of(event: Event) -> bytes:
    """What happened, whenever that was."""
    return _encode(msgspec.structs.replace(event, time=0))


def size_of(fact: Fact) -> int:
    """Bytes of a fact on its way, before compression."""
    return len(_encode(fact))


_encode = msgspec.json.Encoder().encode
