"""Plain functions as actions: arguments by their signature, results by what they return.

    async def add(a: float, b: float) -> dict[str, float]: ...

The arguments of a task are checked against the signature before the function runs; a parameter annotated
`ActionRequest` gets the whole request. An ordinary function runs in a thread of its own, so that it may block; it
calls `checkpoint` before what must not happen twice. What is returned becomes the result: a mapping (or a model,
or a dataclass) as it is, nothing as an empty one, anything else as `value`. What goes wrong in a way the function
knows of, it raises as `Failed`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticSerializationError, to_jsonable_python

from cpa.agents.fence import checkpoint
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.documents import every, invalid
from cpa.errors import BadInput
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification

Function: TypeAlias = Callable[..., Any]
Look: TypeAlias = Callable[[ActionRequest], Awaitable[Verification]]


_STRICTNESS = (EffectClass.IDEMPOTENT, EffectClass.VERIFIABLE, EffectClass.UNSAFE)


class Failed(Exception):
    """The action did not succeed, in a way that was expected.

    `failure` decides what follows: `business` and `policy` are never tried again, `technical` is, `environment`
    waits for better times, `unknown_outcome` means that it may have happened.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "failed",
        failure: FailureClass | str = FailureClass.BUSINESS,
        remedy: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.result = ExecutionResult.failed(
            FailureClass(failure), code, message, remedy=remedy, retry_after=retry_after
        )


@dataclass(frozen=True, slots=True)
class _Bound:
    function: Function
    model: type[BaseModel]
    request: str
    """Name of the parameter that takes the request; empty for none."""
    result: TypeAdapter[Any] | None
    effect: EffectClass
    look: Look | None


class FunctionExecutor(BaseExecutor):
    """Performs actions that are functions."""

    actions: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._bound: dict[str, _Bound] = {}

    def add(self, action: str, function: Function, effect: EffectClass, look: Look | None) -> None:
        """`BadInput` for an action that is there already, or a signature that arguments by name cannot fill."""
        if action in self._bound:
            raise BadInput(
                f"{action} is defined twice", field="action", remedy="give each action one function"
            )
        self._bound[action] = _bound(action, function, effect, look)
        self.actions = tuple(self._bound)  # type: ignore[misc] # of this one, not of the class

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        bound = self._bound[request.action]
        if _STRICTNESS.index(request.effect) < _STRICTNESS.index(bound.effect):
            return ExecutionResult.failed(
                FailureClass.POLICY,
                "effect_understated",
                f"{request.action} is {bound.effect.value}, and the task says {request.effect.value}",
                remedy=f"write `effect: {bound.effect.value}` into the task, or leave it out, and hand it in anew "
                "with `cpa submit`: a job keeps its plan",
            )
        try:
            given = bound.model.model_validate(dict(request.arguments))
        except ValidationError as error:
            said, remedy = every(invalid(error, "arguments"))
            return ExecutionResult.failed(FailureClass.BUSINESS, "bad_argument", said, remedy=remedy)
        arguments = {name: getattr(given, field) for field, name in _names(bound.model)}
        if bound.request:
            arguments[bound.request] = request
        try:
            returned = await _call(bound.function, arguments)
        except Failed as failed:
            return failed.result
        return _result(bound, returned)

    async def verify(self, request: ActionRequest) -> Verification:
        bound = self._bound[request.action]
        if bound.look is not None:
            return await bound.look(request)
        if bound.effect is EffectClass.IDEMPOTENT:
            return Verification(verdict=Verdict.ABSENT, evidence="It can be done again without harm.")
        return Verification(
            verdict=Verdict.UNKNOWN, evidence="This action has no way to look for its effect."
        )


def _bound(action: str, function: Function, effect: EffectClass, look: Look | None) -> _Bound:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    request = ""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise BadInput(
                f"{action}: the parameter {name} cannot be given by name",
                field="action",
                remedy="use ordinary or keyword-only parameters",
            )
        hint = hints.get(name, Any)
        if hint is ActionRequest:
            request = name
            continue
        fields[f"p_{name}"] = (hint, parameter.default if parameter.default is not parameter.empty else ...)
    model = create_model(
        action,
        __config__=ConfigDict(
            extra="forbid",
            arbitrary_types_allowed=True,
            alias_generator=lambda field: field.removeprefix("p_"),
            protected_namespaces=(),
        ),
        **fields,
    )
    returns = hints.get("return")
    checked = None if returns in (None, type(None), Any) else TypeAdapter[Any](returns)
    return _Bound(function, model, request, checked, effect, look)


def _names(model: type[BaseModel]) -> list[tuple[str, str]]:
    return [(field, field.removeprefix("p_")) for field in model.model_fields]


async def _call(function: Function, arguments: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(**arguments)
    return await _in_thread(partial(function, **arguments))


async def _in_thread(work: Callable[[], Any]) -> Any:
    """What the work gives, in a thread of its own: one that never ends takes nobody's place, and does not hold up
    the end of the process."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not outcome.done():
            outcome.set_result((result, error))

    def tried() -> tuple[Any, BaseException | None]:
        try:
            context.run(checkpoint)
            return context.run(work), None
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            return None, error

    def run() -> None:
        found = tried()
        with suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(settle, *found)

    threading.Thread(target=run, name="action", daemon=True).start()
    result, error = await outcome
    if error is not None:
        raise error
    return result


def _result(bound: _Bound, returned: Any) -> ExecutionResult:
    try:
        if bound.result is not None:
            bound.result.validate_python(returned)
        found = to_jsonable_python(returned)
    except (ValidationError, PydanticSerializationError, UnicodeError) as error:
        what = every(invalid(error, "result"))[0] if isinstance(error, ValidationError) else str(error)
        return ExecutionResult.failed(
            FailureClass.BUSINESS,
            "result_invalid",
            f"it was done, but its result is not what it promised: {what}",
            remedy="return what the function's annotation says, and what JSON can hold",
        )
    if found is None:
        found = {}
    return ExecutionResult(success=True, result=found if isinstance(found, dict) else {"value": found})
