"""An agent that is killed (SIGKILL) at each step between taking a task and knowing that its answer was heard."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from tests.agents.scheduler import ADMIN, CALLBACK, FakeScheduler, scheduling
from tests.servers.scheduler import clean_environment

from cpa.core.lam_protocol import BaseMessage

pytestmark = pytest.mark.chaos
DO = "x.crash.do"
PATIENCE = 40.0
AGENT = """
import os, signal, sys
from functools import wraps
from pathlib import Path

from cpa.agents import Agent
from cpa.agents.outbox import Outbox

DIES = sys.argv[1]

def die_at(point):
    if point == DIES:
        os.kill(os.getpid(), signal.SIGKILL)

def around(name):
    step = getattr(Outbox, name)
    @wraps(step)
    async def watched(self, *arguments):
        die_at(f"before {name}")
        found = await step(self, *arguments)
        die_at(f"after {name}")
        return found
    setattr(Outbox, name, watched)

for name in ("take", "answer", "delivered"):
    around(name)

agent = Agent("opfer", listen=sys.argv[2])

@agent.action("x.crash.do", effect=sys.argv[3])
def do(what: str) -> dict[str, str]:
    die_at("before doing")
    with open("effects", "a") as effects:
        effects.write(what + "\\n")
    die_at("after doing")
    return {"did": what}

agent.run()
"""


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    async with scheduling() as running:
        yield running


@asynccontextmanager
async def running(
    scheduler: FakeScheduler, folder: Path, *, dies: str = "never", listen: str = "", effect: str = "unsafe"
) -> AsyncIterator[asyncio.subprocess.Process]:
    (folder / "opfer.py").write_text(AGENT)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "opfer.py", dies, listen, effect),
        cwd=folder,
        env=clean_environment(CPA_URL=scheduler.url, CPA_API_KEY=ADMIN),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).startswith(b"ready")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def hand_over(scheduler: FakeScheduler, request: BaseMessage) -> None:
    endpoint = scheduler.registrations[-1]["endpoint"]
    if not endpoint:
        await scheduler.push(request)
        return
    async with httpx2.AsyncClient(trust_env=False) as client:
        try:
            await client.post(f"{endpoint}/tasks", content=request.to_json(), headers={"X-CPA-Key": CALLBACK})
        except httpx2.HTTPError:
            assert scheduler.of_type("done") == [], "it died before it could say that it took it"


def effects(folder: Path) -> list[str]:
    path = folder / "effects"
    return path.read_text().split() if path.exists() else []


# By where it dies: how often it was done when it died, and how the same request is answered afterwards.
UNSAFE = [
    ("before take", 0, "done"),
    ("after take", 0, "failure"),
    ("before doing", 0, "failure"),
    ("after doing", 1, "failure"),
    ("before answer", 1, "failure"),
    ("after answer", 1, "done"),
    ("before delivered", 1, "done"),
    ("after delivered", 1, "done"),
]


@pytest.mark.parametrize("listen", ["", "127.0.0.1:0"], ids=["channel", "http"])
@pytest.mark.parametrize(("dies", "done", "then"), UNSAFE)
async def test_what_cannot_be_repeated_is_never_done_twice(
    scheduler: FakeScheduler, tmp_path: Path, listen: str, dies: str, done: int, then: str
) -> None:
    async with running(scheduler, tmp_path, dies=dies, listen=listen) as first:
        request = scheduler.request(DO, arguments={"what": "brief"}, effect="unsafe")
        await hand_over(scheduler, request)
        assert await asyncio.wait_for(first.wait(), PATIENCE) == -9
    assert effects(tmp_path) == ["brief"] * done
    told = scheduler.of_type("done", "failure")

    async with running(scheduler, tmp_path, listen=listen):
        if then == "done" and done:
            await scheduler.until(lambda: scheduler.of_type("done"), "the answer of before", seconds=PATIENCE)
        count = len(scheduler.of_type("done", "failure"))
        await hand_over(scheduler, request)
        await scheduler.until(
            lambda: len(scheduler.of_type("done", "failure")) > count, "an answer", seconds=PATIENCE
        )
    answer = scheduler.of_type("done", "failure")[-1]
    assert answer.type == then
    assert effects(tmp_path) == ["brief"] * max(done, int(then == "done"))
    if then == "failure":
        assert answer.to_dict()["payload"]["class"] == "unknown_outcome"
    assert {each.id for each in told} <= {answer.id}, "an answer that was given stays the same"


@pytest.mark.parametrize("dies", ["after take", "after doing", "before answer", "after answer"])
async def test_what_can_be_repeated_is_done_in_the_end(
    scheduler: FakeScheduler, tmp_path: Path, dies: str
) -> None:
    async with running(scheduler, tmp_path, dies=dies, effect="idempotent") as first:
        request = scheduler.request(DO, arguments={"what": "zahl"}, effect="idempotent")
        await hand_over(scheduler, request)
        assert await asyncio.wait_for(first.wait(), PATIENCE) == -9

    async with running(scheduler, tmp_path, effect="idempotent"):
        await hand_over(scheduler, request)
        await scheduler.until(lambda: scheduler.of_type("done"), "done", seconds=PATIENCE)
    assert scheduler.types() == [*(["agree"] * scheduler.types().count("agree")), "done"]
    assert scheduler.of_type("done")[-1].to_dict()["payload"]["result"] == {"did": "zahl"}
