"""From a request to a plan that may become a job: nothing here runs or stores anything.

    text ──▶ IntentRouter ──▶ intent + arguments ──▶ template filled ──▶ TaskGraph ──▶ JobSpec
    intent + arguments ─────────────▲                                      ▲
    task graph ────────────────────────────────────────────────────────────┘

Arguments read from a text are trusted, because the requester wrote them and the channel vouches for the requester;
without that (`authenticated=False`) they are tainted, and the graph refuses them in every control slot.

The plan names the secrets it will use and never holds their values.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from cpa.core.actions import CATALOGUE
from cpa.core.answers import prepared
from cpa.core.catalogue import ActionCatalogue
from cpa.core.classes import EffectClass, Source
from cpa.core.intent_router import IntentRouter
from cpa.core.intents import (
    ArgumentDefinition,
    ArgumentType,
    ArgumentValue,
    Evidence,
    Intent,
    IntentDefinition,
    RouteContext,
)
from cpa.core.job import JobSpec, TaskSpec
from cpa.core.numbers import in_doubt
from cpa.core.people import ASK
from cpa.core.slots import iso_date
from cpa.core.staffing import Near, meant
from cpa.core.task_graph import TaskGraph, compile
from cpa.core.utterance import is_address
from cpa.errors import BadInput, InvalidDocument, UnknownIntent
from cpa.orchestrator.templates import EMPTY, escaped, for_arguments, values_in

_COMPARED = 5
"""Names that nobody offers and that are compared with what there is: that takes milliseconds each."""
_LONG = 2_000
"""Characters from which reading a text may take so long that others would notice: tenths of a second."""
_NAMED = 3
"""Actions by which a plan is known."""

Offers = Callable[[str, str, str], bool]
"""(action, capability, tenant) → whether some agent that takes this tenant's tasks offers both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What is asked for: a text, or an intent with arguments, or a task graph (the last one given counts)."""

    tenant: str = "default"
    text: str = ""
    """The request in the person's words; beside an intent or a graph it is only the description. Of a graph without
    one, its first actions are."""
    intent: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    task_graph: Any = None
    replies: Mapping[str, str] = field(default_factory=dict)
    """What was answered when an argument of the text's intent was asked for, in the person's words."""
    context: Mapping[str, str] = field(default_factory=dict)
    """`user` (a mail address lets "send it to me" work), `locale` (de, en), and whatever the channel knows."""
    authenticated: bool = True
    timeout: float = 0.0
    """Longest duration of a run in seconds; 0 takes the intent's own, or none."""
    requester: str = ""
    """Name of the credential it came with, who may not allow the tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked plan. A dry run shows it; nothing in it is secret."""

    spec: JobSpec
    graph: TaskGraph
    intent: Intent | None
    """What the text was understood as; None for a task graph."""
    risks: tuple[str, ...]
    """Effects that are not simply repeated, one sentence each."""
    approvals: tuple[str, ...]
    """Ids of tasks that wait for a person's yes."""
    batches: tuple[tuple[str, ...], ...]
    """Task ids that can run side by side, in order."""
    secrets: tuple[str, ...]
    """Names of the secrets it will use."""
    values: tuple[str, ...]
    """Paths of the workspace values its template reads."""
    answer: str = ""
    """What to tell the requester when it is done, in their language; empty when the intent says nothing."""


class Planner:
    """Makes plans with one set of intents and one workspace's values. Has no state; one serves all requests.

    Long texts are read on a thread of their own, one at a time; everything else happens where it is called.
    """

    def __init__(
        self,
        router: IntentRouter,
        offers: Offers | None = None,
        values: Mapping[str, Any] | None = None,
        *,
        near: Callable[[str, str, str], Sequence[Near]] = lambda action, capability, tenant: (),
        catalogue: ActionCatalogue = CATALOGUE,
        max_parallel: int = 100,
        approve_own: bool = False,
    ) -> None:
        """`offers` None means: whatever the catalogue knows can be done. What nobody offers is a risk of the plan:
        the task waits for an agent, and `near` says what may have been meant. `max_parallel`: tasks of one job at
        the same time. `approve_own`: whether requesters may allow their own tasks."""
        self.max_parallel = max_parallel
        self.approve_own = approve_own
        self.router = router
        self.values = dict(values or {})
        self.offers = offers
        self.near = near
        self.catalogue = catalogue
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="cpa-reader")

    async def plan(self, request: PlanRequest) -> Plan:
        """The plan, checked.

        Raises `UnknownIntent` (not understood, or something is missing: `remedy` is the question to ask back, in
        the request's language), `BadInput` for no or invalid input, `InvalidDocument` naming what is wrong in a
        graph or template, `TooLarge`.
        """
        said = request.task_graph is None and not request.intent
        if not said or len(request.text) <= _LONG:
            return self.plan_now(request)
        loop = asyncio.get_running_loop()
        read = await loop.run_in_executor(self._reader, self.router.route, request.text, _context(request))
        return self._planned(request, self._understood(request, read))

    def plan_now(self, request: PlanRequest) -> Plan:
        """As `plan`, for callers that do not run on an event loop."""
        if request.task_graph is not None:
            graph = TaskGraph.from_any(request.task_graph, catalogue=self.catalogue)
            return self._finish(request, graph, None, None, request.intent, ())
        if request.intent:
            return self._planned(request, self._given(request))
        read = self.router.route(request.text, _context(request))
        return self._planned(request, self._understood(request, read))

    def _planned(self, request: PlanRequest, intent: Intent) -> Plan:
        definition = self._definition(intent.name)
        tainted = () if request.authenticated else tuple(definition.arguments)
        document = for_arguments(definition, intent)
        scope = {"arguments": intent.values(), "values": self.values}
        try:
            filled = escaped(document, scope, tainted)
            graph = TaskGraph.from_template(filled, scope, tainted=tainted, catalogue=self.catalogue)
        except InvalidDocument as error:
            raise _explained(error, definition.name) from error
        return self._finish(request, graph, intent, definition, intent.name, values_in(document))

    def _understood(self, request: PlanRequest, intent: Intent) -> Intent:
        """The intent that was read, if a plan can be made of it."""
        german = intent.locale == "de"
        if intent.unknown:
            reason = intent.reason.value if intent.reason else "not_understood"
            said = "die Bitte wurde nicht verstanden" if german else "the request was not understood"
            raise UnknownIntent(
                f"{said}: {reason}" + (f" ({intent.detail})" if intent.detail else ""),
                field="text",
                value=request.text,
                remedy=intent.question,
            )
        definition = self._definition(intent.name)
        check_replies(definition, request.replies, intent.locale)
        if intent.missing:
            # The question is all that a person needs to see, so it is what is wrong and what to do about it.
            raise UnknownIntent(
                intent.question or _needs(intent.name, intent.missing[0], intent.locale),
                field=f"arguments.{intent.missing[0]}",
                value=request.text,
                remedy=intent.question,
            )
        return intent

    def _given(self, request: PlanRequest) -> Intent:
        definition = self._definition(request.intent)
        locale = _context(request).locale or "en"
        _no_others(definition, request.arguments, "arguments")
        source = Source.TRUSTED if request.authenticated else Source.TAINTED
        values: dict[str, ArgumentValue] = {}
        for name, argument in definition.arguments.items():
            value = request.arguments.get(name)
            if value not in EMPTY:
                values[name] = ArgumentValue(value=_checked(name, argument, value), source=source)
            elif argument.required:
                question = argument.question.in_(locale) if argument.question else ""
                needs = _needs(definition.name, name, locale)
                raise BadInput(question or needs, field=f"arguments.{name}", remedy=question or needs)
            else:
                values[name] = ArgumentValue(value=argument.fallback(locale), origin="default")
        return Intent(name=definition.name, score=1.0, arguments=values, locale=locale, evidence=Evidence())

    def _definition(self, name: str) -> IntentDefinition:
        for definition in self.router.definitions:
            if definition.name == name:
                return definition
        names = [definition.name for definition in self.router.definitions]
        close = difflib.get_close_matches(name[:100], names, n=1)
        raise UnknownIntent(
            f"there is no intent {name[:100]!r}",
            field="intent",
            value=name,
            remedy=f"Did you mean {close[0]}?" if close else f"Intents are: {', '.join(names) or 'none'}.",
        )

    def _finish(
        self,
        request: PlanRequest,
        graph: TaskGraph,
        intent: Intent | None,
        definition: IntentDefinition | None,
        name: str,
        values: Sequence[str],
    ) -> Plan:
        own = definition.timeout if definition and definition.timeout else 0.0
        answer = self._answer(definition, intent)
        spec = compile(
            graph,
            intent=name,
            description=request.text if name or request.text.strip() else _first_actions(graph),
            context=request.context,
            timeout=request.timeout or own,
            max_parallel=self.max_parallel,
            answer=answer,
            locale=intent.locale if intent is not None else _context(request).locale or "",
            requester="" if self.approve_own else request.requester,
        )
        return Plan(
            spec=spec,
            graph=graph,
            intent=intent,
            risks=(*_risks(spec.tasks), *self._waits(spec, request.tenant)),
            approvals=tuple(task.id for task in spec.tasks if task.approval),
            batches=tuple(tuple(todo.id for todo in batch) for batch in graph.get_parallel_batches()),
            secrets=tuple(sorted({name for task in spec.tasks for name in _secrets(task.arguments)})),
            values=tuple(values),
            answer=answer,
        )

    def _answer(self, definition: IntentDefinition | None, intent: Intent | None) -> str:
        """What to tell at the end, in the request's language; what it says of results is filled then."""
        if definition is None or definition.answer is None or intent is None:
            return ""
        scope = {"arguments": intent.values(), "values": self.values}
        try:
            return prepared(definition.answer.in_(intent.locale), scope)
        except InvalidDocument as error:
            error.field = "answer"
            raise

    def _waits(self, spec: JobSpec, tenant: str) -> Iterator[str]:
        """The tasks that nobody can do yet."""
        found: dict[tuple[str, str], Sequence[Near]] = {}
        for task in spec.tasks:
            if task.action == ASK:
                continue
            if self.offers is not None and not self.offers(task.action, task.capability, tenant):
                what = f"{task.action} with {task.capability!r}" if task.capability else task.action
                kind = (task.action, task.capability)
                if kind not in found and len(found) < _COMPARED:
                    found[kind] = self.near(*kind, tenant)
                near = found.get(kind, ())
                yield f"{task.id}: no agent offers {what} yet; it waits for one{f'. {meant(near)}' if near else ''}"


def _no_others(definition: IntentDefinition, given: Mapping[str, Any], field: str) -> None:
    """Raises `BadInput` for a name that is no argument of the intent."""
    unknown = next((name for name in given if name not in definition.arguments), None)
    if unknown is None:
        return
    close = difflib.get_close_matches(unknown, definition.arguments, n=1)
    known = ", ".join(definition.arguments) or "none"
    raise BadInput(
        f"{definition.name} has no argument {unknown!r}",
        field=f"{field}.{unknown}",
        remedy=f"Did you mean {close[0]}?" if close else f"Its arguments are: {known}.",
    )


def check_replies(definition: IntentDefinition, replies: Mapping[str, str], locale: str) -> None:
    """`BadInput` for a reply to no argument of the intent, or with a number that can be read in two ways."""
    _no_others(definition, replies, "replies")
    for name, said in replies.items():
        wanted = definition.arguments[name].type
        if wanted is ArgumentType.NUMBER and (doubt := in_doubt(said, f"replies.{name}", locale)):
            raise doubt


def _needs(intent: str, argument: str, locale: str) -> str:
    """What to say of a missing argument whose definition has no question."""
    return f"{intent} braucht {argument}." if locale == "de" else f"{intent} needs {argument}."


def _first_actions(graph: TaskGraph) -> str:
    """What a plan that says nothing of itself is known by: its first actions."""
    actions = tuple(dict.fromkeys(task.spec.name for task in graph.tasks))
    return ", ".join(actions[:_NAMED]) + (" …" if len(actions) > _NAMED else "")


def _context(request: PlanRequest) -> RouteContext:
    locale = request.context.get("locale", "").replace("_", "-").split("-")[0].lower()
    known = cast(Literal["de", "en"], locale) if locale in ("de", "en") else None
    return RouteContext(
        user=request.context.get("user", ""),
        locale=known,
        replies=dict(request.replies),
        authenticated=request.authenticated,
    )


def _checked(name: str, definition: ArgumentDefinition, value: Any) -> Any:
    """A value given by a program, as the argument's type."""
    kind = definition.type
    if kind in (ArgumentType.EMAIL_LIST, ArgumentType.EMAIL):
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if (
            isinstance(parts, list)
            and parts
            and all(isinstance(part, str) and is_address(part) for part in parts)
        ):
            if kind is ArgumentType.EMAIL_LIST:
                return parts
            if len(parts) == 1:
                return parts[0]
        raise _not_a(
            name, value, "a mail address" if kind is ArgumentType.EMAIL else "a list of mail addresses"
        )
    if kind is ArgumentType.NUMBER:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        raise _not_a(name, value, "a number")
    if not isinstance(value, str):
        raise _not_a(name, value, "a text")
    if kind is ArgumentType.DATE:
        date = iso_date(value)
        if date is None:
            raise _not_a(name, value, "a date such as 2026-11-24")
        return date
    if kind is ArgumentType.CHOICE and value not in definition.choices:
        raise _not_a(name, value, "one of " + ", ".join(definition.choices))
    if kind is ArgumentType.URL and not value.startswith(("http://", "https://")):
        raise _not_a(name, value, "an http or https address")
    return value


def _not_a(name: str, value: object, wanted: str) -> BadInput:
    return BadInput(
        f"{name} is not {wanted}", field=f"arguments.{name}", value=value, remedy=f"Give {wanted}."
    )


def _explained(error: InvalidDocument, intent: str) -> InvalidDocument:
    """A missing workspace value is named as such."""
    if error.value and error.value.startswith("values."):
        path = error.value.removeprefix("values.")
        return InvalidDocument(
            f"{intent} needs the value {path}",
            field=error.value,
            remedy=f"Set {path} under `values:` in cpa.yaml, then restart `cpa serve`.",
        )
    return error


def _risks(tasks: Iterable[TaskSpec]) -> Iterator[str]:
    for task in tasks:
        if task.effect is EffectClass.UNSAFE:
            yield f"{task.id}: {task.action} is neither repeated nor verified; a person settles an unknown outcome"
        elif task.effect is EffectClass.VERIFIABLE:
            yield f"{task.id}: {task.action} acts outside; it is verified before it is tried again"


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if set(value) == {"secret"} and isinstance(value["secret"], str):
            yield value["secret"]
        else:
            for item in value.values():
                yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)
