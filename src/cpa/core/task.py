"""One task of a plan as it is understood: a `ToDo` with everything checked that needs no other task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cpa.core import conditions, forms, references
from cpa.core.catalogue import ActionCatalogue, ActionSpec, ArgumentSpec, Slot
from cpa.core.documents import path
from cpa.core.job import RetryPolicy, TaskSpec
from cpa.core.people import ASK, form_of
from cpa.core.references import Reference
from cpa.core.todo import RetrySpec, ToDo
from cpa.errors import InvalidDocument, TooLarge

MAX_ARGUMENT_BYTES = 256 * 1024
"""Largest size of a task's arguments and condition as JSON; more travels as a file."""
MAX_REFERENCES = 1_000
"""How many references the arguments of one task may hold."""
MAX_DEPTH = 32
"""How deep arguments may be nested."""


class Task:
    """A ToDo that the catalogue understands; one of a graph.

    Raises `InvalidDocument` or `TooLarge` with paths below `field` for an unknown action, a wrong, missing or
    superfluous argument, a broken reference or condition.
    """

    __slots__ = (
        "_asked",
        "_braces",
        "arguments",
        "condition",
        "field",
        "id",
        "needs",
        "reads",
        "spec",
        "tainted",
        "todo",
    )

    def __init__(self, todo: ToDo, field: str, catalogue: ActionCatalogue) -> None:
        self.id, self.todo, self.field = todo.id, todo, field
        self.spec: ActionSpec = catalogue.get(todo.action, todo.do, field=path(field, "action"))
        self.arguments: dict[str, Any] = self._merged()
        self._braces = False
        self.reads: list[tuple[Reference, str]] = []
        """References in the arguments, each with the name of its argument."""
        self.condition = self._condition()
        self.needs: tuple[int, ...] = ()
        """Positions in the graph, sorted; known once the graph is built."""
        for name, value in self.arguments.items():
            self._check_argument(name, value)
        self._check_together()
        self._asked = self._form()
        self.tainted = self._touched()
        """Arguments that can hold text from outside; the graph adds those that refer to such results."""
        self._check_size()

    def at(self, *steps: str | int) -> str:
        """The path of a part of this task in the document."""
        return path(self.field, *steps)

    def controls(self, argument: str) -> bool:
        """Whether the argument decides what is touched."""
        spec = self.spec.argument(argument)
        return spec is not None and spec.slot is Slot.CONTROL

    def stored_arguments(self) -> dict[str, Any]:
        """The arguments for the job's spec: final, unless the task has references, which dispatch fills."""
        if self._braces and not self.reads:
            return {name: references.fill(value, {}) for name, value in self.arguments.items()}
        return self.arguments

    def readings(self) -> Iterator[tuple[Reference, tuple[str, ...]]]:
        """Every reference of the task with the steps to where it stands."""
        for reference, argument in self.reads:
            yield reference, ("arguments", argument)
        if self.condition is not None:
            for reference in self.condition.references:
                yield reference, ("when",)

    def check_approval(self, requester: str) -> None:
        """Whether enough people may allow the task when the requester may not."""
        rule = self.todo.approval
        if rule is None or not rule.approvers:
            return
        may = sorted(set(rule.approvers) - {requester})
        if len(may) < rule.needed:
            said = f"{rule.needed} people must say yes, and only {len(may)} may besides the requester"
            raise self._wrong("approval", list(rule.approvers), said, "Name more approvers.")

    def planned(self, place: Mapping[int, int], positions: Mapping[str, int]) -> TaskSpec:
        """The task as the job stores it. `place`: where each position of the graph goes; `positions`: by id."""
        todo, spec, rule = self.todo, self.spec, self.todo.approval
        used = {place[positions[reference.task]] for reference, _ in self.reads}
        return TaskSpec(
            id=self.id,
            action=spec.name,
            arguments=self.stored_arguments(),
            needs=tuple(sorted(place[need] for need in self.needs)),
            timeout=milliseconds(todo.timeout or spec.timeout),
            effect=todo.effect or spec.effect_of(self.arguments),
            retry=_retry_policy(todo.retry),
            when=todo.when.strip(),
            approval=rule is not None,
            capability=todo.capability,
            tainted=tuple(sorted(self.tainted)),
            references=tuple(sorted(used)),
            approvals=rule.needed if rule is not None else 0,
            approvers=rule.approvers if rule is not None else (),
            approval_expires=milliseconds(rule.expires) if rule is not None else 0,
            bids=milliseconds(todo.bids),
        )

    @property
    def promised(self) -> tuple[str, ...]:
        """Names its result may hold."""
        return (*self.spec.results, *self._asked, *self.todo.outputs)

    def _merged(self) -> dict[str, Any]:
        """The arguments with the shorthands; null stands for an argument that is not given."""
        todo, spec = self.todo, self.spec
        merged = dict(todo.arguments)
        if todo.do and todo.action == spec.name and "do" not in spec.arguments:
            raise self._wrong("do", todo.do, f"{spec.name} takes no `do`", "Leave `do` out.")
        shorthands = {"selector": todo.selector, "text": todo.text}
        if "do" in spec.arguments and todo.do:
            shorthands["do"] = todo.do
        for short, value in shorthands.items():
            name = spec.shorthands.get(short, short)
            if value is None:
                continue
            if merged.get(name) is not None:
                raise self._wrong(
                    short,
                    value,
                    f"the argument {name!r} is given twice",
                    f"Leave out `{short}` or the argument.",
                )
            merged[name] = value
        return {name: value for name, value in merged.items() if value is not None or self._nullable(name)}

    def _nullable(self, name: str) -> bool:
        spec = self.spec.argument(name)
        return spec is None or spec.type.accepts(None)

    def _condition(self) -> conditions.Condition | None:
        if not self.todo.when.strip():
            return None
        try:
            condition = conditions.parse(self.todo.when)
        except InvalidDocument as error:
            raise self._wrong("when", error.value, error.message, error.remedy) from error
        for reference in condition.references:
            self._check_root(reference, ("when",))
        return condition

    def _check_argument(self, name: str, value: Any) -> None:
        spec = self.spec.argument(name)
        if spec is None:
            known = ", ".join(self.spec.arguments) or "none"
            where = name if name in ("selector", "text") and name not in self.todo.arguments else None
            raise self._wrong(
                where or ("arguments", name),
                value,
                f"{self.spec.name} takes no argument {name[:100]!r}",
                f"It takes: {known}.",
            )
        self._walk(value, name, ("arguments", name))
        if not _fits(spec, value):
            wanted = f"one of {', '.join(spec.choices)}" if spec.choices else _WANTED[spec.type]
            raise self._wrong(
                ("arguments", name), value, f"{name!r} is not {wanted}", f"Write {wanted}, or one reference."
            )

    def _check_together(self) -> None:
        given, spec = self.arguments, self.spec
        for name, argument in spec.arguments.items():
            if argument.required and name not in given:
                raise self._wrong(
                    ("arguments", name),
                    None,
                    f"{spec.name} needs the argument {name!r}",
                    "Add this argument.",
                )
        groups = [(group, True) for group in spec.one_of] + [(group, False) for group in spec.at_most_one]
        for group, needed in groups:
            count = sum(name in given for name in group)
            if count > 1 or (needed and not count):
                said = f"{spec.name} takes {'exactly' if needed else 'at most'} one of {', '.join(group)}"
                raise self._wrong("arguments", None, said, f"There are {count}: leave exactly one.")

    def _form(self) -> tuple[str, ...]:
        """The names of the fields that a task asks a person for."""
        if self.spec.name != ASK:
            return ()
        if self.todo.approval is not None:
            raise self._wrong(
                "approval", None, "a question to a person needs no approval", "Leave `approval` out."
            )
        read = next((reference for reference, argument in self.reads if argument == "form"), None)
        if read is not None:
            raise self._wrong(
                ("arguments", "form"),
                read.text,
                "a form is written literally",
                "Write the fields themselves.",
            )
        return tuple(forms.fields(form_of(self.arguments), self.at("arguments", "form")))

    def _touched(self) -> set[str]:
        touched: set[str] = set()
        for name in self.todo.tainted:
            argument = name if name in self.arguments else self.spec.shorthands.get(name, name)
            if argument not in self.arguments:
                raise self._wrong(
                    "tainted", name, f"there is no argument {name[:100]!r}", "Name an argument."
                )
            if self.controls(argument):
                raise self._wrong(
                    ("arguments", argument),
                    self.arguments[argument],
                    f"a value from outside cannot decide {argument!r}",
                    "Write the value itself, or take it from the request or from the configuration.",
                )
            touched.add(argument)
        return touched

    def _check_size(self) -> None:
        if len(self.reads) > MAX_REFERENCES:
            raise TooLarge(
                f"a task holds at most {MAX_REFERENCES} references",
                field=self.at("arguments"),
                remedy="Refer to a list as a whole instead of to its items.",
            )
        todo = self.todo
        try:
            size = len(msgspec.json.encode((self.arguments, todo.when, todo.capability)))
        except UnicodeEncodeError as error:
            raise self._wrong(
                "arguments", None, "a text holds half of a character pair", "Write texts as valid UTF-8."
            ) from error
        if size > MAX_ARGUMENT_BYTES:
            raise TooLarge(
                f"the arguments are {size} bytes, more than {MAX_ARGUMENT_BYTES}",
                field=self.at("arguments"),
                remedy="Upload large content as an artifact and pass its reference.",
            )

    def _walk(self, value: Any, argument: str, where: tuple[str | int, ...]) -> None:
        """Check one value of the arguments and everything in it, and note its references."""
        if len(where) > MAX_DEPTH:
            raise self._wrong(where[:2], None, f"nested more than {MAX_DEPTH} deep", "Flatten the value.")
        if isinstance(value, str):
            if "{{" in value:
                self._note(value, argument, where)
        elif isinstance(value, dict):
            if references.is_secret(value) and not _plain_secret(value):
                raise self._wrong(
                    where,
                    None,
                    "a secret is named literally",
                    'Write {"secret": "<name>"} with a plain name.',
                )
            for key, item in value.items():
                if not isinstance(key, str):
                    raise self._wrong(where, key, "names in objects are texts", "Put the name in quotes.")
                self._walk(item, argument, (*where, key[:100]))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._walk(item, argument, (*where, index))
        elif not (value is None or _storable(value)):
            said = f"{type(value).__name__} is no JSON value, or a number too large for one"
            raise self._wrong(where, None, said, "Write it as a text in quotes.")

    def _note(self, text: str, argument: str, where: tuple[str | int, ...]) -> None:
        self._braces = True
        try:
            found = references.references(text)
        except InvalidDocument as error:
            raise self._wrong(where, error.value, error.message, error.remedy) from error
        for reference in found:
            self._check_root(reference, where)
            self.reads.append((reference, argument))

    def _check_root(self, reference: Reference, where: tuple[str | int, ...]) -> None:
        if reference.root != "tasks":
            raise self._wrong(
                where,
                reference.text,
                f"{{{{ {reference.text} }}}} was not filled at planning",
                "Only templates of intents may refer to arguments and values; write the value itself.",
            )

    def _wrong(
        self, where: str | tuple[str | int, ...], value: object, said: str, remedy: str | None
    ) -> InvalidDocument:
        steps = (where,) if isinstance(where, str) else where
        return InvalidDocument(said, field=self.at(*steps), value=value, remedy=remedy)


def _fits(spec: ArgumentSpec, value: Any) -> bool:
    """Whether a literal has the argument's type; a reference that stands alone may become anything."""
    if isinstance(value, list):
        return spec.type.accepts([item for item in value if not _stands_alone(item)])
    if not spec.choices or value in spec.choices:
        return spec.type.accepts(value) or _stands_alone(value)
    return _stands_alone(value)


def _stands_alone(value: Any) -> bool:
    return isinstance(value, str) and references.whole(value) is not None


def _storable(value: object) -> bool:
    """Whether a scalar keeps its value when it is stored: finite, and at most 64 bits."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and -(2**63) <= value < 2**64


def _plain_secret(value: Mapping[str, Any]) -> bool:
    parts = (value["secret"], value.get("prefix", ""))
    return bool(parts[0]) and all(isinstance(part, str) and "{{" not in part for part in parts)


_WANTED = {
    "text": "a text",
    "texts": "a text or a list of texts",
    "number": "a number",
    "flag": "true or false",
    "object": "an object",
    "file": "a file (an artifact reference)",
    "files": "a file or a list of files (artifact references)",
    "any": "a value",
}


_USUAL = RetrySpec()
_USUAL_POLICY = RetryPolicy()


def _retry_policy(retry: RetrySpec) -> RetryPolicy:
    if retry is _USUAL or retry == _USUAL:
        return _USUAL_POLICY
    return RetryPolicy(
        max_attempts=retry.max_attempts,
        first_delay=milliseconds(retry.first_delay),
        factor=retry.factor,
        max_delay=milliseconds(retry.max_delay),
        max_losses=retry.max_losses,
    )


def milliseconds(seconds: float) -> int:
    """Never shorter than what was written."""
    return math.ceil(seconds * 1000)
