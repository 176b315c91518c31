"""What the tests ask a scheduler for."""

from __future__ import annotations

from typing import Any

import httpx2
from tests.servers.ports import wait_until
from tests.servers.scheduler import Scheduler


class Client:
    """A person with the admin's key. Close it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._http = httpx2.Client(
            base_url=scheduler.url, headers={"X-API-Key": scheduler.key}, timeout=40.0, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def submit(self, *tasks: dict[str, Any]) -> str:
        answer = self._http.post("/jobs", json={"description": "Probe", "task_graph": list(tasks)})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["job_id"])

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self._http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: dict[str, Any]) -> httpx2.Response:
        return self._http.post(path, json=body)

    def delete(self, path: str) -> httpx2.Response:
        return self._http.delete(path)

    def end(self, job: str, *, seconds: float = 40.0) -> dict[str, Any]:
        """The job once its run has ended."""
        wait_until(
            lambda: self.get(f"/jobs/{job}", wait=5)["status"] not in ("pending", "running"),
            f"the end of {job}",
            seconds=seconds,
        )
        found: dict[str, Any] = self.get(f"/jobs/{job}")
        return found

    def events(self, job: str, *types: str) -> list[dict[str, Any]]:
        """Of these types, or all."""
        found: list[dict[str, Any]] = self.get(f"/jobs/{job}/events")["events"]
        return [each for each in found if not types or each["type"] in types]

    def results(self, job: str) -> list[Any]:
        """What its tasks gave, in their order."""
        return [task["result"] for task in self.get(f"/jobs/{job}/tasks")["tasks"]]

    def wait_event(self, job: str, type: str, *, seconds: float = 20.0) -> dict[str, Any]:
        wait_until(lambda: bool(self.events(job, type)), f"{type} of {job}", seconds=seconds)
        return self.events(job, type)[0]
