"""Virtual time: jumps, never hangs, keeps the order of a thread, and every run takes the same course."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cpa.testing.virtual import PARTY, START, Stalled, Threaded, VirtualClock, VirtualLoop


def test_a_month_passes_at_once_and_the_clock_shows_it() -> None:
    async def main() -> tuple[int, float]:
        clock = VirtualClock(asyncio.get_running_loop(), skew=-5)
        await asyncio.sleep(30 * 86_400)
        return clock.now_ms(), clock.monotonic()

    began = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) == (START + 30 * 86_400_000 - 5, 30 * 86_400)
    assert time.monotonic() - began < 60


def test_who_waits_for_nothing_is_told() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    runner = asyncio.Runner(loop_factory=VirtualLoop)
    with pytest.raises(Stalled):
        runner.run(main())
    # The task that hangs is still there; closing the runner would wait for it too.
    loop = runner.get_loop()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    runner.close()


def test_work_of_one_thread_keeps_its_order_whatever_it_takes() -> None:
    chance = random.Random(7)
    done: list[int] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            await asyncio.gather(*(loop.run_in_executor(thread, done.append, n) for n in range(50)))
        return loop.time()

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(chance.random)) as runner:
        assert 0 < runner.run(main()) <= 1
    assert done == list(range(50))


def test_what_the_work_raises_reaches_who_awaits_it() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, int, "x")

    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.raises(ValueError, match="invalid literal"),
    ):
        runner.run(main())


def test_a_thread_that_takes_part_ends_the_run() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        worker = threading.Thread(target=loop.call_soon_threadsafe, args=(print,), name="worker")
        worker.start()
        worker.join()
        await asyncio.sleep(1)

    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.raises(Threaded, match="worker gave work"),
    ):
        runner.run(main())


def test_a_party_that_stands_still_does_late_what_was_due_and_the_others_go_on() -> None:
    seen: dict[str, list[tuple[float, str]]] = {"a": [], "b": []}
    timers: list[asyncio.TimerHandle] = []

    async def live(name: str, ear: asyncio.Queue[str]) -> None:
        PARTY.set(name)
        loop = asyncio.get_running_loop()
        timers.append(loop.call_later(1.5, seen[name].append, (1.5, "a timer that is cancelled at 5")))
        hearing = asyncio.create_task(hear(name, ear))
        for turn in ("first", "second", "third"):
            await asyncio.sleep(1)
            seen[name].append((loop.time(), turn))
        await hearing

    async def hear(name: str, ear: asyncio.Queue[str]) -> None:
        word = await ear.get()
        seen[name].append((asyncio.get_running_loop().time(), word))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        ears = {name: asyncio.Queue[str]() for name in seen}
        lives = [asyncio.create_task(live(name, ear)) for name, ear in ears.items()]
        await asyncio.sleep(1.25)
        loop.suspend("b")
        for ear in ears.values():
            ear.put_nowait("a word")
        await asyncio.sleep(3.75)
        for timer in timers:
            timer.cancel()
        await asyncio.sleep(5)
        loop.resume()
        await asyncio.gather(*lives)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    timer = (1.5, "a timer that is cancelled at 5")
    assert seen["a"] == [(1.0, "first"), (1.25, "a word"), timer, (2.0, "second"), (3.0, "third")]
    assert seen["b"] == [(1.0, "first"), (10.0, "a word"), (10.0, "second"), (11.0, "third")]


def test_the_same_start_takes_the_same_course() -> None:
    async def racer(name: str, chance: random.Random, seen: list[tuple[str, float]]) -> None:
        for _ in range(20):
            await asyncio.sleep(chance.random())
            seen.append((name, asyncio.get_running_loop().time()))

    async def race(seed: int) -> list[tuple[str, float]]:
        chance, seen = random.Random(seed), list[tuple[str, float]]()
        await asyncio.gather(*(racer(name, chance, seen) for name in "abc"))
        return seen

    def run(seed: int) -> list[tuple[str, float]]:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(race(seed))

    assert run(1) == run(1) != run(2)
