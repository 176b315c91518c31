"""What an action is, and the catalogue of those that exist; the actions themselves are in `core.actions`.

Each argument has a slot. A *control* slot decides what is touched (recipient, URL, selector, path, folder,
method); a *data* slot only carries content. Text from outside may fill data slots and never control slots:
that is checked before a plan exists (`core.task_graph`) and again by the executors.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from cpa.core.classes import EffectClass
from cpa.core.references import is_secret
from cpa.errors import BadInput, InvalidDocument

UI_TIMEOUT = 8.0
"""Seconds one step in a user interface may take."""

OWN = "x."
"""Actions of users' own agents begin so; no catalogue lists them."""
OWN_NAMES = (
    f"Own actions begin with `{OWN}`, such as `x.calculator.add`, and consist of words of the letters a to z, "
    "digits, _ and -, with dots between them."
)
OWN_TIMEOUT = 60.0

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
        if is_secret(value):
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


_ANYTHING = ArgumentSpec(slot=Slot.DATA, type=ArgumentType.ANY)
"""What an action with `open` arguments takes under any name."""


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


@lru_cache(maxsize=256)
def close_names(name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Up to three of these names for which `name`, of at most 100 characters, may have been meant, the closest
    first. Among hundreds that are alike it takes tens of milliseconds, so it is remembered."""
    close = difflib.get_close_matches(name.casefold(), names, n=3, cutoff=0.6)
    last = name.rpartition(".")[2].casefold()
    close += [known for known in names if known.rpartition(".")[2] == last and known not in close]
    return tuple(close[:3])


def is_own(name: str) -> bool:
    """Whether this can be an action of somebody's own agent."""
    return name.startswith(OWN) and len(name) <= 100 and _NAME.fullmatch(name) is not None


class ActionCatalogue:
    """The actions that exist. Immutable; iterates in the order of definition.

    Own actions (`x.calculator.add`) are known without being listed: they take any arguments, as data, and are
    unsafe unless the task says otherwise; a task's `outputs` name what of their result others may use.
    """

    __slots__ = ("_aliases", "_specs")

    def __init__(
        self, specs: Iterable[ActionSpec] = (), *, aliases: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """`aliases`: short name → canonical name, where `{do}` stands for the task's own `do`."""
        self._aliases = aliases
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
        return ActionCatalogue((*self._specs.values(), *specs), aliases=self._aliases)

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
        if name in self._specs or is_own(name):
            return name
        target = self._aliases.get(name)
        if target is not None and "{do}" in target:
            target = self._with_do(name, do, target, field)
        if target in self._specs:
            return target
        raise self._unknown(name, field)

    def get(self, name: str, do: str = "", *, field: str = "action") -> ActionSpec:
        """The spec of an action by any of its names; raises as `canonical` does."""
        found = self.canonical(name, do, field=field)
        return self._specs.get(found) or _own(found)

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
        names = (*self._specs, *self._aliases)
        if close := close_names(name[:100], names):
            remedy = f"Did you mean {' or '.join(close)}?"
        else:
            remedy = f"Known actions: {', '.join(sorted(self._specs))}."
        return InvalidDocument(
            f"unknown action {name[:100]!r}", field=field, value=name, remedy=f"{remedy} {OWN_NAMES}"
        )


def _own(name: str) -> ActionSpec:
    return ActionSpec(name=name, summary="An action of an agent of your own.", open=True, timeout=OWN_TIMEOUT)
