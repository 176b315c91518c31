"""`cpa demo --agents`: the same work by three agents in processes of their own, two of which come to harm.

    browser      killed with kill -9 in the middle of a download, then started again
    calculator   stopped past its lease while it calculates, then continued: its late answer must change nothing
    postman      mails what the others found

The portal holds its files back until the browser is dead, so that it is hit at work, on any machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx2
from rich.console import Console
from starlette.types import ASGIApp, Receive, Scope, Send

from cpa.demo.crew import Member, check_signals, open_crew
from cpa.demo.mailbox import Kind
from cpa.demo.proof import Proof
from cpa.demo.stage import open_stage
from cpa.demo.story import FOLDER, SENTENCES, api_of, ask, prove, prove_trail, run, show_proofs, watch
from cpa.errors import Unavailable

BEAT: Final = 1.0
_PATIENCE: Final = 60.0
_SUM: Final = {"a": 19, "b": 23}


class Held:
    """Before the portal: files come when `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    def before(self, app: ASGIApp) -> ASGIApp:
        async def held(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"].endswith(".pdf"):
                self.asked.set()
                await self.go.wait()
            await app(scope, receive, send)

        return held


def run_agents(*, folder: Path = FOLDER, mail: Kind = "auto") -> int:
    """Play it on this terminal; exit code 0 only when every proof holds. Everything lies in `folder`."""
    console = Console(highlight=False, soft_wrap=True)
    return run(tell(console, folder=folder, mail=mail))


async def tell(console: Console, *, folder: Path, mail: Kind = "auto") -> int:
    """Play it on this console; 0 only when every proof holds. Leaves no process behind, also when cancelled."""
    check_signals()
    begin, held = time.monotonic(), Held()
    settings = {"builtin_agent": False, "heartbeat_seconds": BEAT, "shutdown_seconds": 1.0}
    async with (
        open_stage(folder, mail=mail, before=held.before, **settings) as stage,
        open_crew(stage) as (browser, postman, calculator),
        api_of(stage) as api,
    ):
        console.print(
            "[bold]CPA demo[/bold]: three agents in processes of their own, two of them come to harm\n"
        )
        for member in (browser, postman, calculator):
            console.print(f"  {member.name:<12} process {member.process}", markup=False)
        console.print(f"\n  everything up in {time.monotonic() - begin:.1f} s", style="bright_black")
        job = await _submit(api)
        console.print(f'\n[bold]>[/bold] [bold italic]"{SENTENCES["en"]}"[/bold italic], and a sum')
        console.print(f"  job {job}\n", style="bright_black")
        scene = _Scene(console, api, job)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch(console, api, job))
            group.create_task(scene.kill(browser, held))
            group.create_task(scene.stop(calculator))
        console.print()
        proofs = (*await prove(stage, watching.result()), *await scene.proofs(), await prove_trail(stage))
        show_proofs(console, proofs)
    holds = all(proof.holds for proof in proofs)
    verdict = "[bold green]Proved" if holds else "[bold red]Not proved"
    console.print(f"\n{verdict}[/] in {time.monotonic() - begin:.1f} s.")
    console.print(
        "An agent of your own: docs/EXECUTOR_GUIDE.md; agents on other machines: docs/deployment.md"
    )
    return 0 if holds else 1


async def _submit(api: httpx2.AsyncClient) -> str:
    """The sentence's own plan, and a sum that goes into the mail."""
    planned = await ask(api, "POST", "/schedule", json={"text": SENTENCES["en"], "dry_run": True})
    kept = ("id", "action", "arguments", "depends_on", "timeout", "effect")
    tasks = [{name: task[name] for name in kept} for task in planned["tasks"]]
    send = next(task for task in tasks if task["action"] == "mail.send")
    send["arguments"]["text"] += "\n\nThe calculator says {{ tasks.sum.result.sum }}."
    send["depends_on"].append("sum")
    for task in tasks:
        if task["action"] == "web.download":
            task["outputs"] = ["file"]
    added = {
        "id": "sum",
        "action": "x.calculator.add",
        "arguments": _SUM,
        "effect": "idempotent",
        "outputs": ["sum"],
    }
    body = {"description": SENTENCES["en"], "task_graph": [added, *tasks]}
    return str((await ask(api, "POST", "/jobs", json=body))["job_id"])


class _Scene:
    """What befalls the agents of one job, and what the scheduler says of it."""

    def __init__(self, console: Console, api: httpx2.AsyncClient, job: str) -> None:
        self._console, self._api, self._job = console, api, job

    async def kill(self, member: Member, held: Held) -> None:
        await held.asked.wait()
        self._say(f"kill -9 {member.name}, process {member.process}, in the middle of the download")
        await member.kill()
        await self._explain("download")
        await member.start()
        held.go.set()
        self._say(f"{member.name} is started again, process {member.process}")

    async def stop(self, member: Member) -> None:
        await self._until(lambda events: "task_started" in _types(events, "sum"), "the calculator's task")
        member.stand_still()
        self._say(f"SIGSTOP {member.name}, process {member.process}, while it calculates")
        try:
            await self._explain("sum")
        finally:
            member.go_on()
        self._say(f"SIGCONT {member.name}: it goes on, and learns that the task was taken away")

    async def proofs(self) -> tuple[Proof, ...]:
        """What is to be seen in the job's history."""
        events = (await self._page())["events"]
        lost = [event for event in events if event["type"] == "lease_lost"]
        twice = {
            event["task"] for event in events if _types(events, event["task"]).count("task_succeeded") > 1
        }
        tasks = (await ask(self._api, "GET", f"/jobs/{self._job}/tasks"))["tasks"]
        found = next(task["result"] for task in tasks if task["id"] == "sum")
        told = "; ".join(event["summary"] for event in lost)
        return (
            Proof(
                {each["task"] for each in lost} >= {"sum", "download"}, "both harms are in the history", told
            ),
            Proof(
                not twice, "no task succeeded twice, late answers changed nothing", f"{len(events)} events"
            ),
            Proof(found == {"sum": sum(_SUM.values())}, "the sum is right", f"{found}"),
        )

    async def _explain(self, task: str) -> None:
        """Say why the task waits, in the scheduler's words, once its agent was missed."""
        await self._until(lambda events: "lease_lost" in _types(events, task), f"the loss of {task}")
        told = (await ask(self._api, "GET", f"/jobs/{self._job}/explain"))["tasks"]
        for row in told:
            if row["task"] == task:
                self._say(f"explain: {task} {row['status']}. {row['evidence']} {row['remedy']}")

    async def _until(self, holds: Callable[[Sequence[Mapping[str, Any]]], bool], what: str) -> None:
        seen: list[Mapping[str, Any]] = []
        after = 0
        try:
            async with asyncio.timeout(_PATIENCE):
                while not holds(seen):
                    page = await self._page(after=after, wait=5)
                    seen += page["events"]
                    after = page["last_seq"]
        except TimeoutError:
            raise Unavailable(
                f"{what} did not come within {_PATIENCE:.0f} s",
                field="job",
                value=self._job,
                remedy=f"see `cpa explain {self._job}`",
            ) from None

    async def _page(self, **parameters: int) -> Any:
        path = f"/jobs/{self._job}/events"
        return await ask(self._api, "GET", path, params={"limit": 1000, **parameters})

    def _say(self, line: str) -> None:
        self._console.print(f"    {line}", style="yellow", markup=False)


def _types(events: Sequence[Mapping[str, Any]], task: str | None) -> list[str]:
    return [event["type"] for event in events if task is not None and event["task"] == task]
