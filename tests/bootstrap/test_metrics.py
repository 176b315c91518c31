"""`/metrics` of a whole scheduler: every value of a known situation, as Prometheus reads it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from pysqlite3 import dbapi2

from cpa.api.app import create_app
from cpa.bootstrap import Scheduler, open_engine, services_of
from cpa.core.job import JobSpec, TaskSpec
from cpa.orchestrator.registration import Registration
from cpa.ports.agents import AgentStatus, Beat
from cpa.ports.engine import Submission
from cpa.ports.keys import Caller, Scope
from cpa.security.auth import FIXED
from cpa.settings import Settings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"
KEY = "ein-fester-Schluessel"
BROKEN = [
    {"id": "first", "action": "flow.noop", "arguments": {"value": "Grüße"}},
    {"id": "send", "action": "flow.noop", "arguments": {"value": "{{ tasks.first.result.value.nichts }}"}},
]
FORM = {"question": "Was darf es kosten?", "form": {"amount": {"type": "number"}}}


@dataclass
class House:
    scheduler: Scheduler
    client: httpx2.AsyncClient

    async def submit(self, *tasks: dict[str, Any], status: str = "", **more: Any) -> str:
        """A job of these tasks, once it has that status."""
        answer = await self.client.post("/jobs", json={"task_graph": list(tasks)} | more)
        assert answer.status_code == 201, answer.text
        job: str = answer.json()["job_id"]
        if status:
            ended = (await self.client.get(f"/jobs/{job}", params={"wait": 20})).json()["job"]
            assert ended["status"] == status
        return job

    async def agent(self, name: str, action: str, status: AgentStatus) -> str:
        """One with one slot, that was just heard of; its id."""
        wanted = Registration(name=name, type="DATA", capabilities=(action,), slots=1)
        known = (await self.scheduler.directory.register(wanted, FIXED)).agent
        scopes = frozenset((Scope.AGENT,))
        speaker = Caller(tenant="default", key=known.key, name=known.address, scopes=scopes)
        await self.scheduler.directory.heartbeat(speaker, known.id, Beat(status=status))
        return known.id

    async def figures(self) -> dict[str, Any]:
        """By name: the value, or those by the values of the labels (in the order of their names)."""
        answer = await self.client.get("/metrics")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = tuple(value for _, value in sorted(sample.labels.items()))
                if labels:
                    found.setdefault(sample.name, {})[labels] = sample.value
                else:
                    found[sample.name] = sample.value
        return found

    async def until(self, name: str, value: Any) -> dict[str, Any]:
        """The figures once this one is so."""
        async with asyncio.timeout(20):
            while (found := await self.figures())[name] != value:
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    settings = Settings(_env_file=None, data=folder, builtin_agent=False, api_key=KEY, max_running=77)
    async with open_engine(settings) as scheduler:
        transport = httpx2.ASGITransport(app=create_app(services_of(scheduler)))
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers={"X-API-Key": KEY}
        ) as client:
            yield House(scheduler, client)


def one(words: dict[str, float], **zero: float) -> dict[tuple[str, ...], float]:
    return {(word,): value for word, value in (zero | words).items()}


STATUS = dict.fromkeys(("pending", "running", "done", "failed", "cancelled"), 0)
ASKED = dict.fromkeys(("approval", "proposal", "input", "doubt"), 0)
ENDED = dict.fromkeys(
    ("succeeded", "failed", "refused", "proposed", "lost", "timed_out", "withdrawn", "stopped"), 0
)
OPEN = dict.fromkeys(
    ("dispatch_task", "request_task", "cancel_attempt", "verify_task", "ask_person", "start_timer"), 0
)


async def test_a_server_that_has_done_nothing_yet(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        found = await home.figures()

    assert found["cpa_jobs"] == one(STATUS)
    assert found["cpa_questions_open"] == one(ASKED)
    assert found["cpa_commands_open"] == one(OPEN)
    assert found["cpa_attempts_ended_total"] == one(ENDED)
    assert found["cpa_attempts_begun_total"] == {("no",): 0, ("yes",): 0}
    assert set(found["cpa_agents"].values()) == {0}
    assert (found["cpa_jobs_busy"], found["cpa_jobs_busy_limit"], found["cpa_jobs_loaded"]) == (0, 77, 0)
    assert {labels for labels, so in found["cpa_health"].items() if so} == {
        ("healthy", part) for part in ("store", "engine", "agents")
    }
    assert [*found["cpa_build_info"]] == [("local", services_of(home.scheduler).version)]
    names = {name for name in found if not name.startswith(("process_", "python_"))}
    assert all(name.startswith("cpa_") for name in names)


async def test_every_figure_of_a_known_situation(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.submit({"action": "flow.noop", "arguments": {"value": "Grüße"}}, status="done")
        other = Submission(tenant="größe", spec=JobSpec((TaskSpec("a", "flow.noop", {"value": 1}),)))
        job = (await home.scheduler.engine.submit(other)).job
        await home.scheduler.engine.wait("größe", job, 20)
        dead = await home.submit(*BROKEN, status="failed")
        for _ in range(3):
            await home.client.post(f"/jobs/{dead}/retry")
            await home.client.get(f"/jobs/{dead}", params={"wait": 20})
        await home.submit({"action": "flow.noop", "arguments": {"value": 1}}, run_at="2100-01-01T00:00:00Z")
        await home.submit({"action": "person.ask", "arguments": FORM})
        await home.submit({"action": "flow.noop", "arguments": {"value": 1}, "approval": True})
        await home.agent("rechner", "x.rechner.add", AgentStatus.ONLINE)
        await home.agent("schwer", "x.schwer.tun", AgentStatus.BUSY)
        going = await home.agent("geht", "x.geht.tun", AgentStatus.ONLINE)
        await home.client.post(f"/agents/{going}/state", json={"state": "draining"})
        for _ in range(2):
            await home.submit({"action": "x.rechner.add", "arguments": {"a": 1}})

        asked = {"ask_person": 2, "request_task": 1, "dispatch_task": 1}
        found = await home.until("cpa_commands_open", one(OPEN | asked))

    assert found["cpa_jobs"] == one(STATUS | {"pending": 1, "running": 4, "done": 2, "failed": 1})
    assert found["cpa_dead_letters"] == 1
    assert found["cpa_questions_open"] == one(ASKED | {"approval": 1, "input": 1})
    assert (found["cpa_timers_overdue"], found["cpa_timers_late_seconds"]) == (0, 0)
    assert (found["cpa_jobs_loaded"], found["cpa_jobs_busy"], found["cpa_jobs_aside"]) == (5, 2, 0)
    agents = {labels: count for labels, count in found["cpa_agents"].items() if count}
    assert agents == {("active", "online"): 1, ("active", "busy"): 1, ("draining", "online"): 1}
    assert (found["cpa_attempts_running"], found["cpa_tasks_waiting"]) == (1, 1)
    # Two that are done; the first step of the dead one once, its second in each of four runs; one with the agent.
    assert found["cpa_attempts_begun_total"] == {("no",): 8, ("yes",): 0}
    assert found["cpa_attempts_ended_total"] == one(ENDED | {"succeeded": 3, "failed": 4})


async def test_while_the_store_cannot_be_read_the_rest_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house(tmp_path) as home:
        with dbapi2.connect(tmp_path / "cpa.db") as store:
            store.execute("ALTER TABLE job_counts RENAME TO elsewhere")
        found = await home.figures()
        with dbapi2.connect(tmp_path / "cpa.db") as store:
            store.execute("ALTER TABLE elsewhere RENAME TO job_counts")

    assert "cpa_jobs" not in found
    assert "figures_left_out" in "".join(capsys.readouterr())
    assert found["cpa_attempts_running"] == 0


async def test_the_page_for_operators_names_each_figure_and_no_other(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        found = await home.figures()
    text = DOCUMENT.read_text("utf-8").partition("## Figures for Prometheus\n")[2].partition("\n## ")[0]

    named = set(re.findall(r"\b(?:cpa|process|python)_[a-z_]+", text))
    assert {name for name in found if name.startswith("cpa_")} == {
        name for name in named if name[:3] == "cpa"
    }
    assert named <= set(found)


def test_what_the_page_shows_is_yaml_that_prometheus_can_read() -> None:
    """Of every rule an expression, how long, and what somebody is to do."""
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    scrape, rules = (yaml.safe_load(block) for block in blocks)

    [job] = scrape["scrape_configs"]
    assert (job["metrics_path"], [*job["http_headers"]]) == ("/metrics", ["X-API-Key"])
    [group] = rules["groups"]
    assert [set(rule) for rule in group["rules"]] == [{"alert", "expr", "for", "annotations"}] * 3


async def test_no_series_grows_with_what_there_is(tmp_path: Path) -> None:
    """Not one more line for more jobs, agents, tenants, actions or people."""
    async with house(tmp_path) as home:
        before = await home.client.get("/metrics")
        for number in range(3):
            name = f"größe-{number}"
            await home.submit({"action": "flow.noop", "arguments": {"value": name}}, status="done")
            wanted = Registration(name=name, type=f"ART{number}", capabilities=(f"x.art{number}.tun",))
            await home.scheduler.directory.register(wanted, FIXED)
            spec = JobSpec((TaskSpec("a", "flow.noop", {"value": 1}),))
            await home.scheduler.engine.submit(Submission(tenant=name, spec=spec))
        after = await home.client.get("/metrics")

    assert after.text.count("\n") == before.text.count("\n")
    assert "größe" not in after.text
