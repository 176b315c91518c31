"""Files of an agent that knows nothing but docs/lam.md: stored with its own key, named, fetched by the next one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import httpx2
from tests.e2e.agents.client import Client
from tests.e2e.agents.raw import raw_agent
from tests.servers.scheduler import serving

CONTENT = "Größe;Preis\n".encode() * 50_000
MAKE = {
    "id": "make",
    "action": "x.report.make",
    "effect": "idempotent",
    "timeout": 300,
    "outputs": ["report"],
}
READ = {
    "id": "read",
    "action": "x.report.read",
    "arguments": {"file": "{{ tasks.make.result.report }}"},
    "effect": "idempotent",
    "timeout": 300,
}


def test_a_file_goes_from_one_task_to_the_next_by_its_reference(tmp_path: Path) -> None:
    with (
        serving(tmp_path, CPA_HEARTBEAT_SECONDS="60") as scheduler,
        closing(Client(scheduler)) as client,
        raw_agent(scheduler, "report", "x.report.make", "x.report.read") as agent,
        httpx2.Client(base_url=scheduler.url, headers={"X-API-Key": agent.key}, timeout=60) as files,
    ):
        job = client.submit(MAKE, READ)
        first = agent.take("request")
        stored = files.post("/artifacts", params={"name": "bericht.csv"}, content=CONTENT)
        assert stored.status_code == 201, stored.text
        assert agent.say("done", first, {"result": {"report": stored.json()}}) == "task_succeeded"

        second = agent.take("request")
        brought = second["payload"]["arguments"]["file"]
        assert (brought["name"], brought["size"]) == ("bericht.csv", len(CONTENT))
        assert files.get(f"/artifacts/{brought['artifact']}").content == CONTENT
        assert agent.say("done", second, {"result": {"lines": 50_000}}) == "task_succeeded"
        assert client.end(job)["status"] == "done"

        job = client.submit(MAKE)
        third = agent.take("request")
        missing = stored.json() | {"artifact": "sha256:" + "0" * 64}
        assert agent.say("done", third, {"result": {"report": missing}}) == "task_failed"
        detail = client.end(job)
        assert (detail["status"], detail["job"]["error"]["code"]) == ("failed", "result_invalid")
