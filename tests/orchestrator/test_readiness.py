"""What keeps agents from a task: each reason is one that people can be told."""

from __future__ import annotations

import pytest

from cpa.core.events import JobSubmitted
from cpa.core.explain import Reason, explain
from cpa.core.job import JobSpec, TaskSpec
from cpa.core.replay import replay
from cpa.orchestrator.readiness import BUDGET, BUSY, LASTING, STAGES

SPEC = JobSpec((TaskSpec("a", "web.click"),))


@pytest.mark.parametrize("word", sorted({*STAGES, BUDGET} - {BUSY}))
def test_every_reason_is_explained_as_such(word: str) -> None:
    submitted = JobSubmitted(time=1, tenant="default", job="j", spec="", tasks=1, start=True)
    [(_, _, job)] = replay(SPEC, [submitted])

    [told] = explain(job.snapshot(), {0: word})

    assert told.reason is Reason(word)
    assert "web.click" in told.evidence


def test_what_lasts_is_a_reason() -> None:
    assert set(LASTING) < set(STAGES)
