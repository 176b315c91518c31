"""An event loop that stands still, and one that is merely busy."""

from __future__ import annotations

import asyncio
import threading
import time

from structlog.testing import capture_logs

from cpa.agents.watchdog import stillness, watched


async def test_a_loop_that_stands_still_is_told_of_with_the_line_it_is_at() -> None:
    ended = threading.Event()
    with capture_logs() as logs, watched(0.05, ended.set):
        await asyncio.sleep(0)

        def never_waits() -> None:
            deadline = time.monotonic() + 20
            while not ended.is_set() and time.monotonic() < deadline:
                pass

        never_waits()
    assert ended.is_set()
    (told,) = [each for each in logs if each["event"] == "agent_stands_still"]
    assert (
        "never_waits" in told["where"] or "test_watchdog.py" in told["where"] or "threading" in told["where"]
    )
    assert "async def" in told["remedy"]


async def test_a_loop_that_turns_is_left_alone_and_the_watching_ends_with_the_block() -> None:
    ended = threading.Event()
    before = set(threading.enumerate())
    with watched(1.0, ended.set):
        (watching,) = set(threading.enumerate()) - before
        for _ in range(8):
            time.sleep(0.3)  # often missed, and never for long
            await asyncio.sleep(0.05)
    assert not watching.is_alive()
    assert not ended.is_set()


def test_an_agent_stands_still_after_a_lease_but_not_within_ten_seconds() -> None:
    assert [stillness(lease) for lease in (0.3, 3.0, 15.0, 180.0)] == [10.0, 10.0, 15.0, 180.0]
