"""An agent proposes other arguments, a person looks at them on the command line, and the job ends as they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.agents.client import Client
from tests.e2e.agents.raw import RawAgent, raw_agent
from tests.servers.scheduler import Scheduler, clean_environment, serving

BOOK = {
    "id": "book",
    "action": "x.hotel.book",
    "arguments": {"stadt": "Köln", "nights": 2},
    "effect": "unsafe",
    "timeout": 300,
    "outputs": ["total"],
}
USE = {"id": "use", "action": "flow.noop", "arguments": {"value": "{{ tasks.book.result.total }}"}}
OTHER = {"stadt": "Bonn", "nights": 2}


def cpa(scheduler: Scheduler, *arguments: str, key: str = "") -> str:
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cpa", *arguments],
        cwd=scheduler.data.parent,
        env=clean_environment(CPA_URL=scheduler.url, CPA_API_KEY=key or scheduler.key),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@contextmanager
def asked(folder: Path) -> Iterator[tuple[Scheduler, Client, RawAgent, str, dict[str, Any]]]:
    """A job whose task an agent has been asked for."""
    # The beat is long: this agent beats when the test lets it.
    with (
        serving(folder, CPA_HEARTBEAT_SECONDS="60") as scheduler,
        closing(Client(scheduler)) as client,
        raw_agent(scheduler, "hotel", "x.hotel.book") as agent,
    ):
        job = client.submit(BOOK, USE)
        yield scheduler, client, agent, job, agent.take("request")


@pytest.mark.parametrize("yes", [True, False], ids=["agreed", "refused"])
def test_what_a_person_says_to_a_proposal_is_done(tmp_path: Path, yes: bool) -> None:
    with asked(tmp_path) as (scheduler, client, agent, job, request):
        proposal = {"arguments": OTHER, "reason": "in Köln ist nichts frei"}
        assert agent.say("propose", request, proposal) == "task_proposed"
        client.wait_event(job, "task_proposed")

        anna = cpa(scheduler, "keys", "add", "anna")
        [question] = json.loads(cpa(scheduler, "approvals", "--json", key=anna))["questions"]
        shown = cpa(scheduler, "explain", job, key=anna)
        assert "in Köln ist nichts frei" in shown
        assert "Bonn" in shown
        cpa(scheduler, "answer", question["id"], "yes" if yes else "no", key=anna)

        again = agent.take("request")
        wanted = OTHER if yes else BOOK["arguments"]
        assert (again["payload"]["arguments"], again["correlation"]["epoch"]) == (wanted, 2)
        assert agent.say("agree", again, {}) == "task_started"
        agent.beat(again)
        assert agent.say("done", again, {"result": {"total": 190.5}}) == "task_succeeded"
        assert agent.say("done", request, {"result": {"total": 1}}) in ("stale_epoch", "ended")

        assert client.end(job)["status"] == "done"
        assert client.results(job) == [{"total": 190.5}, {"value": 190.5}]
        trail = cpa(scheduler, "audit", "--job", job)
        assert "Agent proposed to do task book otherwise or later: in Köln ist nichts frei" in trail
        assert f"anna answered {'yes' if yes else 'no'} for task book" in trail
