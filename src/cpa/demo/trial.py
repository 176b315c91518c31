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
from functools import partial
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
from cpa.demo.words import said
from cpa.errors import Unavailable

BEAT: Final = 1.0
_PATIENCE: Final = 60.0
_SUM: Final = {"a": 19, "b": 23}
_REFERENCE: Final = "{{ tasks.sum.result.sum }}"


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


def run_agents(*, language: str = "en", folder: Path = FOLDER, mail: Kind = "auto") -> int:
    """Play it on this terminal; exit code 0 only when every proof holds. Everything lies in `folder`. `language` is
    that of all it says: German for `de`, else English."""
    console = Console(highlight=False, soft_wrap=True)
    return run(tell(console, language=language, folder=folder, mail=mail))


async def tell(console: Console, *, language: str = "en", folder: Path, mail: Kind = "auto") -> int:
    """Play it on this console; 0 only when every proof holds. Leaves no process behind, also when cancelled."""
    check_signals()
    language = "de" if language == "de" else "en"
    words = partial(said, language)
    begin, held = time.monotonic(), Held()
    settings = {"builtin_agent": False, "heartbeat_seconds": BEAT, "shutdown_seconds": 1.0}
    async with (
        open_stage(folder, mail=mail, before=held.before, **settings) as stage,
        open_crew(stage) as (browser, postman, calculator),
        api_of(stage) as api,
    ):
        heading = words("three agents in processes of their own, two of them come to harm")
        console.print(f"[bold]CPA demo[/bold]: {heading}\n")
        for member in (browser, postman, calculator):
            process = words("process {process}", process=member.process)
            console.print(f"  {member.name:<12} {process}", markup=False)
        up = words("everything up in {seconds:.1f} s", seconds=time.monotonic() - begin)
        console.print(f"\n  {up}", style="bright_black")
        job = await _submit(api, language, words("The calculator says {sum}.", sum=_REFERENCE))
        asked = f'[bold]>[/bold] [bold italic]"{SENTENCES[language]}"[/bold italic], {words("and a sum")}'
        console.print(f"\n{asked}")
        console.print(f"  {words('job {job}', job=job)}\n", style="bright_black")
        scene = _Scene(console, api, job, language)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch(console, api, job))
            group.create_task(scene.kill(browser, held))
            group.create_task(scene.stop(calculator))
        console.print()
        proofs = (
            *await prove(stage, watching.result(), language),
            *await scene.proofs(),
            await prove_trail(stage, language),
        )
        show_proofs(console, proofs)
    holds = all(proof.holds for proof in proofs)
    verdict = f"[bold green]{words('Proved')}" if holds else f"[bold red]{words('Not proved')}"
    console.print(f"\n{verdict}[/] {words('in {seconds:.1f} s.', seconds=time.monotonic() - begin)}")
    console.print(
        words("An agent of your own: docs/EXECUTOR_GUIDE.md; agents on other machines: docs/deployment.md")
    )
    return 0 if holds else 1


async def _submit(api: httpx2.AsyncClient, language: str, sum_told: str) -> str:
    """The sentence's own plan, and a sum that is told in the mail."""
    sentence = SENTENCES[language]
    planned = await ask(api, "POST", "/schedule", json={"text": sentence, "dry_run": True})
    kept = ("id", "action", "arguments", "depends_on", "timeout", "effect")
    tasks = [{name: task[name] for name in kept} for task in planned["tasks"]]
    send = next(task for task in tasks if task["action"] == "mail.send")
    send["arguments"]["text"] += f"\n\n{sum_told}"
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
    # A plan has no sentence whose language it could take: it is told.
    body = {"description": sentence, "task_graph": [added, *tasks], "context": {"locale": language}}
    return str((await ask(api, "POST", "/jobs", json=body))["job_id"])


class _Scene:
    """What befalls the agents of one job, and what the scheduler says of it."""

    def __init__(self, console: Console, api: httpx2.AsyncClient, job: str, language: str) -> None:
        self._console, self._api, self._job = console, api, job
        self._words = partial(said, language)

    async def kill(self, member: Member, held: Held) -> None:
        await held.asked.wait()
        self._say("kill -9 {name}, process {process}, in the middle of the download", member)
        await member.kill()
        await self._explain("download")
        await member.start()
        held.go.set()
        self._say("{name} is started again, process {process}", member)

    async def stop(self, member: Member) -> None:
        await self._until(lambda events: "task_started" in _types(events, "sum"), "the calculator's task")
        member.stand_still()
        self._say("SIGSTOP {name}, process {process}, while it calculates", member)
        try:
            await self._explain("sum")
        finally:
            member.go_on()
        self._say("SIGCONT {name}: it goes on, and learns that the task was taken away", member)

    async def proofs(self) -> tuple[Proof, ...]:
        """What is to be seen in the job's history."""
        words, events = self._words, (await self._page())["events"]
        lost = [event for event in events if event["type"] == "lease_lost"]
        twice = {
            event["task"] for event in events if _types(events, event["task"]).count("task_succeeded") > 1
        }
        tasks = (await ask(self._api, "GET", f"/jobs/{self._job}/tasks"))["tasks"]
        found = next(task["result"] for task in tasks if task["id"] == "sum")
        told = "; ".join(event["summary"] for event in lost)
        return (
            Proof(
                {each["task"] for each in lost} >= {"sum", "download"},
                words("both harms are in the history"),
                told,
            ),
            Proof(
                not twice,
                words("no task succeeded twice, late answers changed nothing"),
                words("{count} events", count=len(events)),
            ),
            Proof(found == {"sum": sum(_SUM.values())}, words("the sum is right"), f"{found}"),
        )

    async def _explain(self, task: str) -> None:
        """Say why the task waits, in the scheduler's words, once its agent was missed."""
        await self._until(lambda events: "lease_lost" in _types(events, task), f"the loss of {task}")
        told = (await ask(self._api, "GET", f"/jobs/{self._job}/explain"))["tasks"]
        for row in told:
            if row["task"] == task:
                why = f"{row['evidence']} {row['remedy']}"
                words = "explain: {task} {status}. {why}"
                self._print(self._words(words, task=task, status=row["status"], why=why))

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

    def _say(self, words: str, member: Member) -> None:
        self._print(self._words(words, name=member.name, process=member.process))

    def _print(self, line: str) -> None:
        self._console.print(f"    {line}", style="yellow", markup=False)


def _types(events: Sequence[Mapping[str, Any]], task: str | None) -> list[str]:
    return [event["type"] for event in events if task is not None and event["task"] == task]
