"""Plain functions as actions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from cpa.agents.functions import Failed, FunctionExecutor
from cpa.core.classes import EffectClass, FailureClass
from cpa.errors import BadInput
from cpa.ports.executor import ActionRequest, ExecutionResult, Verdict, Verification

NAME = "x.test.do"


async def call(
    function: Any,
    arguments: Mapping[str, Any],
    told: EffectClass = EffectClass.UNSAFE,
    task: EffectClass = EffectClass.UNSAFE,
) -> ExecutionResult:
    executor = FunctionExecutor()
    executor.add(NAME, function, told, None)
    request = ActionRequest(
        tenant="default",
        job="j",
        task="t",
        action=NAME,
        arguments=arguments,
        effect=task,
    )
    return await executor.execute(request)


def failure(result: ExecutionResult) -> tuple[FailureClass, str]:
    assert result.error is not None
    return result.error.failure, result.error.code


async def add(a: float, b: float = 1) -> dict[str, float]:
    return {"sum": a + b}


async def test_arguments_come_by_name_and_the_mapping_is_the_result() -> None:
    assert (await call(add, {"a": 2, "b": 3.5})).result == {"sum": 5.5}
    assert (await call(add, {"a": 2})).result == {"sum": 3}


async def test_a_misspelt_argument_is_named_beside_the_one_that_is_missing() -> None:
    result = await call(add, {"aa": 1, "b": "zwei"})
    assert result.error is not None
    assert [each.partition(":")[0] for each in result.error.message.split("; ")] == [
        "arguments.a",
        "arguments.b",
        "arguments.aa",
    ]
    assert "Remove this field or correct its name." in result.error.remedy


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "arguments.a"),
        ({"a": "zwei"}, "arguments.a"),
        ({"a": 1, "c": 2}, "arguments.c"),
        ({"a": None}, "arguments.a"),
    ],
)
async def test_arguments_that_do_not_fit_are_named_and_nothing_is_called(
    arguments: Mapping[str, Any], said: str
) -> None:
    result = await call(add, arguments)
    assert failure(result) == (FailureClass.BUSINESS, "bad_argument")
    assert result.error is not None
    assert said in result.error.message
    assert result.error.remedy
    assert result.error.remedy not in result.error.message


async def test_names_that_mean_something_elsewhere_are_ordinary_here() -> None:
    async def odd(model_config: str, schema: int, copy: bool, _x: int = 4) -> list[Any]:
        return [model_config, schema, copy, _x]

    result = await call(odd, {"model_config": "m", "schema": 2, "copy": True})
    assert result.result == {"value": ["m", 2, True, 4]}


async def test_a_function_may_take_the_whole_request() -> None:
    async def who(request: ActionRequest, name: str) -> str:
        return f"{name}: {request.task}, {request.idempotency_key[:4]}"

    result = await call(who, {"name": "anna"})
    assert str(result.result["value"]).startswith("anna: t, ")


class Answer(BaseModel):
    when: date


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("returned", "result"),
    [
        (None, {}),
        ({"a": 1}, {"a": 1}),
        (Answer(when=date(2026, 11, 24)), {"when": "2026-11-24"}),
        (Point(3), {"x": 3}),
        ("text", {"value": "text"}),
        ([1, 2], {"value": [1, 2]}),
    ],
)
async def test_whatever_is_returned_becomes_a_result(returned: Any, result: Mapping[str, Any]) -> None:
    async def give() -> Any:
        return returned

    assert (await call(give, {})).result == result


async def test_a_result_that_breaks_its_promise_is_refused() -> None:
    async def lie() -> dict[str, int]:
        return {"sum": "viel"}  # type: ignore[dict-item]

    async def odd() -> Any:
        return {"lock": threading.Lock()}

    assert failure(await call(lie, {})) == (FailureClass.BUSINESS, "result_invalid")
    assert failure(await call(odd, {})) == (FailureClass.BUSINESS, "result_invalid")


async def test_what_goes_wrong_as_expected_says_of_which_class_it_is() -> None:
    async def fail() -> None:
        raise Failed("später", code="closed", failure="environment", remedy="warten", retry_after=30)

    result = await call(fail, {})
    assert failure(result) == (FailureClass.ENVIRONMENT, "closed")
    assert result.error is not None
    assert (result.error.remedy, result.error.retry_after) == ("warten", 30)


async def test_an_ordinary_function_runs_in_a_thread() -> None:
    def where() -> int:
        return threading.get_ident()

    assert (await call(where, {})).result["value"] != threading.get_ident()


@pytest.mark.parametrize(
    ("told", "task", "well"),
    [
        (EffectClass.UNSAFE, EffectClass.IDEMPOTENT, False),
        (EffectClass.UNSAFE, EffectClass.VERIFIABLE, False),
        (EffectClass.VERIFIABLE, EffectClass.IDEMPOTENT, False),
        (EffectClass.IDEMPOTENT, EffectClass.UNSAFE, True),
        (EffectClass.UNSAFE, EffectClass.UNSAFE, True),
    ],
)
async def test_a_task_cannot_call_an_action_safer_than_it_is(
    told: EffectClass, task: EffectClass, well: bool
) -> None:
    result = await call(add, {"a": 1}, told, task)
    assert result.success == well
    if not well:
        assert failure(result) == (FailureClass.POLICY, "effect_understated")


async def test_looking_for_the_effect() -> None:
    async def look(request: ActionRequest) -> Verification:
        return Verification(verdict=Verdict.HAPPENED, evidence=request.task)

    executor = FunctionExecutor()
    executor.add("x.a.safe", add, EffectClass.IDEMPOTENT, None)
    executor.add("x.a.unsafe", add, EffectClass.UNSAFE, None)
    executor.add("x.a.seen", add, EffectClass.VERIFIABLE, look)
    verdicts = []
    for action in executor.actions:
        request = ActionRequest(tenant="default", job="j", task="t", action=action)
        verdicts.append((await executor.verify(request)).verdict)
    assert verdicts == [Verdict.ABSENT, Verdict.UNKNOWN, Verdict.HAPPENED]


def test_two_functions_for_one_action_are_refused() -> None:
    executor = FunctionExecutor()
    executor.add(NAME, add, EffectClass.UNSAFE, None)
    with pytest.raises(BadInput):
        executor.add(NAME, add, EffectClass.UNSAFE, None)


def test_parameters_that_no_name_can_fill_are_refused() -> None:
    def rest(*numbers: int) -> None: ...

    with pytest.raises(BadInput, match="numbers"):
        FunctionExecutor().add(NAME, rest, EffectClass.UNSAFE, None)


async def test_functions_that_never_end_take_nobodys_place() -> None:
    """As many of them as no pool of threads has."""
    held = threading.Event()

    def stuck() -> None:
        held.wait(60)

    calls = [asyncio.ensure_future(call(stuck, {})) for _ in range(40)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(20):
            assert (await call(lambda: 7, {})).result == {"value": 7}
    finally:
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        held.set()


@pytest.mark.parametrize("returned", [{"raw": b"\xff\xfe"}, {"half a pair \udc80": 1}], ids=["bytes", "name"])
async def test_a_result_that_is_no_text_is_no_defect_to_try_again(returned: dict[str, Any]) -> None:
    assert failure(await call(lambda: returned, {})) == (FailureClass.BUSINESS, "result_invalid")
