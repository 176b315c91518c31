"""What an agent's beats say, and what their answers do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.repository.shell import SteppedClock

from cpa.agents.beats import answered, beat_of
from cpa.agents.conversation import Conversations
from cpa.agents.messages import Speaker
from cpa.agents.outbox import Outbox
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.agents import AgentStatus, Beat, Readiness

LEASE = 15.0


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def conversations(tmp_path: Path, clock: SteppedClock) -> AsyncIterator[Conversations]:
    outbox = await Outbox.open(tmp_path / "outbox.db", "one", clock)
    speaker = Speaker("agent://web/eins", uuid4, clock.now_ms)
    yield Conversations(speaker, outbox, ExecutorRegistry([]), clock, life="one", slots=2)
    await outbox.close()


@pytest.mark.parametrize(("late", "pause"), [(0.0, 5.0), (LEASE - 1, 5.0), (LEASE, 0.0), (60.0, 0.0)])
async def test_an_answer_that_is_older_than_a_lease_has_the_next_beat_sent_at_once(
    conversations: Conversations, clock: SteppedClock, late: float, pause: float
) -> None:
    sent = clock.monotonic()
    await clock.sleep(late)
    assert answered(conversations, {"lost": []}, sent, interval=5.0, lease=LEASE) == pause
    assert conversations.fence.closed == (not pause)


async def test_who_leaves_says_that_it_takes_nothing(conversations: Conversations) -> None:
    locked = Readiness(session_locked=True)
    assert beat_of(conversations, "one", locked) == Beat(
        status=AgentStatus.ONLINE, free=2, instance="one", readiness=locked
    )
    conversations.draining = True
    assert beat_of(conversations, "one", Readiness()) == Beat(status=AgentStatus.BUSY, free=0, instance="one")
