"""What every agent shares: take attempts, perform them through its executors, answer each once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from cpa.core.classes import FailureClass
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.transport import Answer, Attempt, Reply

T = TypeVar("T")


class AgentRuntime:
    """Runs attempts as tasks of one group. `reply` gets exactly one answer per attempt started.

    Own it with `async with`: leaving cancels what still runs, answers those attempts, and closes nothing else
    (the executors belong to whoever made them).
    """

    def __init__(self, executors: ExecutorRegistry, reply: Reply) -> None:
        self._executors = executors
        self._reply = reply
        self._running: dict[tuple[Attempt, str], asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._kept: set[tuple[str, str]] = set()
        """Jobs for which an executor may keep something (a browser context)."""

    async def __aenter__(self) -> AgentRuntime:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._running.values()):
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def start(self, attempt: Attempt, request: ActionRequest) -> None:
        executor = self._executors.find(request.action)
        if executor is not None and type(executor).job_ended is not BaseExecutor.job_ended:
            self._kept.add((attempt.tenant, attempt.job))
        if executor is not None and executor.instant:
            self._reply(attempt, _run_now(self._executors.dispatch(request)))
        else:
            self._spawn((attempt, "execute"), self._execute(attempt, request))

    def verify(self, attempt: Attempt, request: ActionRequest) -> None:
        self._spawn((attempt, "verify"), self._verify(attempt, request))

    def cancel(self, attempt: Attempt) -> None:
        task = self._running.get((attempt, "execute"))
        if task is not None:
            task.cancel()

    def job_ended(self, tenant: str, job: str) -> None:
        if (tenant, job) in self._kept:
            self._kept.discard((tenant, job))
            self._group.create_task(self._executors.job_ended(tenant, job))

    @property
    def running(self) -> int:
        return len(self._running)

    def _spawn(self, key: tuple[Attempt, str], work: Coroutine[Any, Any, None]) -> None:
        if key in self._running:
            work.close()
            return
        self._running[key] = self._group.create_task(work)

    async def _execute(self, attempt: Attempt, request: ActionRequest) -> None:
        answer: Answer
        try:
            answer = await self._executors.dispatch(request)
        except asyncio.CancelledError:
            answer = ExecutionResult.failed(
                FailureClass.UNKNOWN_OUTCOME, "cancelled", "stopped while it was running"
            )
        self._answer((attempt, "execute"), answer)

    async def _verify(self, attempt: Attempt, request: ActionRequest) -> None:
        try:
            answer = await self._executors.verify(request)
        except asyncio.CancelledError:
            answer = Verification(verdict=Verdict.UNKNOWN, evidence="stopped while looking", look_again=1.0)
        self._answer((attempt, "verify"), answer)

    def _answer(self, key: tuple[Attempt, str], answer: Answer) -> None:
        self._running.pop(key, None)
        self._reply(key[0], answer)


def _run_now(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits to its end; RuntimeError if it does wait."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("an executor that calls itself instant waited for something")
