"""What can be done: every action, its arguments, and what a second try of it may do to the world.

An action is a canonical dotted name (`web.click`) with an `ActionSpec`. The specs live in one table, so a new
action needs no change here: `CATALOGUE.with_actions(ActionSpec(...))` gives a catalogue that knows it.

Each argument has a slot. A *control* slot decides what is touched (recipient, URL, selector, path, folder,
method); a *data* slot only carries content. Text from outside may fill data slots and never control slots:
that is checked before a plan exists (`core.task_graph`) and again by the executors.

Effect classes lean to the safe side: a wrong `unsafe` costs a question to a person, a wrong `idempotent` an
order placed twice. A click may submit a form, so `web.click` is unsafe unless the task says otherwise.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from cpa.core.classes import EffectClass
from cpa.errors import BadInput, InvalidDocument

UI_TIMEOUT = 8.0
"""Seconds one step in a user interface may take."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+")


class Slot(StrEnum):
    """What an argument decides."""

    CONTROL = "control"
    """Where, to whom, with what: never filled from outside."""
    DATA = "data"
    """Content only."""


class ArgumentType(StrEnum):
    """What a literal argument must look like. Numbers count as text, as YAML reads `12345` as one."""

    TEXT = "text"
    TEXTS = "texts"
    """A text or a list of texts."""
    NUMBER = "number"
    FLAG = "flag"
    OBJECT = "object"
    FILE = "file"
    """An artifact reference."""
    FILES = "files"
    """An artifact reference or a list of them."""
    ANY = "any"

    def accepts(self, value: object) -> bool:
        """Whether `value` is of this type. Names of secrets stand for any type."""
        if isinstance(value, Mapping) and set(value) == {"secret"}:
            return True
        match self:
            case ArgumentType.TEXT:
                return _is_text(value)
            case ArgumentType.TEXTS:
                return all(map(_is_text, value)) if isinstance(value, list) else _is_text(value)
            case ArgumentType.NUMBER:
                return isinstance(value, int | float) and not isinstance(value, bool)
            case ArgumentType.FLAG:
                return isinstance(value, bool)
            case ArgumentType.OBJECT:
                return isinstance(value, Mapping)
            case ArgumentType.FILE:
                return isinstance(value, Mapping) and isinstance(value.get("artifact"), str)
            case ArgumentType.FILES:
                files = value if isinstance(value, list) else [value]
                return all(map(ArgumentType.FILE.accepts, files))
            case _:
                return True


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentSpec:
    """One argument of an action."""

    slot: Slot
    required: bool = False
    type: ArgumentType = ArgumentType.TEXT
    sensitive: bool = False
    """May hold credentials even when it names no secret: masked wherever it is shown."""
    choices: tuple[str, ...] = ()
    """The only values allowed; empty allows all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """One action: what goes in, what comes out, and what repeating it means."""

    name: str
    summary: str
    arguments: Mapping[str, ArgumentSpec] = field(default_factory=dict)
    one_of: tuple[tuple[str, ...], ...] = ()
    """Of each group exactly one argument is given."""
    at_most_one: tuple[tuple[str, ...], ...] = ()
    """Of each group at most one argument is given."""
    open: bool = False
    """Arguments that are not listed are accepted too, as data of any type."""
    results: tuple[str, ...] = ()
    """Names the result may hold; which of them, the arguments decide."""
    tainted_result: bool = True
    """The result comes from outside (page, mail, file, answer of a server)."""
    passes_taint: bool = False
    """The result repeats the arguments: it is tainted when one of them is."""
    timeout: float = UI_TIMEOUT
    """Seconds for one attempt unless the task says otherwise."""
    effect: EffectClass = EffectClass.UNSAFE
    effect_by: tuple[str, Mapping[str, EffectClass]] | None = None
    """An argument (and, for upper-cased values of it, the effect) that knows better than `effect`."""
    shorthands: Mapping[str, str] = field(default_factory=dict)
    """Which argument a task's `selector` or `text` means, where it is not the one of that name."""

    def argument(self, name: str) -> ArgumentSpec | None:
        """The argument's spec, or None where the action takes no such argument."""
        return self.arguments.get(name) or (_ANYTHING if self.open else None)

    def effect_of(self, arguments: Mapping[str, Any]) -> EffectClass:
        """The effect class of a call with these arguments, as far as they tell."""
        if self.effect_by is None:
            return self.effect
        argument, effects = self.effect_by
        return effects.get(str(arguments.get(argument, "")).strip().upper(), self.effect)


class ActionType(StrEnum):
    """The short action names; each is an alias of a canonical one (`ALIASES`)."""

    OPEN_APP = "open_app"
    CLICK = "click"
    TYPE = "type"
    WAIT_FOR = "wait_for"
    UIA = "uia"
    PLAYWRIGHT = "playwright"
    SEND_MAIL = "send_mail"


ALIASES: Mapping[str, str] = MappingProxyType(
    {
        ActionType.OPEN_APP.value: "desktop.open_app",
        ActionType.CLICK.value: "desktop.click",
        ActionType.TYPE.value: "desktop.type",
        ActionType.WAIT_FOR.value: "desktop.wait_for",
        ActionType.UIA.value: "desktop.uia",
        ActionType.PLAYWRIGHT.value: "web.{do}",
        ActionType.SEND_MAIL.value: "mail.send",
    }
)
"""Short name → canonical name; `{do}` is the task's own `do`."""


class ActionCatalogue:
    """The actions that exist. Immutable; iterates in the order of definition."""

    __slots__ = ("_specs",)

    def __init__(self, specs: Iterable[ActionSpec] = ()) -> None:
        self._specs: dict[str, ActionSpec] = {}
        for spec in specs:
            if not _NAME.fullmatch(spec.name):
                raise BadInput(
                    f"{spec.name!r} is no action name",
                    field="name",
                    value=spec.name,
                    remedy="Use lower-case words joined by dots, such as `erp.book_invoice`.",
                )
            if spec.name in self._specs:
                raise BadInput(
                    f"the action {spec.name!r} exists already",
                    field="name",
                    value=spec.name,
                    remedy="Choose another name: redefining an action could loosen its checks.",
                )
            self._specs[spec.name] = spec

    def with_actions(self, *specs: ActionSpec) -> ActionCatalogue:
        """A catalogue that knows these too. Raises `BadInput` for a bad or taken name."""
        return ActionCatalogue((*self._specs.values(), *specs))

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[ActionSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def canonical(self, name: str, do: str = "", *, field: str = "action") -> str:
        """The dotted name that `name` (an alias or already canonical) stands for.

        Raises `InvalidDocument` naming `field` and the closest names there are.
        """
        name = str(name)
        if name in self._specs:
            return name
        target = ALIASES.get(name)
        if target is not None and "{do}" in target:
            target = self._with_do(name, do, target, field)
        if target in self._specs:
            return target
        raise self._unknown(name, field)

    def get(self, name: str, do: str = "", *, field: str = "action") -> ActionSpec:
        """The spec of an action by any of its names; raises as `canonical` does."""
        return self._specs[self.canonical(name, do, field=field)]

    def _with_do(self, name: str, do: str, target: str, field: str) -> str:
        found = target.replace("{do}", do)
        if found in self._specs:
            return found
        prefix = target.replace("{do}", "")
        offered = [known.removeprefix(prefix) for known in self._specs if known.startswith(prefix)]
        where = field.removesuffix("action") + "do"
        said = f"{name} cannot do {do!r}" if do else f"{name} needs to know what to do"
        raise InvalidDocument(
            said, field=where, value=do or None, remedy=f"Set `do` to one of: {', '.join(offered)}."
        )

    def _unknown(self, name: str, field: str) -> InvalidDocument:
        names = [*self._specs, *ALIASES]
        close = difflib.get_close_matches(name[:100].casefold(), names, n=3, cutoff=0.6)
        last = name.rpartition(".")[2][:100].casefold()
        close += [known for known in names if known.rpartition(".")[2] == last and known not in close]
        if close:
            remedy = f"Did you mean {' or '.join(close[:3])}?"
        else:
            remedy = f"Known actions: {', '.join(sorted(self._specs))}."
        return InvalidDocument(f"unknown action {name[:100]!r}", field=field, value=name, remedy=remedy)


def _control(
    *, required: bool = False, type: ArgumentType = ArgumentType.TEXT, choices: tuple[str, ...] = ()
) -> ArgumentSpec:
    return ArgumentSpec(slot=Slot.CONTROL, required=required, type=type, choices=choices)


def _data(
    *, required: bool = False, type: ArgumentType = ArgumentType.TEXT, sensitive: bool = False
) -> ArgumentSpec:
    return ArgumentSpec(slot=Slot.DATA, required=required, type=type, sensitive=sensitive)


_ANYTHING = _data(type=ArgumentType.ANY)
_TEXTS, _FLAG, _NUMBER = ArgumentType.TEXTS, ArgumentType.FLAG, ArgumentType.NUMBER
_IDEMPOTENT, _VERIFIABLE, _UNSAFE = EffectClass.IDEMPOTENT, EffectClass.VERIFIABLE, EffectClass.UNSAFE

_WEB = (
    ActionSpec(
        name="web.goto",
        summary="Open a page.",
        arguments={"url": _control(required=True)},
        results=("url", "title"),
        timeout=30.0,  # starts the browser when it is the job's first step
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.click",
        summary="Click an element of the page.",
        arguments={"selector": _control(required=True)},
        results=("url",),
        effect=_UNSAFE,
    ),
    ActionSpec(
        name="web.fill",
        summary="Set the text of a field, replacing what stood there.",
        arguments={"selector": _control(required=True), "text": _data(required=True)},
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.select",
        summary="Choose an option of a list.",
        arguments={"selector": _control(required=True), "value": _data(required=True, type=_TEXTS)},
        effect=_IDEMPOTENT,
        shorthands={"text": "value"},
    ),
    ActionSpec(
        name="web.wait_for",
        summary="Wait until an element, an address or a text is there (or in the given state).",
        arguments={"selector": _control(), "url": _control(), "text": _data(), "state": _control()},
        one_of=(("selector", "url", "text"),),
        results=("url",),
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.extract",
        summary="Read text, an attribute, a list of texts, a table or a count from the page.",
        arguments={
            "selector": _control(required=True),
            "what": _control(choices=("text", "attribute", "texts", "table", "count")),
            "attribute": _control(),
        },
        results=("value", "values", "count", "url"),
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.download",
        summary="Download the file behind a link or an address.",
        arguments={"selector": _control(), "url": _control()},
        one_of=(("selector", "url"),),
        results=("file", "url"),
        timeout=120.0,
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.screenshot",
        summary="Take a picture of the page or of one element.",
        arguments={"selector": _control(), "full_page": _control(type=_FLAG)},
        results=("file",),
        effect=_IDEMPOTENT,
    ),
)

_MAIL = (
    ActionSpec(
        name="mail.send",
        summary="Send a mail.",
        arguments={
            "to": _control(required=True, type=_TEXTS),
            "cc": _control(type=_TEXTS),
            "bcc": _control(type=_TEXTS),
            "subject": _data(),
            "text": _data(),
            "attachments": _data(type=ArgumentType.FILES),
        },
        results=("message_id", "accepted"),
        tainted_result=False,
        timeout=60.0,
        effect=_VERIFIABLE,
    ),
    ActionSpec(
        name="mail.search",
        summary="Find messages in a mailbox.",
        arguments={
            "folder": _control(),
            "subject": _data(),
            "sender": _data(),
            "to": _data(),
            "text": _data(),
            "since": _data(),
            "unseen": _control(type=_FLAG),
            "limit": _control(type=_NUMBER),
        },
        results=("messages", "count"),
        timeout=60.0,
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="mail.read",
        summary="Read one message with its attachments.",
        arguments={"uid": _data(required=True), "folder": _control()},
        results=("subject", "sender", "to", "date", "text", "attachments", "message_id"),
        timeout=60.0,
        effect=_IDEMPOTENT,
    ),
)

_FILE = (
    ActionSpec(
        name="file.read",
        summary="Read a file of an allowed folder.",
        arguments={"path": _control(required=True)},
        results=("file", "text"),
        timeout=30.0,
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="file.write",
        summary="Write a text or a file into an allowed folder, replacing what was there.",
        arguments={
            "path": _control(required=True),
            "text": _data(),
            "file": _data(type=ArgumentType.FILE),
        },
        one_of=(("text", "file"),),
        results=("path", "size"),
        tainted_result=False,
        timeout=30.0,
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="file.move",
        summary="Move a file from one allowed place to another.",
        arguments={"source": _control(required=True), "target": _control(required=True)},
        results=("path",),
        tainted_result=False,
        timeout=30.0,
        effect=_VERIFIABLE,
    ),
)

# Without a method it is GET; POST, PATCH and whatever else are unsafe.
_BY_METHOD = dict.fromkeys(("", "GET", "HEAD", "PUT", "DELETE", "OPTIONS"), _IDEMPOTENT)

_HTTP = ActionSpec(
    name="http.request",
    summary="Call a web service; without `method` it is GET.",
    arguments={
        "method": _control(),
        "url": _control(required=True),
        "headers": ArgumentSpec(slot=Slot.CONTROL, type=ArgumentType.OBJECT, sensitive=True),
        "json": _data(type=ArgumentType.ANY),
        "form": _data(type=ArgumentType.OBJECT),
        "schema": _control(type=ArgumentType.OBJECT),
        "save": _control(type=ArgumentType.ANY),
    },
    at_most_one=(("json", "form"),),
    results=("status", "headers", "json", "text", "file"),
    timeout=60.0,
    effect=_UNSAFE,
    effect_by=("method", MappingProxyType(_BY_METHOD)),
)

_DESKTOP = (
    ActionSpec(
        name="desktop.open_app",
        summary="Start a program, or bring it to the front.",
        arguments={"app": _control(required=True)},
        results=("window",),
        timeout=30.0,
        effect=_VERIFIABLE,
        shorthands={"selector": "app", "text": "app"},
    ),
    ActionSpec(
        name="desktop.click",
        summary="Click an element of a window.",
        arguments={"selector": _control(required=True)},
        effect=_UNSAFE,
    ),
    ActionSpec(
        name="desktop.type",
        summary="Type a text into an element of a window.",
        arguments={"selector": _control(), "text": _data(required=True)},
        effect=_UNSAFE,
    ),
    ActionSpec(
        name="desktop.wait_for",
        summary="Wait until an element or a text is on the screen.",
        arguments={"selector": _control(), "text": _data(), "state": _control()},
        one_of=(("selector", "text"),),
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="desktop.uia",
        summary="Use one UI Automation pattern of an element: invoke, set value, read value and so on.",
        arguments={"selector": _control(required=True), "do": _control(), "text": _data()},
        results=("value",),
        effect=_UNSAFE,
    ),
)

_FLOW = ActionSpec(
    name="flow.noop",
    summary="Do nothing and give the argument `value` back: a join, a constant, a test.",
    open=True,
    results=("value",),
    tainted_result=False,
    passes_taint=True,
    effect=_IDEMPOTENT,
)

CATALOGUE = ActionCatalogue((*_WEB, *_MAIL, *_FILE, _HTTP, *_DESKTOP, _FLOW))
"""The actions that come with CPA."""
