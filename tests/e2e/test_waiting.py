"""Commands that wait for a job against a real `cpa serve` that is killed (-9) meanwhile and started again on the
same folder and port: they go on where they stood, and end as the job ends."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.servers.http import Received, WebService, response
from tests.servers.scheduler import Scheduler, clean_environment, cpa, serving

from cpa.cli import jobs, waiting
from cpa.cli.client import Client, Unreachable
from cpa.cli.watch import follow

ASKING = [
    {"id": "öffnen", "action": "flow.noop"},
    {"id": "fragen", "action": "person.ask", "arguments": {"question": "Wie viel?"}},
    {"id": "schließen", "action": "flow.noop", "depends_on": ["öffnen", "fragen"]},
]


def kill(server: Scheduler) -> None:
    server.process.kill()
    server.process.wait()


class Waiting:
    """A command of which every line is noted as it comes."""

    def __init__(self, server: Scheduler, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cpa", *arguments],
            cwd=server.data.parent,
            env=clean_environment(**server.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out, self.errors = list[str](), list[str]()
        streams = ((self.process.stdout, self.out), (self.process.stderr, self.errors))
        self._readers = [
            threading.Thread(target=list.extend, args=(into, stream)) for stream, into in streams
        ]
        for reader in self._readers:
            reader.start()

    def until(self, text: str) -> None:
        patience = time.monotonic() + 60
        while not any(text in line for line in (*self.out, *self.errors)):
            assert time.monotonic() < patience, (text, self.out, self.errors)
            time.sleep(0.05)

    def end(self) -> int:
        with self.process:
            code = self.process.wait(60)
            for reader in self._readers:
                reader.join()
        return code


@contextmanager
def command(server: Scheduler, *arguments: str) -> Iterator[Waiting]:
    running = Waiting(server, *arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.end()


@pytest.mark.parametrize("how", ["--watch", "--wait"])
def test_whoever_waits_sees_every_event_once_over_a_kill_and_how_the_job_ends(
    tmp_path: Path, how: str
) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"tasks": ASKING}))
    with serving(tmp_path) as first, command(first, "submit", "--graph", "plan.json", how) as shown:
        shown.until("cpa answer")
        kill(first)
        shown.until("trying again")
        with serving(tmp_path, port=urlsplit(first.url).port or 0) as second:
            shown.until("answers again")
            assert cpa(second, "answer", "last", "drei").returncode == 0
            code = shown.end()
            with Client(second.url, second.key) as api:
                [job] = api.get("/jobs")["jobs"]
                events = api.get(f"/jobs/{job['id']}/events")["events"]

    assert code == 0, shown.errors
    told = [line.strip() for line in shown.errors if "the server" in line]
    assert told == [
        "cpa: the server does not answer; trying again for 120 s",
        "cpa: the server answers again",
    ]
    if how == "--watch":
        numbers = [int(found[1]) for line in shown.out if (found := re.match(r"\S+ \S+ +(\d+)  ", line))]
        assert numbers == [each["seq"] for each in events if each["type"] != "agent_chosen"]
    assert sum(line.startswith("✔ done") for line in shown.out) == 1


def test_a_server_that_stays_away_ends_the_waiting_with_how_to_look_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 1.0)
    with serving(tmp_path) as server, Client(server.url, server.key) as api:
        job = api.post("/jobs", {"task_graph": ASKING})["job_id"]
        kill(server)
        with pytest.raises(Unreachable, match=f"cpa job {job} --watch"):
            jobs._await(api, job, as_json=False)
        with pytest.raises(Unreachable, match=f"cpa job {job} --watch"):
            follow(api, job)


def test_a_server_that_never_answered_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        kill(server)
        done = cpa(server, "job", "0198c2a0-0000-7000-8000-000000000000", "--wait")

    assert done.returncode == 3
    assert "cannot be reached" in done.stderr
    assert "trying again" not in done.stderr


async def test_a_request_whose_receipt_gets_lost_becomes_one_job(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"tasks": ASKING}))
    given = list[str]()
    with serving(tmp_path) as server:

        async def pass_on(request: Received, writer: asyncio.StreamWriter) -> None:
            """The first answer gets lost."""
            sent = {"content-type", "idempotency-key", "x-api-key"} & request.headers.keys()
            headers = {name: request.headers[name] for name in sent}
            async with httpx2.AsyncClient(trust_env=False) as there:
                answer = await there.post(
                    f"{server.url}{request.target}", content=request.body, headers=headers
                )
            given.append(answer.json()["job_id"])
            if len(given) > 1:
                came = {"X-Correlation-ID": answer.headers["X-Correlation-ID"]}
                writer.write(response(answer.content, status="201 Created", headers=came))

        async with WebService({"/jobs": pass_on}) as way:
            reached = replace(server, url=way.url(""))
            done = await asyncio.to_thread(cpa, reached, "submit", "--graph", "plan.json")

    assert (done.returncode, done.stdout.split()) == (0, given[:1]), done.stderr
    assert len(given) == 2
    assert given[0] == given[1]


def test_a_request_that_may_have_arrived_is_told_with_what_makes_it_no_second_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(url, timeout=0.2) as api,
            pytest.raises(Unreachable, match=r"--idempotency-key .* gives the same job"),
        ):
            jobs._asking(api, "/jobs", {"task_graph": ASKING}, "")
