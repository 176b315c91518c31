"""What replaces a part of a plan: arguments fixed by a person or proposed by an agent, checked as the plan's were;
and the result of what a person did instead of a task.

All are checked at the door, before they become part of an event. The core takes them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cpa.core.actions import CATALOGUE
from cpa.core.catalogue import ActionCatalogue
from cpa.core.display import HIDDEN
from cpa.core.documents import path
from cpa.core.forms import check
from cpa.core.job import JobSpec, TaskSpec
from cpa.core.people import ASK, form_of
from cpa.core.references import literal, references
from cpa.core.task import Task
from cpa.core.todo import ToDo
from cpa.errors import BadInput, InvalidDocument


def fixed(
    spec: JobSpec,
    index: int,
    arguments: Mapping[str, Any],
    field: str = "arguments",
    *,
    catalogue: ActionCatalogue = CATALOGUE,
) -> dict[str, Any]:
    """What `JobReopened.fixes` may hold for this task: all of its arguments, anew.

    They may refer to the results that the plan's arguments refer to, and hold text from outside where those do.
    What people are not shown they give anew: whoever sends back what was shown would put `[hidden]` in its place,
    and to keep it beside an address that they chose would give it to them. Raises `InvalidDocument` or `TooLarge`
    with a path below `field`.
    """
    old = spec.tasks[index]
    _check_hidden(arguments, frozenset(_texts(old.arguments)), field)
    task = _task(old, arguments, field, catalogue)
    known = {spec.tasks[need].id: need for need in old.references}
    for reference, argument in task.reads:
        at = path(field, argument)
        if reference.task not in known:
            raise InvalidDocument(
                f"{{{{ {reference.text} }}}} is no result that this task uses",
                field=at,
                value=reference.text,
                remedy=f"Write the value itself; the task uses: {', '.join(known) or 'none'}.",
            )
        source = spec.tasks[known[reference.task]]
        if argument not in old.tainted and _from_outside(source, catalogue):
            raise InvalidDocument(
                f"{{{{ {reference.text} }}}} comes from outside, and {argument!r} did not before",
                field=at,
                value=reference.text,
                remedy="Write the value itself.",
            )
    return task.arguments


def proposed(
    spec: JobSpec,
    index: int,
    arguments: Mapping[str, Any],
    field: str = "arguments",
    *,
    catalogue: ActionCatalogue = CATALOGUE,
) -> dict[str, Any]:
    """What `TaskProposed.arguments` may hold for this task: all of its arguments, literally, of the right types.

    Raises as `fixed`. Whether people are asked about them the core decides (`core.approval.proposable`).
    """
    _task(spec.tasks[index], literal(arguments), field, catalogue)
    return dict(arguments)


def result(spec: JobSpec, index: int, given: Mapping[str, Any], field: str = "result") -> dict[str, Any]:
    """What `JobReopened.done` may hold for this task: all that later tasks use of its result, and for a question
    what its form asks for. Raises `InvalidDocument` with a path below `field`."""
    own = spec.tasks[index]
    if own.action == ASK:
        return check(form_of(own.arguments), given, field)
    for later in spec.tasks:
        for used in references(later.arguments) if index in later.references else ():
            if used.task == own.id and used.field and used.field not in given:
                raise InvalidDocument(
                    f"task {later.id} uses {used.field!r} of this result",
                    field=path(field, used.field),
                    remedy=f"Say what {used.field} is, or give {later.id} other arguments.",
                )
    return dict(given)


def _check_hidden(value: Any, plan: frozenset[str], field: str) -> None:
    if isinstance(value, str) and HIDDEN in value and value not in plan:
        raise InvalidDocument(
            "what stood here is hidden, and not known to who only saw it",
            field=field,
            value=value,
            remedy="Give it anew, best as the name of a secret.",
        )
    if isinstance(value, Mapping):
        for name, each in value.items():
            _check_hidden(each, plan, path(field, name))
    elif isinstance(value, list):
        for at, each in enumerate(value):
            _check_hidden(each, plan, path(field, at))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)


def _task(old: TaskSpec, arguments: Mapping[str, Any], field: str, catalogue: ActionCatalogue) -> Task:
    try:
        return Task(
            ToDo.read({"action": old.action, "arguments": arguments}, field, old.id), field, catalogue
        )
    except BadInput as error:
        # Whoever asked knows nothing of the task around the arguments.
        error.field = field + (error.field or "").removeprefix(field).removeprefix(".arguments")
        raise


def _from_outside(source: TaskSpec, catalogue: ActionCatalogue) -> bool:
    action = catalogue.get(source.action)
    return action.tainted_result or (action.passes_taint and bool(source.tainted))
