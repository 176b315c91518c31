"""What the audit trail stores of a fact, and how it is read back, checked and told.

The stored form of an event is its *body*, and its *leaf* is SHA-256(body). A body proves itself for ever,
also after the personal data in it had to go. So personal values (`events.PERSONAL`) never enter the body; it
holds a digest of them instead:

    private = {"salt":"<hex>","values":{"result":{…}}}         msgspec JSON, fields in the order of PERSONAL
    body    = {"event":"task_succeeded","time":…,"task":0,"epoch":1,"sealed":"<hex of SHA-256(private)>"}

- The body is the event's msgspec JSON (fields in declared order, defaults left out) with each non-empty
  personal field left out, and `sealed` as the last key. Without a non-empty personal field there is no
  `sealed` and no private part: one encode and one hash. An empty personal value (`{}`, "") stays in place.
- The salt begins the hashed bytes. It is drawn per event by the caller, at least 16 random bytes, else a
  short note could be guessed from its digest. Erasing is deleting `private`, salt included.
- The body can be made again from event and private part, byte for byte (`verify` needs no event at all).
- Bodies carry `"schema":n` for n above 1; without it they are of schema 1. Reading lifts them number by
  number through `UPCASTS` and refuses a number above `SCHEMA`.

What no job did (a key made, a request refused) is an `ActionLogged`, sealed in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Protocol

import msgspec

from cpa.core.events import (
    PERSONAL,
    AgentChosen,
    AnyEvent,
    CancelRequested,
    DispatchDeferred,
    Event,
    JobDiscarded,
    JobReopened,
    JobStarted,
    JobSubmitted,
    LeaseLost,
    QuestionAnswered,
    TaskFailed,
    TaskProposed,
    TaskRefused,
    TaskStarted,
    TaskSucceeded,
    TaskVerified,
    TimerFired,
)
from cpa.core.job import SCHEMA
from cpa.errors import InternalError, Unavailable

ILLEGIBLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for stored bytes that no version of this program wrote."""
MIN_SALT = 16
"""Bytes a salt must at least have."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Lifts the decoded body (personal values filled in) of one schema number to the next."""

UPCASTS: dict[int, Upcast] = {}
"""By the number they start from; complete from 1 to SCHEMA - 1."""


class ActionLogged(Event, tag="action_logged", frozen=True, omit_defaults=True, kw_only=True):
    """Something happened outside any job. `details` may hold personal data, the other fields must not."""

    tenant: str
    actor: str
    action: str
    """A dotted word: `key.created`, `config.loaded`, `auth.refused`."""
    subject: str = ""
    """Id of what it was done to."""
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class Damaged(Event, tag="damaged", frozen=True, kw_only=True):
    """Stands for a stored event that cannot be read. It is never stored itself."""

    type: str
    """Of the event, as its row says."""
    which: str
    """How people call it: `Event 3 of this job`."""


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """What is stored of one event."""

    body: bytes
    private: bytes | None
    leaf: bytes
    """SHA-256 of `body`, 32 bytes."""


class _Private(msgspec.Struct, frozen=True):
    salt: str
    values: dict[str, Any]


class _Mark(msgspec.Struct, frozen=True):
    sealed: str = ""
    schema: Annotated[int, msgspec.Meta(ge=1)] = 1


_FIELDS: dict[type[Event], tuple[str, ...]] = {**PERSONAL, ActionLogged: ("details",)}
_DEFAULTS: dict[type[Event], dict[str, Any]] = {
    kind: {
        field.name: field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        for field in msgspec.structs.fields(kind)
        if field.name in names
    }
    for kind, names in _FIELDS.items()
}
_encode = msgspec.json.Encoder().encode
_sha256 = hashlib.sha256
_decode: msgspec.json.Decoder[AnyEvent | ActionLogged] = msgspec.json.Decoder(AnyEvent | ActionLogged)
_decode_private = msgspec.json.Decoder(_Private)
_decode_mark = msgspec.json.Decoder(_Mark)


def seal(event: Event, salt: bytes = b"") -> Sealed:
    """The stored form of an event.

    `salt` is used only if a personal field is non-empty; then it must be at least MIN_SALT fresh random bytes
    (`InternalError` otherwise). Deterministic in its arguments.
    """
    names = _FIELDS.get(type(event))
    if names is not None:
        values = {name: value for name in names if (value := getattr(event, name))}
        if values:
            return _seal_personal(event, values, salt)
    body = _encode(event)
    return Sealed(body, None, _sha256(body).digest())


def _seal_personal(event: Event, values: dict[str, Any], salt: bytes) -> Sealed:
    if len(salt) < MIN_SALT:
        raise InternalError(f"a salt of at least {MIN_SALT} bytes is needed to seal {type(event).__name__}")
    private = _encode(_Private(salt.hex(), values))
    defaults = _DEFAULTS[type(event)]
    bare = _encode(msgspec.structs.replace(event, **{name: defaults[name] for name in values}))
    body = b'%b,"sealed":"%b"}' % (bare[:-1], _sha256(private).hexdigest().encode())
    return Sealed(body, private, _sha256(body).digest())


def unseal(body: bytes, private: bytes | None = None) -> Event:
    """The event again. Without its private part (erased) the personal fields have their defaults.

    Raises `InternalError` for bytes that are no stored event, `Unavailable` for one written by newer code.
    """
    try:
        # A quote inside a JSON string is escaped, so these bytes can only be a real key.
        if b'"schema":' in body:
            return _lift(body, private)
        event = _decode.decode(body)
        if private is None:
            return event
        return msgspec.structs.replace(event, **_decode_private.decode(private).values)
    except (*ILLEGIBLE, TypeError) as error:
        raise InternalError(
            f"a stored event cannot be read: {error}",
            field="body",
            value=body.decode(errors="replace"),
            remedy="run `cpa audit --verify` to see whether the store was altered",
        ) from error


def _lift(body: bytes, private: bytes | None) -> Event:
    number = _decode_mark.decode(body).schema
    if number > SCHEMA:
        raise Unavailable(
            f"the event has schema {number}, this program reads up to {SCHEMA}",
            field="schema",
            value=number,
            remedy="start the newer version that wrote it",
        )
    document: dict[str, Any] = msgspec.json.decode(body)
    if private is not None:
        document |= _decode_private.decode(private).values
    for step in range(number, SCHEMA):
        document = UPCASTS[step](document)
    event: Event = msgspec.convert(document, AnyEvent | ActionLogged)
    return event


def verify(body: bytes, private: bytes | None, leaf: bytes) -> bool:
    """Whether the leaf was made of this body, and the body of this private part (unless it was erased)."""
    if _sha256(body).digest() != leaf:
        return False
    if private is None:
        return True
    try:
        return _decode_mark.decode(body).sealed == _sha256(private).hexdigest()
    except ILLEGIBLE:
        return False


def erased(body: bytes, private: bytes | None) -> bool:
    """Whether the event once had personal data that is gone."""
    return private is None and b'"sealed":' in body


# -- telling -------------------------------------------------------------------------------------------------


class Stored(Protocol):
    """What `entry` reads of a stored event; `ports.engine.StoredEvent` is one."""

    @property
    def job(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def event(self) -> Event: ...
    @property
    def leaf(self) -> str: ...


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of the audit trail for people."""

    time: int
    type: str
    text: str
    """What happened, one sentence."""
    leaf: str
    """SHA-256 of the stored bytes, hexadecimal."""
    job: str = ""
    number: int = 0
    task: str = ""
    """Id of the task, or its number where the plan is not at hand."""
    epoch: int = 0
    agent: str = ""
    by: str = ""
    """Who did or decided it, where that was a person or a key."""
    subject: str = ""
    """What was acted on, for actions outside jobs."""
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    """Further facts; of an answer the `digest` of the exact action it was given for."""
    artifacts: tuple[str, ...] = ()
    """Digests of the files and pictures kept of it."""
    erased: bool = False
    """Personal data was in it and has been deleted."""


def entry(stored: Stored, tasks: Sequence[str] = (), *, erased: bool = False) -> AuditEntry:
    """The entry of one stored event. `tasks` are the ids of the plan's tasks, by index."""
    event = stored.event
    index = getattr(event, "task", -1)
    task = "" if index < 0 else _name(index, tasks)
    logged = event if isinstance(event, ActionLogged) else None
    return AuditEntry(
        time=event.time,
        type=kind(event),
        text=_sentence(event, task, tasks),
        leaf=stored.leaf,
        job=stored.job,
        number=stored.number,
        task=task,
        epoch=getattr(event, "epoch", 0),
        agent=getattr(event, "agent", ""),
        by=logged.actor if logged else getattr(event, "by", ""),
        subject=logged.subject if logged else "",
        details=logged.details if logged else _details(event),
        artifacts=getattr(event, "artifacts", ()),
        erased=erased,
    )


def _details(event: Event) -> dict[str, Any]:
    """What the sentence leaves out: which exact action an answer was given for."""
    digest = event.digest if isinstance(event, QuestionAnswered) else ""
    return {"digest": digest} if digest else {}


def kind(event: Event) -> str:
    """The stored name of the event's type, such as `task_succeeded`."""
    return event.type if isinstance(event, Damaged) else str(event.__struct_config__.tag)


def _sentence(event: Event, task: str, tasks: Sequence[str]) -> str:
    if isinstance(event, JobReopened):
        return _reopened(event, tasks)
    return _SENTENCES[type(event)](event, task)


def _name(index: int, tasks: Sequence[str]) -> str:
    return tasks[index] if index < len(tasks) else str(index)


def _reopened(event: JobReopened, tasks: Sequence[str]) -> str:
    """Who opened the next run, and what they changed. What was personal in it may be erased, its tasks too."""
    parts = {
        "with other arguments": sorted(map(int, event.fixes)),
        "left out": event.skip,
        "done by hand": sorted(map(int, event.done)),
        "done again": event.restart,
    }
    named = [
        f"{words}: {', '.join(_name(index, tasks) for index in indices)}"
        for words, indices in parts.items()
        if indices
    ]
    where = " from the dead letters" if event.dead_letter else ""
    return f"{event.by} opened the next run{where}{'; ' if named else ''}{'; '.join(named)}."


def _with(words: str, reason: str) -> str:
    """A reason is somebody's own words, with its own full stop or none."""
    return f"{words}: {reason}" if reason else f"{words}."


_SENTENCES: dict[type[Event], Callable[[Any, str], str]] = {
    JobSubmitted: lambda e, _: f"Job accepted with {e.tasks} task{'' if e.tasks == 1 else 's'}.",
    JobStarted: lambda e, _: "Job started.",
    AgentChosen: lambda e, task: f"Task {task} given to agent {e.agent} (epoch {e.epoch}).",
    DispatchDeferred: lambda e, task: f"Task {task} waits for an agent ({e.reason}), again in {e.after} ms.",
    TaskStarted: lambda e, task: f"Agent began task {task} (epoch {e.epoch}).",
    TaskRefused: lambda e, task: _with(f"Agent refused task {task}", e.reason),
    # Its agent's word: whether the effect is proved is looked at after it.
    TaskSucceeded: lambda e, task: (
        f"Agent says that task {task} is done, after {e.duration} ms (epoch {e.epoch})."
    ),
    TaskFailed: lambda e, task: _with(f"Task {task} failed, {e.failure.value} {e.code}", e.message),
    LeaseLost: lambda e, task: _with(f"Agent lost during task {task}, outcome unknown", e.reason),
    TaskVerified: lambda e, task: _with(f"Effect of task {task} looked for, {e.verdict}", e.evidence),
    QuestionAnswered: lambda e, task: _with(
        f"{e.by} answered {'yes' if e.yes else 'no'} for task {task}", e.note
    ),
    TaskProposed: lambda e, task: _with(f"Agent proposed to do task {task} otherwise or later", e.reason),
    TimerFired: lambda e, _: f"Timer {e.key} fired.",
    CancelRequested: lambda e, _: _with(f"{e.by} asked to cancel the job", e.reason),
    JobDiscarded: lambda e, _: _with(f"{e.by} discarded the job", e.note),
    Damaged: lambda e, _: (
        f"{e.which} is damaged and cannot be read; `cpa audit --verify` checks the whole trail."
    ),
    ActionLogged: lambda e, _: f"{e.actor}: {e.action}{f' {e.subject}' if e.subject else ''}.",
}
