"""What agents and people get wrong, line by line: a clear answer, and nothing changed. On the whole scheduler."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.security.house import House, Member, house

from cpa.core.job import JobSpec, TaskSpec, TaskStatus
from cpa.demo.serving import serve
from cpa.ports.engine import Submission
from cpa.ports.keys import Scope

ADD = JobSpec((TaskSpec(id="größe", action="x.rechner.add"),))
ABOUT: dict[str, Any] = {"name": "neu", "type": "DATA", "capabilities": ["x.rechner.add"]}
DONE: dict[str, Any] = {"result": {"sum": 7}}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(
        tmp_path, allow_private=("127.0.0.1",), heartbeat_seconds=0.2, builtin_agent=False
    ) as opened:
        yield opened


async def at_work(home: House, agent: Member, spec: JobSpec = ADD) -> dict[str, Any]:
    """The agent lives and holds the only task of a new job; how its messages name that attempt."""
    beat = agent.request(f"/agents/{agent.id}/heartbeat", {"status": "online", "instance": "i1"})
    assert (await home.client.send(beat)).status_code == 200
    job = (await home.scheduler.engine.submit(Submission(tenant="default", spec=spec))).job
    async with asyncio.timeout(20):
        while (await home.scheduler.engine.query("default", job)).tasks[0].agent != agent.address:
            await asyncio.sleep(0.01)
    return {"jobId": job, "taskId": spec.tasks[0].id, "epoch": 1}


async def state(home: House, about: dict[str, Any]) -> tuple[Any, ...]:
    """All that could have changed: the job's last event, its task's result, who is registered."""
    snapshot = await home.scheduler.engine.query("default", about["jobId"])
    agents = [each.address for each in home.scheduler.directory.list("default")]
    return snapshot.head.number, snapshot.tasks[0].status, snapshot.tasks[0].result, agents


def clear(answer: httpx2.Response, status: int, field: str) -> None:
    """It names what is wrong, and what to do."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["field"] == field
    assert told["detail"]
    assert told["remedy"]


async def register(home: House, **more: Any) -> httpx2.Response:
    admin = await home.key(Scope.ADMIN, name="admin")
    return await home.client.post("/agents/register", json=ABOUT | more, headers={"X-API-Key": admin})


@pytest.mark.parametrize("name", ["rechner", "RECHNER"])
async def test_a_duplicate_name(home: House, name: str) -> None:
    agent = await Member.enrol(home, "rechner")
    about = await at_work(home, agent)
    before = await state(home, about)
    clear(await register(home, name=name), 409, "name")
    assert await state(home, about) == before


async def test_a_capability_nobody_knows(home: House) -> None:
    agent = await Member.enrol(home, "rechner")
    about = await at_work(home, agent)
    before = await state(home, about)
    answer = await register(home, capabilities=["x.rechner.add", "web.klick"])
    clear(answer, 422, "capabilities[1]")
    assert "web.click" in answer.json()["remedy"]
    assert await state(home, about) == before


async def test_an_agent_with_an_unreachable_endpoint(home: House) -> None:
    """It may come later, so it is registered; what it would get goes to nobody, and people see why."""
    nobody = await Member.enrol(home, "fern", endpoint="http://127.0.0.1:9/")
    admin = {"X-API-Key": await home.key(Scope.ADMIN, name="admin")}
    about = await at_work(home, nobody)
    async with asyncio.timeout(20):
        while not (shown := (await home.client.get(f"/agents/{nobody.id}", headers=admin)).json())["trouble"]:
            await asyncio.sleep(0.01)
    assert "127.0.0.1:9 cannot be reached" in shown["trouble"]
    async with asyncio.timeout(20):
        while (await state(home, about))[1] is TaskStatus.ASSIGNED:
            await asyncio.sleep(0.01)
    snapshot = await home.scheduler.engine.query("default", about["jobId"])
    assert snapshot.tasks[0].result is None
    assert not snapshot.head.status.ended


def answering(status: int, body: Any = None) -> Starlette:
    """What listens at an agent's endpoint and answers everything alike."""

    async def take(request: Request) -> Response:
        await request.body()
        return JSONResponse(body, status)

    return Starlette(routes=[Route("/{path:path}", take, methods=["POST", "DELETE"])])


async def explained(home: House, agent: Member, about: dict[str, Any], **wanted: str) -> dict[str, Any]:
    """The explanation of the only task, once it says this; the agent beats and names nothing."""
    admin = {"X-API-Key": await home.key(Scope.ADMIN, name="admin")}
    beat = f"/agents/{agent.id}/heartbeat", {"status": "online", "instance": "i1"}
    async with asyncio.timeout(20):
        while True:
            await home.client.send(agent.request(*beat))
            answer = await home.client.get(f"/jobs/{about['jobId']}/explain", headers=admin)
            [told] = answer.json()["tasks"]
            if wanted.items() <= told.items():
                return dict(told)
            await asyncio.sleep(0.02)


async def test_an_agent_that_takes_every_task_and_says_nothing_of_any(home: House) -> None:
    async with serve(answering(202)) as url:
        mute = await Member.enrol(home, "stumm", endpoint=url)
        told = await explained(home, mute, await at_work(home, mute), reason="agent_silent", actor="operator")
    assert f"Agent {mute.address} has it (attempt " in told["evidence"]
    assert "and has not said yet that it does it." in told["evidence"]


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (422, {"code": "too_small", "detail": {"loc": ["n"]}, "title": "zu klein"}, "zu klein"),
        (404, {"detail": "Not Found"}, "the server answered 404: Not Found"),
        (307, None, "the endpoint answers 307 and would have us go elsewhere"),
    ],
)
async def test_an_endpoint_that_takes_nothing(home: House, status: int, body: Any, why: str) -> None:
    """Waiting does not help: it is named, with what does."""
    async with serve(answering(status, body)) as url:
        agent = await Member.enrol(home, "nein", endpoint=url)
        told = await explained(home, agent, await at_work(home, agent), status="held")
    assert (told["reason"], told["actor"]) == ("agent_not_reached", "operator")
    assert told["evidence"] == (
        f"Agent {agent.address} did not take it: {why}; it is tried again at {told['starts']}."
    )
    assert told["remedy"].startswith(f"Look at the agent: `cpa agents show {agent.address}`.")


async def test_an_endpoint_where_nobody_listens_is_told_of_between_two_attempts_too(home: House) -> None:
    nobody = await Member.enrol(home, "fern", endpoint="http://127.0.0.1:9/")
    told = await explained(home, nobody, await at_work(home, nobody), status="held")
    assert (told["reason"], told["actor"]) == ("agent_not_reached", "operator")
    assert told["evidence"].startswith(
        f"Agent {nobody.address} did not answer within 0.4 s: 127.0.0.1:9 cannot be reached"
    )


async def test_a_message_of_2_mb(home: House) -> None:
    agent = await Member.enrol(home, "rechner")
    about = await at_work(home, agent)
    before = await state(home, about)
    large = {"result": {"text": "ä" * 1_000_000}}
    clear(await agent.say(home, "done", large, correlation=about), 413, "body")
    assert await state(home, about) == before


async def test_another_tenant(home: House) -> None:
    here, there = await Member.enrol(home, "rechner"), await Member.enrol(home, "rechner", tenant="nord")
    about = await at_work(home, here)
    before = await state(home, about)
    foreign = {"tenant": "nord"}
    clear(await here.say(home, "done", DONE, correlation=about, context=foreign), 403, "context.tenant")
    clear(await there.say(home, "done", DONE, correlation=about), 404, "job")
    assert await state(home, about) == before


async def test_done_for_another_agents_task(home: House) -> None:
    holder, thief = await Member.enrol(home, "rechner"), await Member.enrol(home, "dieb")
    about = await at_work(home, holder)
    before = await state(home, about)
    clear(await thief.say(home, "done", DONE, correlation=about), 403, "sender")
    clear(await thief.say(home, "done", DONE, correlation=about, sender=holder.address), 403, "sender")
    assert await state(home, about) == before


@pytest.mark.parametrize(
    ("progress", "status", "field"),
    [
        ("7.3", 422, "payload.progress"),
        ("-1", 422, "payload.progress"),
        ('"0.5"', 422, "payload.progress"),
        ("true", 422, "payload.progress"),
        ("NaN", 400, "body"),
        ("Infinity", 400, "body"),
        ("1e999", 400, "body"),
    ],
)
async def test_progress_that_is_none(home: House, progress: str, status: int, field: str) -> None:
    agent = await Member.enrol(home, "rechner")
    about = await at_work(home, agent)
    before = await state(home, about)
    said = json.dumps(agent.message("inform", {"progress": 0.125}, correlation=about))
    headers = {"X-API-Key": agent.key, "Content-Type": "application/json"}
    content = said.replace("0.125", progress).encode()
    clear(await home.client.post("/lam/message", content=content, headers=headers), status, field)
    assert await state(home, about) == before


@pytest.mark.parametrize(
    ("payload", "status", "field"),
    [
        ({"result": [7]}, 422, "payload.result"),
        ({"result": {"sum": 7}, "execution_time": -1}, 422, "payload.execution_time"),
        ({"result": {}, "artifacts": ["../../etc/passwd"]}, 422, "payload.artifacts[0].artifact"),
        ({"result": {"text": "a\0b"}}, 400, "payload.result.text"),
    ],
)
async def test_a_done_that_breaks_the_schema_of_messages(
    home: House, payload: dict[str, Any], status: int, field: str
) -> None:
    agent = await Member.enrol(home, "rechner")
    about = await at_work(home, agent)
    before = await state(home, about)
    clear(await agent.say(home, "done", payload, correlation=about), status, field)
    assert await state(home, about) == before


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({"file": "rechnung.pdf"}, "file is of the wrong type"),
        ({"file": {"artifact": "sha256:" + "0" * 64, "name": "rechnung.pdf"}}, "there is no file"),
    ],
)
async def test_a_result_that_breaks_the_schema_of_its_action(
    home: House, result: dict[str, Any], why: str
) -> None:
    """Nothing of it is taken: the attempt failed, and its job says what was wrong."""
    agent = await Member.enrol(home, "browser", capabilities=["web.download"])
    about = await at_work(home, agent, JobSpec((TaskSpec(id="laden", action="web.download"),)))
    told = await agent.say(home, "done", {"result": result}, correlation=about)
    assert told.json()["effect"] == "task_failed"
    run = (await home.scheduler.engine.query("default", about["jobId"])).tasks[0]
    assert (run.status, run.result) == (TaskStatus.FAILED, None)
    assert run.error is not None
    assert (run.error.code, why in run.error.message) == ("result_invalid", True)
