"""An agent in a few lines."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.agents.process import Hands
from tests.agents.scheduler import ADMIN, FakeScheduler, scheduling
from tests.servers.scheduler import clean_environment

from cpa.agents import Agent
from cpa.errors import BadInput

CALCULATOR = """
from cpa.agents import Agent

agent = Agent("rechner", type="DATA", slots=2)

@agent.action("x.calculator.add", effect="idempotent")
async def add(a: float, b: float) -> dict[str, float]:
    return {"sum": a + b}

agent.run()
"""


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    async with scheduling() as running:
        yield running


async def test_a_script_is_an_agent(scheduler: FakeScheduler, tmp_path: Path) -> None:
    (tmp_path / "rechner.py").write_text(CALCULATOR)
    environment = clean_environment(CPA_URL=scheduler.url, CPA_API_KEY=ADMIN)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "rechner.py"), cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line == "ready: agent://data/rechner via channel, x.calculator.add\n"
        assert (tmp_path / "rechner-agent" / "agent.json").exists()
        await scheduler.push(
            scheduler.request("x.calculator.add", arguments={"a": 2, "b": 3}, effect="idempotent")
        )
        await scheduler.until(lambda: "done" in scheduler.types(), "done")
        assert scheduler.of_type("done")[0].to_dict()["payload"]["result"] == {"sum": 5.0}
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert scheduler.beats[-1]["status"] == "offline"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_defect_of_a_function_is_found_by_its_line_in_the_log(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    text = CALCULATOR.replace("async def", "def").replace(
        'return {"sum": a + b}', 'raise ValueError("kaputt: Ä")'
    )
    (tmp_path / "rechner.py").write_text(text)
    environment = clean_environment(CPA_URL=scheduler.url, CPA_API_KEY=ADMIN)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "rechner.py"),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        await scheduler.push(
            scheduler.request("x.calculator.add", arguments={"a": 2, "b": 3}, effect="idempotent")
        )
        await scheduler.until(lambda: "failure" in scheduler.types(), "failing")
        said = scheduler.of_type("failure")[0].to_dict()["payload"]
        assert (
            said["message"] == "The executor of `x.calculator.add` at agent rechner failed with ValueError."
        )
        assert "the log of agent rechner says where" in said["remedy"]
        assert "`Failed`" in said["remedy"]
    finally:
        process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    logged = map(json.loads, errors.decode().splitlines())
    [defect] = [entry for entry in logged if entry["event"] == "executor_defect"]
    assert defect["error"] == "ValueError: kaputt: Ä"
    assert defect["at"].endswith("rechner.py:8, in add")


async def test_a_refusal_is_one_line_and_an_exit_code(scheduler: FakeScheduler, tmp_path: Path) -> None:
    (tmp_path / "rechner.py").write_text(CALCULATOR)
    environment = clean_environment(CPA_URL=scheduler.url, CPA_API_KEY="wrong")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "rechner.py"), cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert errors.decode().splitlines()[-1].startswith("rechner: no key")
    assert not (tmp_path / "rechner-agent").exists(), "it never was one"
    assert "Traceback" not in errors.decode()


async def test_functions_and_executors_are_one_agent(scheduler: FakeScheduler, tmp_path: Path) -> None:
    agent = Agent("beides", url=scheduler.url, key=ADMIN, data=tmp_path, tags=("büro",))

    @agent.action("x.test.more")
    async def more() -> None: ...

    agent.add(Hands())
    life = asyncio.create_task(agent.serve())
    await scheduler.until(lambda: scheduler.beats, "beating")
    [said] = scheduler.registrations
    assert said["capabilities"] == ["x.test.do", "x.test.look", "x.test.more", "büro"]
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


async def test_an_agent_without_actions_is_refused() -> None:
    with pytest.raises(BadInput, match="no action"):
        await Agent("leer").serve()


def test_slots_and_effects_are_checked_at_once() -> None:
    with pytest.raises(BadInput, match="slot"):
        Agent("a", slots=0)
    with pytest.raises(BadInput, match="several words"):
        Agent("a", tags="lager")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="verify"):
        Agent("a").action("x.a.b", effect="verifiable")
    with pytest.raises(ValueError, match="harmless"):
        Agent("a").action("x.a.b", effect="harmless")
