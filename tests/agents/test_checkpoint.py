"""What runs in a thread stands still at its checkpoints where an `async def` would stand still, and ends there."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from cpa.agents import checkpoint
from cpa.agents.fence import Fence, Passage
from cpa.agents.functions import FunctionExecutor
from cpa.agents.runtime import AgentRuntime
from cpa.core.classes import EffectClass
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.executor import ActionRequest, ExecutionResult
from cpa.ports.transport import Answer
from cpa.testing.virtual import VirtualLoop

ACTION = "x.world.post"
PATIENCE = 20.0


@dataclass(eq=False)
class Stage:
    """An agent with one action in a thread, that is let go by the test, behind a fence with a clock of its own."""

    now: float = 0.0
    late: float = 0.0
    """How much later threads have their turn than the loop."""
    looks: int = 0
    """How often a thread saw the fence closed."""
    began: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)
    done: list[int] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fence = Fence(self._monotonic)
        self._loop = threading.get_ident()
        functions = FunctionExecutor()
        functions.add(ACTION, self._post, EffectClass.UNSAFE, None)
        self.runtime = AgentRuntime[str](
            ExecutorRegistry([functions]), lambda _, answer: self.answers.append(answer)
        )

    def start(self) -> None:
        request = ActionRequest(
            tenant="default",
            job="j",
            task="t",
            action=ACTION,
            arguments={"number": 7},
            timeout=60,
            effect=EffectClass.UNSAFE,
        )
        self.runtime.start("a", request, self.fence)

    def _monotonic(self) -> float:
        if threading.get_ident() == self._loop:
            return self.now
        now = self.now + self.late
        self.looks += now >= 100
        return now

    def _post(self, number: int) -> None:
        self.began.set()
        self.go.wait(PATIENCE)
        try:
            checkpoint()
        except asyncio.CancelledError:
            self.stopped.set()
            raise
        self.done.append(number)


async def seen(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def staged(story: Callable[[Stage], Awaitable[None]]) -> None:
    async def whole() -> None:
        stage = Stage()
        async with stage.runtime:
            await story(stage)

    asyncio.run(whole())


def test_outside_an_attempt_it_is_passed() -> None:
    checkpoint()


def test_while_the_fence_is_open_it_is_passed() -> None:
    async def story(stage: Stage) -> None:
        stage.fence.renewed(100)
        stage.start()
        stage.go.set()
        await seen(lambda: stage.answers)
        assert stage.done == [7]
        assert isinstance(stage.answers[0], ExecutionResult)
        assert stage.answers[0].success

    staged(story)


def test_nothing_begins_in_a_thread_while_the_fence_is_closed() -> None:
    async def story(stage: Stage) -> None:
        stage.start()
        stage.go.set()
        await asyncio.sleep(0)
        assert not stage.began.is_set()
        stage.fence.renewed(100)
        await seen(lambda: stage.answers)
        assert stage.done == [7]

    staged(story)


def test_a_thread_that_has_its_turn_too_late_waits_before_it_begins() -> None:
    async def story(stage: Stage) -> None:
        stage.late = 150
        stage.fence.renewed(100)
        stage.start()
        stage.go.set()
        await seen(lambda: stage.looks > 1)
        assert not stage.began.is_set()
        stage.fence.renewed(200)
        await seen(lambda: stage.answers)
        assert stage.done == [7]

    staged(story)


def test_behind_a_closed_fence_it_is_waited_at_until_the_fence_opens() -> None:
    async def story(stage: Stage) -> None:
        stage.fence.renewed(100)
        stage.start()
        await seen(stage.began.is_set)
        stage.now = 150
        stage.go.set()
        await seen(lambda: stage.looks > 1)
        assert stage.done == []
        stage.fence.renewed(200)
        await seen(lambda: stage.answers)
        assert stage.done == [7]

    staged(story)


@pytest.mark.parametrize("renewed", [False, True])
def test_who_was_stopped_does_not_get_past_it(renewed: bool) -> None:
    async def story(stage: Stage) -> None:
        stage.fence.renewed(100)
        stage.start()
        await seen(stage.began.is_set)
        stage.now = 150
        stage.go.set()
        await seen(lambda: stage.looks > 1)
        stage.runtime.cancel("a")
        if renewed:
            stage.fence.renewed(200)
        await seen(stage.stopped.is_set)
        await seen(lambda: stage.answers)
        assert stage.done == []
        (answer,) = stage.answers
        assert isinstance(answer, ExecutionResult)
        assert answer.error is not None
        assert answer.error.code == "cancelled"

    staged(story)


def test_what_is_stopped_before_its_first_step_never_begins() -> None:
    async def story(stage: Stage) -> None:
        stage.fence.renewed(100)
        stage.start()
        stage.runtime.cancel("a")
        await seen(lambda: stage.answers)
        assert not stage.began.is_set()

    staged(story)


def in_a_thread(work: Callable[[], None]) -> list[BaseException]:
    """What came of it, while the loop stands still."""
    raised: list[BaseException] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            context.run(work)
        except asyncio.CancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    return raised


def on_virtual_time(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


@pytest.mark.parametrize("fenced", [False, True])
def test_after_the_time_of_the_attempt_it_is_not_passed(fenced: bool) -> None:
    """The loop, which stood still as well, may not have noticed yet."""

    async def story() -> None:
        fence = Fence(asyncio.get_running_loop().time)
        fence.renewed(100)
        Passage(fence if fenced else None).begin(8)
        assert in_a_thread(checkpoint) == []
        await asyncio.sleep(9)
        assert len(in_a_thread(checkpoint)) == 1

    on_virtual_time(story)


def test_in_the_loop_nothing_is_waited_for() -> None:
    async def story() -> None:
        fence = Fence(asyncio.get_running_loop().time)
        passage = Passage(fence)
        passage.begin(8)
        checkpoint()
        passage.end()
        with pytest.raises(asyncio.CancelledError):
            checkpoint()

    on_virtual_time(story)
