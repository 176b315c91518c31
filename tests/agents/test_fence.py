"""An attempt goes on only while it is certainly still its agent's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from cpa.agents.fence import Fence, Fenced
from cpa.testing.virtual import VirtualLoop


def live(story: Callable[[Fence], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        await story(Fence(asyncio.get_running_loop().time))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def now() -> float:
    return asyncio.get_running_loop().time()


async def wait_for(fenced: Awaitable[Any]) -> Any:
    return await fenced


def test_behind_an_open_fence_nothing_is_different() -> None:
    async def story(fence: Fence) -> None:
        fence.renewed(100)

        async def work() -> str:
            await asyncio.sleep(1)
            async with asyncio.TaskGroup() as group:
                other = group.create_task(asyncio.sleep(2, "zwei"))
            try:
                async with asyncio.timeout(1):
                    await asyncio.Event().wait()
            except TimeoutError:
                return other.result()
            return "not timed out"

        assert await Fenced(work(), fence) == "zwei"
        assert now() == 4

    live(story)


def test_an_error_comes_out_as_it_is() -> None:
    async def story(fence: Fence) -> None:
        fence.renewed(100)

        async def work() -> None:
            await asyncio.sleep(1)
            raise KeyError("weg")

        with pytest.raises(KeyError, match="weg"):
            await Fenced(work(), fence)

    live(story)


def test_nothing_begins_before_the_fence_was_opened() -> None:
    async def story(fence: Fence) -> None:
        began: list[float] = []

        async def work() -> None:
            began.append(now())

        task = asyncio.create_task(wait_for(Fenced(work(), fence)))
        await asyncio.sleep(5)
        assert began == []
        fence.renewed(now() + 10)
        await task
        assert began == [5]

    live(story)


def test_what_waited_past_the_time_stands_still_until_it_is_renewed() -> None:
    async def story(fence: Fence) -> None:
        fence.renewed(10)
        steps: list[float] = []

        async def work() -> None:
            for _ in range(3):
                await asyncio.sleep(4)
                steps.append(now())

        task = asyncio.create_task(wait_for(Fenced(work(), fence)))
        await asyncio.sleep(30)
        assert steps == [4, 8]
        fence.renewed(40)
        await task
        assert steps == [4, 8, 30]

    live(story)


def test_a_renewal_that_is_over_already_opens_nothing() -> None:
    async def story(fence: Fence) -> None:
        task = asyncio.create_task(wait_for(Fenced(asyncio.sleep(0), fence)))
        await asyncio.sleep(5)
        fence.renewed(4)
        await asyncio.sleep(5)
        assert not task.done()
        fence.renewed(100)
        await task

    live(story)


def test_who_is_stopped_behind_a_closed_fence_may_clean_up() -> None:
    async def story(fence: Fence) -> None:
        fence.renewed(2)
        said: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(3)
                said.append("went on")
            finally:
                await asyncio.sleep(1)
                said.append("cleaned up")

        fenced = Fenced(work(), fence)
        task = asyncio.create_task(wait_for(fenced))
        await asyncio.sleep(5)
        fenced.release()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert said == ["cleaned up"]
        assert now() == 6

    live(story)


def test_a_limit_that_runs_out_behind_a_closed_fence_is_noticed_when_it_opens() -> None:
    async def story(fence: Fence) -> None:
        fence.renewed(2)
        said: list[str] = []

        async def work() -> None:
            try:
                async with asyncio.timeout(3):
                    await asyncio.Event().wait()
            except TimeoutError:
                said.append(f"timed out at {now():g}")

        task = asyncio.create_task(wait_for(Fenced(work(), fence)))
        await asyncio.sleep(20)
        assert said == []
        fence.renewed(30)
        await task
        assert said == ["timed out at 20"]

    live(story)
