"""Whatever comes in, the door answers, in time, as documented, and never with a 5xx.

Schemathesis draws requests from the OpenAPI document, valid and broken ones, and sends them to the app over
its ASGI interface. The key is an admin's, so that nothing stops at the door; jobs, questions and files of a
prepared store are offered as path parameters, so that the depth behind them is reached too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from tests.api.conftest import noop, open_door

from cpa.api.server import Server, listen
from cpa.ports.keys import Scope

EXAMPLES = 30
"""Per route; with 32 routes about 60 seconds."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real server in a thread of its own, with a job that waits for an answer and a stored file."""
    found: dict[str, str] = {}
    ready, stop = threading.Event(), threading.Event()

    async def run(folder: Path) -> None:
        door = open_door(folder)
        found["key"] = await door.key(Scope.ADMIN, name="agent://user/anna")
        async with door.client(found["key"]) as client:
            created = await client.post("/jobs", json={"task_graph": [noop(), noop("ask", approval=True)]})
            found["job_id"] = created.json()["job_id"]
            found["question_id"] = f"{found['job_id']}.1.1"
            about = {"name": "eins", "type": "WEB", "capabilities": ["web.click"]}
            registered = await client.post("/agents/register", json=about)
            found["agent_id"] = registered.json()["agent_id"]
            found["digest"] = (await client.post("/artifacts", content=b"Inhalt")).json()["artifact"]
        bound = listen("127.0.0.1", 0)

        def started(url: str) -> None:
            found["url"] = url
            ready.set()

        server = Server(door.app, bound, shutdown_seconds=1, ready=started)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        await asyncio.to_thread(stop.wait)
        server.should_exit = True
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(run(tmp_path_factory.mktemp("fuzz"))))
    thread.start()
    assert ready.wait(10), "the server did not start"
    yield found
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.timeout(240)
def test_no_request_is_answered_with_a_server_error(target: dict[str, str]) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    headers = {"X-API-Key": target["key"]}
    schema = schemathesis.openapi.from_url(f"{target['url']}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    tried = 0

    def fuzz(operation: Any, mode: GenerationMode, *, real: bool) -> None:
        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def once(case: Any) -> None:
            nonlocal tried
            tried += 1
            for name in case.path_parameters or {}:
                if real:
                    case.path_parameters[name] = target[name]
            if isinstance((case.query or {}).get("wait"), (int, float)):
                case.query["wait"] = min(case.query["wait"], 0.01)
            case.call_and_validate(
                headers=headers,
                checks=[not_a_server_error, content_type_conformance, status_code_conformance],
                timeout=10,
            )

        once()

    for operation in operations:
        fuzz(operation, GenerationMode.POSITIVE, real="{" in operation.path)
        if operation.path not in ("/health", "/metrics"):  # They have nothing that could be wrong.
            fuzz(operation, GenerationMode.NEGATIVE, real=False)
            fuzz(operation, GenerationMode.NEGATIVE, real=True)

    assert len(operations) == 32
    assert tried > 24 * EXAMPLES / 2
