from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import structlog

from cpa.core.classes import EffectClass, FailureClass
from cpa.errors import Conflict, NotFound
from cpa.executors.flow import FlowExecutor
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification


class Hand(BaseExecutor):
    """Performs `test.*`: waits, breaks, or answers."""

    actions = ("test.answer", "test.wait", "test.break", "test.own_timeout")

    def __init__(self) -> None:
        self.cancelled = 0
        self.ended: list[tuple[str, str]] = []
        self.closed = 0

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        if request.action == "test.wait":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        if request.action == "test.break":
            raise RuntimeError("the password is hunter2")
        if request.action == "test.own_timeout":
            raise TimeoutError
        return ExecutionResult(success=True, result={"seen": dict(request.arguments)})

    async def verify(self, request: ActionRequest) -> Verification:
        await self.execute(request)
        return Verification(verdict=Verdict.HAPPENED, evidence="seen")

    async def job_ended(self, tenant: str, job: str) -> None:
        self.ended.append((tenant, job))

    async def close(self) -> None:
        self.closed += 1


class Stubborn(FlowExecutor):
    async def job_ended(self, tenant: str, job: str) -> None:
        raise OSError("job_ended")

    async def close(self) -> None:
        raise OSError("close")


def request(
    action: str, effect: EffectClass = EffectClass.IDEMPOTENT, timeout: float = 8.0, **arguments: Any
) -> ActionRequest:
    return ActionRequest(
        tenant="t", job="j", task="k", action=action, effect=effect, timeout=timeout, arguments=arguments
    )


async def test_the_action_reaches_its_executor_with_arguments_as_given() -> None:
    registry = ExecutorRegistry([FlowExecutor(), Hand()])
    result = await registry.dispatch(request("test.answer", text="{{ tasks.a.result }}"))
    assert result.result == {"seen": {"text": "{{ tasks.a.result }}"}}
    assert registry.actions == ("flow.noop", "test.answer", "test.break", "test.own_timeout", "test.wait")


async def test_an_unknown_action_names_the_nearest_ones() -> None:
    registry = ExecutorRegistry([FlowExecutor(), Hand()])
    result = await registry.dispatch(request("test.anser"))
    assert result.error is not None
    assert (result.error.failure, result.error.code) == (FailureClass.BUSINESS, "unknown_action")
    assert "`test.answer`" in result.error.remedy
    with pytest.raises(NotFound, match=r"test\.answer"):
        registry.get("test.anser")
    with pytest.raises(NotFound, match=r"flow\.noop"):
        await registry.verify(request("fly.to_the_moon"))


def test_an_action_taken_twice_is_a_conflict_and_changes_nothing() -> None:
    class Overlapping(FlowExecutor):
        actions = ("flow.other", "flow.noop")

    first = FlowExecutor()
    registry = ExecutorRegistry([first])
    with pytest.raises(Conflict):
        registry.register(Overlapping())
    assert registry.actions == ("flow.noop",)
    assert registry.get("flow.noop") is first


@pytest.mark.parametrize(
    ("effect", "failure"),
    [
        (EffectClass.IDEMPOTENT, FailureClass.TECHNICAL),
        (EffectClass.VERIFIABLE, FailureClass.UNKNOWN_OUTCOME),
        (EffectClass.UNSAFE, FailureClass.UNKNOWN_OUTCOME),
    ],
)
async def test_an_attempt_without_an_answer_is_classed_by_what_a_second_try_may_do(
    effect: EffectClass, failure: FailureClass
) -> None:
    hand = Hand()
    registry = ExecutorRegistry([hand])
    with structlog.testing.capture_logs() as logs:
        cut = await registry.dispatch(request("test.wait", effect, timeout=0.02))
        broken = await registry.dispatch(request("test.break", effect))
        own = await registry.dispatch(request("test.own_timeout", effect))
    assert hand.cancelled == 1
    assert cut.error is not None
    assert broken.error is not None
    assert own.error is not None
    assert (cut.error.failure, cut.error.code) == (failure, "timeout")
    assert cut.duration >= 0.02
    assert (broken.error.failure, broken.error.code) == (failure, "executor_defect")
    assert (own.error.failure, own.error.code) == (failure, "executor_defect")
    assert "hunter2" not in broken.error.message
    assert [entry["event"] for entry in logs] == ["executor_defect"] * 2
    assert isinstance(logs[0]["exc_info"], RuntimeError)
    assert (logs[0]["job"], logs[0]["task"]) == ("j", "k")
    assert "hunter2" in logs[0]["error"]
    assert re.fullmatch(rf"{re.escape(__file__)}:\d+, in execute", logs[0]["at"])


async def test_an_executor_that_does_not_say_how_long_it_took_is_timed() -> None:
    class Slow(BaseExecutor):
        actions = ("test.slow", "test.told")

        async def execute(self, request: ActionRequest) -> ExecutionResult:
            await asyncio.sleep(0.02)
            return ExecutionResult(success=True, duration=7.0 if request.action == "test.told" else 0.0)

        async def verify(self, request: ActionRequest) -> Verification:
            return Verification(verdict=Verdict.ABSENT, evidence="none")

    registry = ExecutorRegistry([Slow()])
    assert (await registry.dispatch(request("test.slow"))).duration >= 0.02
    assert (await registry.dispatch(request("test.told"))).duration == 7.0


async def test_cancellation_from_outside_goes_through() -> None:
    hand = Hand()
    attempt = asyncio.create_task(ExecutorRegistry([hand]).dispatch(request("test.wait")))
    await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert hand.cancelled == 1


async def test_a_verification_without_an_answer_is_unknown() -> None:
    registry = ExecutorRegistry([Hand()])
    slow = await registry.verify(request("test.wait", timeout=0.02))
    assert slow.verdict is Verdict.UNKNOWN
    assert slow.look_again is not None
    with structlog.testing.capture_logs() as logs:
        broken = await registry.verify(request("test.break"))
    assert broken.verdict is Verdict.UNKNOWN
    assert logs[0]["during"] == "verify"
    assert (await registry.verify(request("test.answer"))).verdict is Verdict.HAPPENED


async def test_everyone_is_told_and_closed_even_when_one_fails() -> None:
    hand = Hand()
    registry = ExecutorRegistry([hand, Stubborn()])
    with pytest.raises(ExceptionGroup) as ended:
        await registry.job_ended("t", "j")
    assert hand.ended == [("t", "j")]
    with pytest.raises(ExceptionGroup) as closing:
        await registry.close()
    assert hand.closed == 1
    assert [str(error) for error in (*ended.value.exceptions, *closing.value.exceptions)] == [
        "job_ended",
        "close",
    ]
    await registry.close()
    assert hand.closed == 1
