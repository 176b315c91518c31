"""A plan as people and agents hand it in, and the checks that let it become a job.

Two forms mean the same:

    - {action: web.goto, url: …}                  login: {action: web.goto, …}
    - {action: web.download, depends_on: [0]}     load:  {action: web.download, depends_on: [login]}

In the list form a dependency is an index (counted from 0) or an id; a task without an id is called
`task_<index>`. In the mapping form it is a name. A reference in an argument or a condition implies the
dependency: whoever reads a result waits for it. What a plan may get wrong is found here, before anything
runs, and named by its path.

Results that come from outside are followed through the plan: none of them may reach a control slot.
Conditions may read them, since what they are compared with, and what then happens, was written before they
were read.

Order is never by chance: wherever the dependencies leave a choice, the order of writing decides. Cost is
linear in tasks and dependencies (a heap adds a logarithm), as plans of 10,000 tasks are checked while a
person waits.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import msgspec

from cpa.core.actions import CATALOGUE
from cpa.core.catalogue import ActionCatalogue
from cpa.core.documents import path
from cpa.core.job import JobSpec
from cpa.core.references import Reference, Scope
from cpa.core.task import Task, milliseconds
from cpa.core.todo import ID, RetrySpec, ToDo, from_template
from cpa.errors import InvalidDocument, TooLarge

__all__ = ["MAX_TASKS", "RetrySpec", "Task", "TaskGraph", "ToDo", "compile"]

MAX_TASKS = 10_000


class TaskGraph:
    """ToDos and their dependencies.

    Each task is checked when it is added, what is between them by `build_graph`. Whatever is wrong raises
    `InvalidDocument` or `TooLarge` with the path of the part.
    """

    def __init__(
        self, todos: Iterable[ToDo | Mapping[str, Any]] = (), *, catalogue: ActionCatalogue = CATALOGUE
    ) -> None:
        self.catalogue = catalogue
        self.tasks: list[Task] = []
        self.positions: dict[str, int] = {}
        self._order: list[int] = []
        self._checked = False
        for todo in todos:
            self.add_task(todo)

    @classmethod
    def from_any(cls, document: Any, *, catalogue: ActionCatalogue = CATALOGUE) -> Self:
        """From a list, a mapping of names, or either of them under the one key `tasks`; checked."""
        document = _tasks_of(document)
        if isinstance(document, Mapping):
            return cls.from_mapping(document, catalogue=catalogue)
        return cls.from_list(document, catalogue=catalogue)

    @classmethod
    def from_list(
        cls, items: Sequence[ToDo | Mapping[str, Any]], *, catalogue: ActionCatalogue = CATALOGUE
    ) -> Self:
        """From ToDos in order, dependencies being indices or ids; checked."""
        graph = cls(_listed(items), catalogue=catalogue)
        graph.build_graph()
        return graph

    @classmethod
    def from_mapping(
        cls, items: Mapping[str, ToDo | Mapping[str, Any]], *, catalogue: ActionCatalogue = CATALOGUE
    ) -> Self:
        """From `{name: task}`, dependencies being names; checked."""
        graph = cls(catalogue=catalogue)
        for name, item in items.items():
            field = path("tasks", str(name)[:100])
            if not isinstance(name, str) or not ID.fullmatch(name):
                raise InvalidDocument(
                    f"{str(name)[:100]!r} cannot be the name of a task",
                    field=field,
                    value=name,
                    remedy="Names are texts of at most 100 letters, digits, _ and -.",
                )
            todo = ToDo.read(item, field, name)
            if todo.id != name:
                raise InvalidDocument(
                    f"the task {name!r} says it is {todo.id!r}",
                    field=path(field, "id"),
                    value=todo.id,
                    remedy="Leave `id` out.",
                )
            graph._add(todo, field)
        graph.build_graph()
        return graph

    @classmethod
    def from_template(
        cls,
        document: Any,
        scope: Scope,
        *,
        tainted: Collection[str] = (),
        catalogue: ActionCatalogue = CATALOGUE,
    ) -> Self:
        """From an intent's task template, `{{ arguments… }}` and `{{ values… }}` filled from `scope`.

        `tainted`: names of those arguments of the request that came from outside (a model's output).
        """
        document = _tasks_of(document)
        named = isinstance(document, Mapping)
        items = document.items() if isinstance(document, Mapping) else enumerate(_listed(document))
        filled = {name: _filled(name, item, scope, tainted) for name, item in items}
        return cls.from_any(filled if named else list(filled.values()), catalogue=catalogue)

    def add_task(self, todo: ToDo | Mapping[str, Any]) -> str:
        """Append a task and return its id; the task is checked by itself, its id must be free."""
        field = path("tasks", len(self.tasks))
        return self._add(ToDo.read(todo, field, f"task_{len(self.tasks)}"), field)

    def build_graph(self, todos: Iterable[ToDo | Mapping[str, Any]] = ()) -> dict[str, tuple[str, ...]]:
        """Add `todos`, connect and check everything; return the ids each task needs, in order of writing."""
        for todo in todos:
            self.add_task(todo)
        tainted: set[int] = set()
        for position in () if self._checked else self.order():
            if self._check_flow(self.tasks[position], tainted):
                tainted.add(position)
        self._checked = True
        return {task.id: tuple(self.tasks[need].id for need in task.needs) for task in self.tasks}

    def topological_sort(self) -> list[ToDo]:
        """Every task after those it needs, otherwise in order of writing."""
        return [self.tasks[position].todo for position in self.order()]

    def get_parallel_batches(self) -> list[list[ToDo]]:
        """The earliest batches in which tasks can run side by side, each in order of writing."""
        level: dict[int, int] = {}
        batches: list[list[int]] = []
        for position in self.order():
            depth = 1 + max((level[need] for need in self.tasks[position].needs), default=-1)
            level[position] = depth
            if depth == len(batches):
                batches.append([])
            batches[depth].append(position)
        return [[self.tasks[position].todo for position in sorted(batch)] for batch in batches]

    def detect_cycles(self) -> list[list[str]]:
        """Disjoint cycles, each as ids from a task back to itself; at least one if there is any."""
        self._connect()
        order = frozenset(self._sorted())
        stuck = [position for position in range(len(self.tasks)) if position not in order]
        following = {at: next(need for need in self.tasks[at].needs if need not in order) for at in stuck}
        seen: set[int] = set()
        cycles: list[list[str]] = []
        for at in stuck:
            trail: dict[int, int] = {}
            while at not in seen:
                seen.add(at)
                trail[at] = len(trail)
                at = following[at]
            if at in trail:
                ring = [self.tasks[position].id for position in list(trail)[trail[at] :]]
                cycles.append([*ring, ring[0]])
        return cycles

    def order(self) -> list[int]:
        """Positions, every task after those it needs, otherwise in order of writing."""
        if len(self._order) < len(self.tasks):
            self._connect()
            order = self._sorted()
            if len(order) < len(self.tasks):
                raise self._waiting_circle()
            self._order = order
        return self._order

    def _add(self, todo: ToDo, field: str) -> str:
        id = todo.id
        if len(self.tasks) >= MAX_TASKS:
            raise TooLarge(
                f"a plan has at most {MAX_TASKS} tasks", field="tasks", remedy="Split it into several jobs."
            )
        if id in self.positions:
            raise InvalidDocument(
                f"two tasks are called {id!r}",
                field=path(field, "id"),
                value=id,
                remedy="Give every task its own id.",
            )
        task = Task(todo, field, self.catalogue)
        self.positions[id] = len(self.tasks)
        self.tasks.append(task)
        self._checked = False
        return id

    def _connect(self) -> None:
        for task in self.tasks:
            needs = {self._position(name, task) for name in task.todo.depends_on}
            needs.update(self._read_by(task))
            task.needs = tuple(sorted(needs))

    def _position(self, name: int | str, task: Task) -> int:
        found = name if isinstance(name, int) else self.positions.get(name, -1)
        if 0 <= found < len(self.tasks):
            return found
        if isinstance(name, int):
            said, remedy = f"there is no task {name}", f"Indices go from 0 to {len(self.tasks) - 1}."
        else:
            said, remedy = f"there is no task {name[:100]!r}", self._existing(name)
        raise InvalidDocument(said, field=task.at("depends_on"), value=name, remedy=remedy)

    def _read_by(self, task: Task) -> Iterator[int]:
        """Positions of the tasks whose results the arguments and the condition use."""
        for reference, where in task.readings():
            position = self.positions.get(reference.task)
            if position is None:
                raise InvalidDocument(
                    f"there is no task {reference.task!r} for {{{{ {reference.text} }}}}",
                    field=task.at(*where),
                    value=reference.text,
                    remedy=self._existing(reference.task),
                )
            yield position

    def _existing(self, name: str) -> str:
        close = difflib.get_close_matches(name[:100], self.positions, n=3)
        if close:
            return f"Did you mean {' or '.join(close)}?"
        return f"Tasks are: {', '.join(list(self.positions)[:20])}."

    def _sorted(self) -> list[int]:
        """Kahn's algorithm with a heap: the smallest position goes first, tasks in cycles are left out."""
        missing = [len(task.needs) for task in self.tasks]
        dependents: list[list[int]] = [[] for _ in self.tasks]
        for position, task in enumerate(self.tasks):
            for need in task.needs:
                dependents[need].append(position)
        ready = [position for position, count in enumerate(missing) if not count]
        order: list[int] = []
        while ready:
            position = heapq.heappop(ready)
            order.append(position)
            for dependent in dependents[position]:
                missing[dependent] -= 1
                if not missing[dependent]:
                    heapq.heappush(ready, dependent)
        return order

    def _waiting_circle(self) -> InvalidDocument:
        cycle = self.detect_cycles()[0]
        shown = cycle if len(cycle) <= 12 else [*cycle[:6], "…", *cycle[-5:]]
        return InvalidDocument(
            f"tasks wait for each other: {' → '.join(shown)}",
            field=self.tasks[self.positions[cycle[0]]].at("depends_on"),
            value=" → ".join(shown),
            remedy="Remove one of these dependencies or references.",
        )

    def _check_flow(self, task: Task, tainted: set[int]) -> bool:
        """Check what the task reads of others; return whether its own result comes from outside."""
        for reference, where in task.readings():
            source = self.tasks[self.positions[reference.task]]
            if reference.field and reference.field not in source.promised:
                raise _not_promised(reference, source, task.at(*where))
        for reference, argument in task.reads:
            if self.positions[reference.task] in tainted:
                task.tainted.add(argument)
                if task.controls(argument):
                    raise InvalidDocument(
                        f"{{{{ {reference.text} }}}} comes from outside and cannot decide {argument!r}",
                        field=task.at("arguments", argument),
                        value=reference.text,
                        remedy="Write the value itself, or take it from the request or the configuration.",
                    )
        return task.spec.tainted_result or (task.spec.passes_taint and bool(task.tainted))


def compile(
    graph: TaskGraph,
    *,
    intent: str = "",
    description: str = "",
    context: Mapping[str, str] | None = None,
    timeout: float = 0.0,
    max_parallel: int = 100,
    max_retries: int = 3,
    environment_wait: float = 3600.0,
    requester: str = "",
    answer: str = "",
    locale: str = "",
) -> JobSpec:
    """The job the plan describes. Durations in seconds; `timeout` 0 is unlimited.

    Tasks keep the order of writing wherever dependencies allow: each comes after those it needs. `tainted` of
    a task names all of its arguments that can hold text from outside, references included. Exactly the tasks
    with `references` are to be filled at dispatch; the arguments of all others are final. `requester` is whom the
    request came from, who may not allow its tasks; `locale` the language in which they are told what failed.
    Raises what the checks of the graph raise, and `InvalidDocument` for an empty plan.
    """
    if not graph.tasks:
        raise InvalidDocument("the plan has no task", field="tasks", remedy="Add at least one task.")
    graph.build_graph()
    for task in graph.tasks:
        task.check_approval(requester)
    order = graph.order()
    place = {position: index for index, position in enumerate(order)}
    spec = JobSpec(
        tasks=tuple(graph.tasks[position].planned(place, graph.positions) for position in order),
        intent=intent,
        description=description,
        context=dict(context or {}),
        timeout=milliseconds(timeout),
        max_parallel=max_parallel,
        max_retries=max_retries,
        environment_wait=milliseconds(environment_wait),
        requester=requester,
        answer=answer,
        locale="de" if locale == "de" else "",
    )
    try:
        msgspec.json.encode((intent, description, spec.context))
    except UnicodeEncodeError as error:
        raise InvalidDocument(
            "the request holds half of a character pair",
            field="description",
            remedy="Write texts as valid UTF-8.",
        ) from error
    return spec


def _not_promised(reference: Reference, source: Task, field: str) -> InvalidDocument:
    return InvalidDocument(
        f"{source.spec.name} gives no {reference.field!r}, which {{{{ {reference.text} }}}} asks for",
        field=field,
        value=reference.text,
        remedy=f"It gives: {', '.join(source.promised) or 'nothing'}; further names go into its `outputs`.",
    )


def _tasks_of(document: Any) -> Any:
    """What stands under the one key `tasks`, unless that is the name of a task."""
    if isinstance(document, Mapping) and set(document) == {"tasks"}:
        inner = document["tasks"]
        if not (isinstance(inner, Mapping) and isinstance(inner.get("action"), str)):
            return inner
    return document


def _listed(document: Any) -> Sequence[Any]:
    if isinstance(document, str | bytes) or not isinstance(document, Sequence):
        raise InvalidDocument(
            "a plan is a list of tasks, or a mapping of names to tasks",
            field="tasks",
            value=document,
            remedy="Write [{action: …}, …] or {name: {action: …}, …}.",
        )
    return document


def _filled(name: Any, item: Any, scope: Scope, tainted: Collection[str]) -> Any:
    """One task of a template; what is no mapping is refused later, by name."""
    if not isinstance(item, Mapping):
        return item
    try:
        return from_template(item, scope, tainted)
    except InvalidDocument as error:
        field = path("tasks", name if isinstance(name, int) else str(name)[:100])
        where = path(field, error.field) if error.field else field
        raise InvalidDocument(error.message, field=where, value=error.value, remedy=error.remedy) from error
