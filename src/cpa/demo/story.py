"""The demo: a sentence in, an invoice fetched from a portal, a mail delivered, and the effect proved.

It plays the person at the keyboard. The scheduler runs as `cpa serve` would run it and is spoken to over its
HTTP API alone; portal and mailbox are real servers. The end is believed only when the mailbox shows it
(`cpa.demo.proof`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console

from cpa.demo.mailbox import Kind
from cpa.demo.proof import Proof, fetch_latest_invoice, prove_delivery
from cpa.demo.show import Progress
from cpa.demo.stage import Ports, Stage, open_props, open_stage
from cpa.demo.words import said
from cpa.errors import BadInput, CPAError, InternalError, Unavailable, first_error

RECIPIENT = "billing@kunde.example"
CUSTOMER = "ACME"
SENTENCES: Mapping[str, str] = {
    "en": f"Get ACME's latest invoice from the portal and mail it to {RECIPIENT}",
    "de": f"Hole die neueste Rechnung von ACME aus dem Portal und schicke sie an {RECIPIENT}",
}
FOLDER = Path("demo-data")
_LONGEST_JOB = 120.0
_TERMINATED = 143
"""Exit code of a program that SIGTERM ended, as shells count."""


@dataclass(frozen=True, slots=True)
class _Told:
    """How one sentence ended."""

    job: str
    proofs: tuple[Proof, ...]
    pictures: int


def run_demo(
    *, language: str = "both", folder: Path = FOLDER, mail: Kind = "auto", keep_open: bool = False
) -> int:
    """Play the demo on this terminal; exit code 0 only when every proof holds.

    `language` is `en`, `de` or `both`. Everything lies in `folder`, which may exist. With `keep_open` the servers
    stay until Ctrl-C.
    """
    console = Console(highlight=False, soft_wrap=True)
    return run(tell(console, language=language, folder=folder, mail=mail, keep_open=keep_open))


def serve_demo(
    *, folder: Path = FOLDER, mail: Kind = "auto", ports: Ports = Ports(portal=8710, smtp=8725, imap=8743)
) -> int:
    """Only portal and mailbox, on fixed ports, until Ctrl-C: a playground for one's own automations."""
    console = Console(highlight=False, soft_wrap=True)
    return run(_serve_props(console, folder, mail, ports))


def run(play: Coroutine[Any, Any, int]) -> int:
    """`asyncio.run`, with everything closed in order on SIGTERM and SIGHUP as on Ctrl-C."""

    async def guarded() -> int:
        task = asyncio.current_task()
        assert task is not None
        for name in ("SIGTERM", "SIGHUP"):
            with suppress(NotImplementedError, AttributeError):  # Windows
                asyncio.get_running_loop().add_signal_handler(getattr(signal, name), task.cancel)
        return await play

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        return _TERMINATED
    except BaseExceptionGroup as group:
        expected, rest = group.split(CPAError)
        if expected is None or rest is not None:
            raise
        raise first_error(expected) from None


async def tell(
    console: Console,
    *,
    language: str = "both",
    folder: Path = FOLDER,
    mail: Kind = "auto",
    keep_open: bool = False,
) -> int:
    """`run_demo` on a given console, inside a running loop. Leaves no process behind, also when cancelled."""
    languages = tuple(SENTENCES) if language == "both" else (_known(language),)
    begin = time.monotonic()
    console.print("[bold]CPA demo[/bold]: a sentence becomes a checked plan, carried out and proved\n")
    console.print("  starting portal, mailbox and scheduler ...", style="bright_black")
    async with open_stage(folder, mail=mail) as stage:
        _introduce(console, stage, time.monotonic() - begin)
        told = [await _play(console, stage, SENTENCES[which]) for which in languages]
        sound = await prove_trail(stage)
        show_proofs(console, (sound,))
        holds = sound.holds and all(proof.holds for one in told for proof in one.proofs)
        _conclude(console, stage, told, holds, time.monotonic() - begin, keep_open)
        if keep_open:
            await _until_interrupted()
    return 0 if holds else 1


def _known(language: str) -> str:
    if language not in SENTENCES:
        raise BadInput(
            "there is no sentence in this language",
            field="language",
            value=language,
            remedy=f"choose {', '.join(SENTENCES)} or both",
        )
    return language


async def _play(console: Console, stage: Stage, sentence: str) -> _Told:
    """One sentence: submit, watch, prove."""
    console.print(f'\n[bold]>[/bold] [bold italic]"{sentence}"[/bold italic]')
    async with api_of(stage) as api:
        answer = await ask(api, "POST", "/schedule", json={"text": sentence})
        job = str(answer["job_id"])
        console.print(f"  job {job}\n", style="bright_black")
        detail = await watch(console, api, job)
        console.print()
        pictures = await _count_pictures(api, job)
    proofs = await prove(stage, detail)
    show_proofs(console, proofs)
    return _Told(job, proofs, pictures)


async def watch(console: Console, api: httpx2.AsyncClient, job: str) -> dict[str, Any]:
    """Show the job until its run ends; its last detail."""
    after, deadline = 0, time.monotonic() + _LONGEST_JOB
    with Progress(console) as progress:
        while time.monotonic() < deadline:
            page = await ask(api, "GET", f"/jobs/{job}/events", params={"after": after, "wait": 10})
            detail: dict[str, Any] = await ask(api, "GET", f"/jobs/{job}")
            progress.update(detail, page["events"])
            after = page["last_seq"]
            if page["ended"]:
                return detail
    raise Unavailable(
        f"the job has not ended within {_LONGEST_JOB:.0f} s",
        field="job",
        value=job,
        remedy="see `cpa explain`",
    )


async def prove(stage: Stage, detail: Mapping[str, Any], language: str = "en") -> tuple[Proof, ...]:
    """What the job did, seen from outside, told in this language; a job that failed is its own answer."""
    job = detail["job"]
    error = job.get("error") or {}
    count = len(detail["tasks"])
    seen = said(language, "{count} tasks, status {status}", count=count, status=job["status"])
    done = Proof(job["status"] == "done", said(language, "the job is done"), error.get("message") or seen)
    if not done.holds:
        return (done,)
    sent = next(
        (task["result"]["message_id"] for task in detail["tasks"] if task["action"] == "mail.send"), None
    )
    if sent is None:
        return (Proof(False, said(language, "the plan sends a mail"), said(language, "it has no mail.send")),)
    expected = await fetch_latest_invoice(
        stage.props.portal, stage.props.user, stage.props.password, CUSTOMER
    )
    return (done, *await prove_delivery(stage.props.mail, RECIPIENT, sent, expected, language))


async def prove_trail(stage: Stage, language: str = "en") -> Proof:
    """Whether the whole audit trail is what was written, told in this language."""
    async with api_of(stage) as api:
        verdict = await ask(api, "GET", "/audit/verify")
    return Proof(
        verdict["sound"] and verdict["leaves"] > 0,
        said(language, "the audit trail is what was written: every leaf hashes to its event"),
        said(language, "{count} leaves checked", count=verdict["leaves"]),
    )


async def _count_pictures(api: httpx2.AsyncClient, job: str) -> int:
    page = await ask(api, "GET", "/audit", params={"job": job, "limit": 500})
    return sum(len(entry["pictures"]) for entry in page["entries"])


def api_of(stage: Stage) -> httpx2.AsyncClient:
    """The scheduler's API, for its admin."""
    return httpx2.AsyncClient(
        base_url=stage.api, headers={"X-API-Key": stage.key}, timeout=30, trust_env=False
    )


async def ask(api: httpx2.AsyncClient, method: str, path: str, **options: Any) -> Any:
    """The answer's JSON; a problem document becomes an error that says the same."""
    answer = await api.request(method, path, **options)
    if answer.is_success:
        return answer.json()
    problem = answer.json()
    raise InternalError(
        f"{method} {path} answered {answer.status_code}: {problem.get('detail')}",
        field=problem.get("field"),
        value=problem.get("value"),
        remedy=problem.get("remedy"),
    )


def _introduce(console: Console, stage: Stage, seconds: float) -> None:
    for name, value in stage.parts:
        console.print(f"  {name:<10} {value}", markup=False)
    console.print(f"\n  everything up in {seconds:.1f} s", style="bright_black")


def show_proofs(console: Console, proofs: tuple[Proof, ...]) -> None:
    """Each claim, whether it holds, and what was seen."""
    ascii_only = "utf" not in console.encoding.lower()
    for proof in proofs:
        sign, colour = ("✔", "green") if proof.holds else ("✘", "red")
        sign = {"✔": "+", "✘": "x"}[sign] if ascii_only else sign
        console.print(f"  {sign} {proof.claim}", style=colour, markup=False)
        console.print(f"      {proof.evidence}", style="bright_black", markup=False)


def _conclude(
    console: Console, stage: Stage, told: list[_Told], holds: bool, seconds: float, keep_open: bool
) -> None:
    verdict = "[bold green]Proved" if holds else "[bold red]Not proved"
    console.print(f"\n{verdict}[/] in {seconds:.1f} s.\n")
    console.print("[bold]Where to look next[/bold]")
    if "UV" in os.environ or shutil.which("cpa") is None:  # `uv run` puts it on the path for itself alone.
        folder = Path(sys.executable).parent
        console.print(f'  first             export PATH="{folder}:$PATH"', markup=False)
    if not keep_open:
        console.print(
            f"  start it again    cpa serve --data {stage.props.data} --workspace {stage.props.workspace}"
        )
    console.print(
        f"  your key          export CPA_API_KEY=$(cat {stage.props.data / 'admin.key'})", markup=False
    )
    if keep_open:
        console.print(f"                    export CPA_URL={stage.api}", markup=False)
    job = told[-1].job
    console.print(f"  the job           cpa job {job}")
    console.print(f"  why it is so      cpa explain {job}")
    console.print(f"  what was done     cpa audit --job {job}    ({told[-1].pictures} pictures and files)")
    console.print(f"  its files         cpa files {job} --save FOLDER --pictures")
    console.print(f"  API docs          {stage.api if keep_open else 'http://127.0.0.1:8700'}/docs")
    console.print(f"  the mail          {stage.props.folder / 'mail' / RECIPIENT}")
    console.print("\n[bold]Your own[/bold]")
    console.print("  cpa demo --serve              keeps portal and mailbox running to play with")
    console.print(
        "  cpa init my-automation        writes a small commented workspace; its README goes on from there"
    )
    if keep_open:
        console.print("\nEverything stays up. Ctrl-C ends it.")


async def _serve_props(console: Console, folder: Path, mail: Kind, ports: Ports) -> int:
    async with open_props(folder, mail=mail, ports=ports) as props:
        for name, value in props.parts:
            console.print(f"{name:<10} {value}", markup=False)
        console.print(
            f"mail       {props.mail.folder}/ADDRESS/new holds what has come for ADDRESS", markup=False
        )
        console.print("Ctrl-C ends it.")
        await _until_interrupted()
    return 0


async def _until_interrupted() -> None:
    """Until the task is cancelled, which is what Ctrl-C does to `asyncio.run`."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


__all__ = ["RECIPIENT", "SENTENCES", "run_demo", "serve_demo", "tell"]
