"""Attempts are performed, stopped, and answered once each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cpa.agents.fence import Fence
from cpa.agents.runtime import AgentRuntime
from cpa.core.classes import FailureClass
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.transport import Answer
from cpa.testing.virtual import VirtualLoop


class Slow(BaseExecutor):
    """Takes ten seconds, and says what was asked of it."""

    actions = ("x.slow.do",)

    def __init__(self) -> None:
        self.done: list[str] = []
        self.ended: list[str] = []
        self.stuck: set[str] = set()
        """Jobs of which it cannot let go."""

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        await asyncio.sleep(10)
        self.done.append(request.task)
        return ExecutionResult(success=True, result={"task": request.task})

    async def verify(self, request: ActionRequest) -> Verification:
        await asyncio.sleep(1)
        return Verification(verdict=Verdict.ABSENT)

    async def job_ended(self, tenant: str, job: str) -> None:
        self.ended.append(job)
        if job in self.stuck:
            raise OSError("the browser does not close")


class Stage:
    def __init__(self) -> None:
        self.slow = Slow()
        self.answers: list[tuple[str, Answer]] = []
        self.runtime = AgentRuntime[str](
            ExecutorRegistry([self.slow]), lambda key, answer: self.answers.append((key, answer))
        )

    def start(self, key: str, fence: Fence | None = None) -> None:
        request = ActionRequest(tenant="default", job="j", task=key, action="x.slow.do", timeout=60)
        self.runtime.start(key, request, fence)

    def failures(self) -> list[tuple[str, FailureClass, str]]:
        found = [(key, answer) for key, answer in self.answers if isinstance(answer, ExecutionResult)]
        return [(key, each.error.failure, each.error.code) for key, each in found if each.error]


def live(story: Callable[[Stage], Coroutine[Any, Any, None]]) -> Stage:
    stage = Stage()

    async def whole() -> None:
        async with stage.runtime:
            await story(stage)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())
    return stage


def test_the_same_attempt_twice_runs_and_is_answered_once() -> None:
    async def story(stage: Stage) -> None:
        stage.start("a")
        stage.start("a")
        await asyncio.sleep(3)
        stage.start("a")
        await asyncio.sleep(30)

    stage = live(story)
    assert stage.slow.done == ["a"]
    assert [key for key, _ in stage.answers] == ["a"]


def test_an_attempt_that_is_stopped_is_answered_as_such() -> None:
    async def story(stage: Stage) -> None:
        stage.start("a")
        stage.start("b")
        await asyncio.sleep(3)
        stage.runtime.cancel("a")
        stage.runtime.cancel("unknown")
        await asyncio.sleep(30)

    stage = live(story)
    assert stage.slow.done == ["b"]
    assert stage.failures() == [("a", FailureClass.UNKNOWN_OUTCOME, "cancelled")]


def test_one_that_is_stopped_in_the_middle_says_how_long_it_took() -> None:
    async def story(stage: Stage) -> None:
        stage.start("a")
        stage.start("b", open_fence())
        stage.start("c")
        await asyncio.sleep(3)
        stage.runtime.cancel("a")
        stage.runtime.cancel("b")

    stage = live(story)
    took = {key: answer.duration for key, answer in stage.answers if isinstance(answer, ExecutionResult)}
    assert took == pytest.approx({"a": 3, "b": 3, "c": 3})


def open_fence() -> Fence:
    fence = Fence(asyncio.get_running_loop().time)
    fence.renewed(float("inf"))
    return fence


def test_also_one_that_was_stopped_before_its_first_step() -> None:
    async def story(stage: Stage) -> None:
        stage.start("a")
        stage.runtime.cancel("a")
        await asyncio.sleep(1)
        assert stage.failures() == [("a", FailureClass.UNKNOWN_OUTCOME, "cancelled")]
        assert stage.runtime.running == 0

    assert live(story).slow.done == []


def test_a_look_that_is_stopped_is_answered_once_also_before_its_first_step() -> None:
    async def story(stage: Stage) -> None:
        for key, pause in (("early", 0.0), ("late", 0.5)):
            request = ActionRequest(tenant="default", job="j", task=key, action="x.slow.do")
            stage.runtime.verify(key, request)
            if pause:
                await asyncio.sleep(pause)
            stage.runtime.cancel(key)
        await asyncio.sleep(0.1)
        assert stage.runtime.running == 0

    stage = live(story)
    assert [key for key, _ in stage.answers] == ["early", "late"]
    for _, answer in stage.answers:
        assert isinstance(answer, Verification)
        assert (answer.verdict, answer.evidence) == (Verdict.UNKNOWN, "stopped while looking")


def test_one_that_is_stopped_does_nothing_more_even_in_the_same_turn_of_the_loop() -> None:
    async def story(stage: Stage) -> None:
        stage.start("a")
        await asyncio.sleep(0)
        # Due together with what the attempt waits for, and right behind it.
        asyncio.get_running_loop().call_later(10, stage.runtime.cancel, "a")
        await asyncio.sleep(30)

    stage = live(story)
    assert stage.slow.done == []
    assert stage.failures() == [("a", FailureClass.UNKNOWN_OUTCOME, "cancelled")]


def test_an_attempt_behind_a_closed_fence_waits_and_can_be_stopped() -> None:
    async def story(stage: Stage) -> None:
        fence = Fence(asyncio.get_running_loop().time)
        stage.start("a", fence)
        stage.start("b", fence)
        await asyncio.sleep(30)
        assert stage.slow.done == []
        stage.runtime.cancel("a")
        await asyncio.sleep(1)
        assert [key for key, _, _ in stage.failures()] == ["a"]
        fence.renewed(1000)
        await asyncio.sleep(11)
        assert stage.slow.done == ["b"]

    live(story)


def test_leaving_answers_everything_that_runs() -> None:
    async def story(stage: Stage) -> None:
        stage.start("a", Fence(asyncio.get_running_loop().time))
        stage.start("b")
        request = ActionRequest(tenant="default", job="j", task="c", action="x.slow.do")
        stage.runtime.verify("c", request)
        await asyncio.sleep(0.5)

    stage = live(story)
    assert sorted(key for key, _ in stage.answers) == ["a", "b", "c"]
    [looked] = [answer for _, answer in stage.answers if isinstance(answer, Verification)]
    assert (looked.verdict, looked.look_again) == (Verdict.UNKNOWN, 1.0)


def test_executors_hear_of_the_end_of_jobs_they_worked_for() -> None:
    async def story(stage: Stage) -> None:
        stage.start("a")
        await asyncio.sleep(11)
        stage.runtime.job_ended("default", "other")
        stage.runtime.job_ended("default", "j")
        stage.runtime.job_ended("default", "j")

    assert live(story).slow.ended == ["j"]


def test_what_an_executor_cannot_let_go_of_ends_nobody_elses_work() -> None:
    async def story(stage: Stage) -> None:
        stage.slow.stuck.add("j")
        stage.start("a")
        stage.runtime.job_ended("default", "j")
        await asyncio.sleep(11)

    stage = live(story)
    assert (stage.slow.ended, stage.slow.done) == (["j"], ["a"])
