"""What every agent shares: take attempts, perform them through its executors, answer each once.

The agent inside the scheduler and those in processes of their own run on this; they differ in who calls it and
in how an attempt is called (`K`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, Generic, TypeVar

import structlog

from cpa.agents.fence import Fence, Fenced, Passage
from cpa.core.classes import FailureClass
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.transport import Answer

log = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class AgentRuntime(Generic[K]):
    """Runs attempts as tasks of one group. `reply` gets exactly one answer per attempt started.

    Own it with `async with`: leaving cancels what still runs, answers those attempts, and closes nothing else
    (the executors belong to whoever made them).
    """

    def __init__(self, executors: ExecutorRegistry, reply: Callable[[K, Answer], None]) -> None:
        """`reply` must not block."""
        self._executors = executors
        self._reply = reply
        self._running: dict[tuple[K, str], asyncio.Task[None]] = {}
        self._fenced: dict[tuple[K, str], Fenced[ExecutionResult]] = {}
        self._passages: dict[tuple[K, str], Passage] = {}
        self._group = asyncio.TaskGroup()
        self._kept: set[tuple[str, str]] = set()
        """Jobs for which an executor may keep something (a browser context)."""

    async def __aenter__(self) -> AgentRuntime[K]:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for key in list(self._running):
            self._stop(key)
        await self._group.__aexit__(None, None, None)

    def start(self, attempt: K, request: ActionRequest, fence: Fence | None = None) -> None:
        """Perform it; behind a fence it goes on only while that is open."""
        executor = self._executors.find(request.action)
        if executor is not None and type(executor).job_ended is not BaseExecutor.job_ended:
            self._kept.add((request.tenant, request.job))
        if executor is not None and executor.instant:
            self._reply(attempt, _run_now(self._executors.dispatch(request)))
        else:
            passage = self._passages.setdefault((attempt, "execute"), Passage(fence))
            self._spawn((attempt, "execute"), self._execute(attempt, request, passage))

    def verify(self, attempt: K, request: ActionRequest) -> None:
        self._spawn((attempt, "verify"), self._verify(attempt, request))

    def cancel(self, attempt: K) -> None:
        """Stop performing it, and looking for its effect."""
        self._stop((attempt, "execute"))
        self._stop((attempt, "verify"))

    def job_ended(self, tenant: str, job: str) -> None:
        if (tenant, job) in self._kept:
            self._kept.discard((tenant, job))
            self._group.create_task(self._let_go(tenant, job))

    @property
    def running(self) -> int:
        return len(self._running)

    def _spawn(self, key: tuple[K, str], work: Coroutine[Any, Any, None]) -> None:
        if key in self._running:
            work.close()
            return
        self._running[key] = self._group.create_task(work)

    def _stop(self, key: tuple[K, str]) -> None:
        task, fenced, passage = self._running.get(key), self._fenced.get(key), self._passages.get(key)
        if passage is not None:
            passage.end()
        if fenced is not None:
            fenced.release()
        if task is None:
            return
        if getcoroutinestate(task.get_coro()) == CORO_CREATED:  # type: ignore[arg-type]  # of a coroutine always
            # A task that is cancelled before its first step never takes it, and would not answer.
            task.get_loop().call_soon(task.cancel)
        else:
            # At once: its next step may be due in this very turn of the loop.
            task.cancel()

    async def _let_go(self, tenant: str, job: str) -> None:
        """What an executor cannot drop is a defect of its own, and must not end what others are doing."""
        try:
            await self._executors.job_ended(tenant, job)
        except ExceptionGroup as group:
            log.error("job_not_let_go", tenant=tenant, job=job, exc_info=group)

    async def _execute(self, attempt: K, request: ActionRequest, passage: Passage) -> None:
        key, work = (attempt, "execute"), self._perform(request, passage)
        now = asyncio.get_running_loop().time
        began = now()
        try:
            if passage.fence is None:
                answer = await work
            else:
                self._fenced[key] = Fenced(work, passage.fence)
                answer = await self._fenced[key]
        except asyncio.CancelledError:
            answer = ExecutionResult.failed(
                FailureClass.UNKNOWN_OUTCOME,
                "cancelled",
                "stopped while it was running",
                duration=now() - began,
            )
        finally:
            self._fenced.pop(key, None)
            self._passages.pop(key, None)
            passage.end()
        self._answer(key, answer)

    async def _perform(self, request: ActionRequest, passage: Passage) -> ExecutionResult:
        passage.begin(request.timeout)
        return await self._executors.dispatch(request)

    async def _verify(self, attempt: K, request: ActionRequest) -> None:
        try:
            answer = await self._executors.verify(request)
        except asyncio.CancelledError:
            answer = Verification(verdict=Verdict.UNKNOWN, evidence="stopped while looking", look_again=1.0)
        self._answer((attempt, "verify"), answer)

    def _answer(self, key: tuple[K, str], answer: Answer) -> None:
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
