"""An agent in this process, with actions that a test can watch and hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.agents.scheduler import ADMIN, FakeScheduler

from cpa.agents.agent import SystemClock
from cpa.agents.session import Options, Session
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.agents import Readiness
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification


@dataclass(eq=False)
class Hands(BaseExecutor):
    """Doing and looking wait for `go`, when they are told to; what is done gives back its arguments."""

    actions = ("x.test.do", "x.test.look")  # type: ignore[misc]
    go: asyncio.Event = field(default_factory=asyncio.Event)
    began: list[ActionRequest] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    looked: list[ActionRequest] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    result: Any = None
    answer: ExecutionResult | None = None

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        self.began.append(request)
        if request.progress is not None:
            await request.progress(0.5, "halb fertig")
        if request.arguments.get("wait"):
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped.append(request.task)
                raise
        self.done.append(request.task)
        if self.answer is not None:
            return self.answer
        return ExecutionResult(
            success=True, result=self.result or {"got": dict(request.arguments)}, duration=0.01
        )

    async def verify(self, request: ActionRequest) -> Verification:
        self.looked.append(request)
        if request.arguments.get("wait"):
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped.append(request.task)
                raise
        return Verification(verdict=Verdict.UNKNOWN, evidence="noch nicht da", look_again=2.5)

    async def job_ended(self, tenant: str, job: str) -> None:
        self.ended.append(job)


@dataclass(eq=False)
class Running:
    session: Session
    hands: Hands
    life: asyncio.Task[None]
    lines: list[str]

    async def stop(self) -> None:
        self.session.stop()
        await self.life

    async def die(self) -> None:
        """End as abruptly as is possible without a process."""
        self.life.cancel()
        await asyncio.gather(self.life, return_exceptions=True)


@asynccontextmanager
async def agent(
    scheduler: FakeScheduler,
    folder: Path,
    *,
    listens: bool = False,
    hands: Hands | None = None,
    readiness: Callable[[], Readiness] = Readiness,
    refuses: Callable[[ActionRequest], str] = lambda _: "",
    **more: Any,
) -> AsyncIterator[Running]:
    """An agent that has registered and is heard."""
    hands, lines = hands or Hands(), list[str]()
    options = Options(
        **(
            {
                "name": "tester",
                "type": "DATA",
                "url": scheduler.url,
                "key": ADMIN,
                "data": folder / "agent",
                "slots": 2,
                "listen": "127.0.0.1:0" if listens else "",
                "grace": 5.0,
            }
            | more
        )
    )
    session = Session(
        options,
        ExecutorRegistry([hands]),
        SystemClock(),
        readiness=readiness,
        refuses=refuses,
        ready=lines.append,
    )
    life = asyncio.create_task(session.run())
    running = Running(session, hands, life, lines)
    try:
        while not lines and not life.done():
            await asyncio.sleep(0.01)
        if life.done():
            await life
        yield running
    finally:
        session.stop()
        session.stop()
        await asyncio.gather(life, return_exceptions=True)
