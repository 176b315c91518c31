"""A sentence carried out by agents elsewhere: the scheduler plans and remembers, a browser here and a mail account
there do the work, each with passwords of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.servers.agent import AgentProcess, started
from tests.servers.scheduler import Scheduler, serving

from cpa.demo import stage
from cpa.demo.proof import fetch_latest_invoice, prove_delivery
from cpa.demo.stage import Props, open_props

pytestmark = [pytest.mark.browser, pytest.mark.chaos, pytest.mark.timeout(300)]

SENTENCE = "Hole die neueste Rechnung von ACME aus dem Portal und schicke sie an billing@kunde.example"
PATIENCE = 90.0
WAYS = pytest.mark.parametrize("listens", [False, True], ids=["channel", "http"])


@dataclass(eq=False)
class Held:
    """An application whose PDFs come only when they are let go."""

    app: ASGIApp
    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith(".pdf"):
            self.asked += 1
            await self.go.wait()
        await self.app(scope, receive, send)


@dataclass(eq=False)
class House:
    """Portal, mailbox and scheduler; agents come later."""

    folder: Path
    props: Props
    portal: Held
    scheduler: Scheduler
    api: httpx2.AsyncClient
    listens: bool

    @asynccontextmanager
    async def agent(self, kind: str, *secrets: str, name: str = "") -> AsyncIterator[AgentProcess]:
        """A `cpa agent` with these secrets in its folder, which stays for its next life."""
        home = self.folder / (name or kind)
        (home / "data" / "secrets").mkdir(parents=True, exist_ok=True, mode=0o700)
        for secret in secrets:
            shutil.copy2(self.props.data / "secrets" / secret, home / "data" / "secrets" / secret)
        more = ("--listen", "127.0.0.1:0") if self.listens else ()
        options = ("--name", name or kind, "--data", "data", "--workspace", str(self.props.workspace), *more)
        async with started(home, kind, *options, **self.scheduler.environment) as running:
            yield running

    async def get(self, path: str, **parameters: Any) -> Any:
        answer = await self.api.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def submit(self, sentence: str) -> str:
        answer = await self.api.post("/schedule", json={"text": sentence})
        assert answer.status_code in (200, 201, 202), answer.text
        return str(answer.json()["job_id"])

    async def end(self, job: str) -> dict[str, Any]:
        """The job once its run has ended."""
        try:
            async with asyncio.timeout(PATIENCE):
                while (found := await self.get(f"/jobs/{job}", wait=5))["status"] in ("pending", "running"):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(await self.get(f"/jobs/{job}/explain")) from None
        return dict(found)

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.portal.asked < times:
                await asyncio.sleep(0.02)

    async def events(self, job: str, type: str) -> list[dict[str, Any]]:
        return [e for e in (await self.get(f"/jobs/{job}/events", limit=1000))["events"] if e["type"] == type]

    async def prove(self, detail: dict[str, Any]) -> None:
        """The mail is there, once, and carries the portal's file."""
        sent = [each["result"]["message_id"] for each in detail["tasks"] if each["action"] == "mail.send"]
        user, password = self.props.user, self.props.password
        expected = await fetch_latest_invoice(self.props.portal, user, password, "ACME")
        proofs = await prove_delivery(self.props.mail, "billing@kunde.example", sent[0], expected)
        assert [proof.claim for proof in proofs if not proof.holds] == []


@asynccontextmanager
async def house(folder: Path, patch: pytest.MonkeyPatch, *, listens: bool) -> AsyncIterator[House]:
    made: list[Held] = []

    def portal(password: str, *, user: str) -> Held:
        made.append(Held(create(password, user=user)))
        return made[0]

    create = stage.create_portal
    patch.setattr(stage, "create_portal", portal)
    async with AsyncExitStack() as stack:
        props = await stack.enter_async_context(open_props(folder / "world", mail="embedded"))
        server = serving(
            *(folder, "--no-builtin", "--workspace", str(props.workspace)),
            CPA_HEARTBEAT_SECONDS="1",
            CPA_SHUTDOWN_SECONDS="1",
            CPA_ALLOW_PRIVATE=json.dumps(["127.0.0.1"]),
        )
        scheduler = await asyncio.to_thread(server.__enter__)
        stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
        headers = {"X-API-Key": scheduler.key}
        api = httpx2.AsyncClient(base_url=scheduler.url, headers=headers, timeout=40, trust_env=False)
        await stack.enter_async_context(api)
        yield House(folder, props, made[0], scheduler, api, listens)


@WAYS
async def test_a_browser_and_a_mail_account_elsewhere_carry_out_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    async with house(tmp_path, monkeypatch, listens=listens) as home:
        home.portal.go.set()
        job = await home.submit(SENTENCE)
        explained = await home.get(f"/jobs/{job}/explain")
        assert "web.goto" in json.dumps(explained), "it waits for an agent, and says so"
        async with home.agent("web", "portal_password"), home.agent("mail", "mail_password"):
            detail = await home.end(job)
            assert detail["status"] == "done", detail["job"]["error"]
            await home.prove(detail)
        assert not (home.scheduler.data / "secrets").exists(), "the scheduler knows no password"


@WAYS
async def test_a_browser_that_is_killed_in_the_middle_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    async with house(tmp_path, monkeypatch, listens=listens) as home, home.agent("mail", "mail_password"):
        async with home.agent("web", "portal_password") as first:
            job = await home.submit(SENTENCE)
            await home.until_asked(1)
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        async with home.agent("web"):
            await home.until_asked(2)
            home.portal.go.set()
            detail = await home.end(job)
            assert detail["status"] == "done", detail["job"]["error"]
            await home.prove(detail)
        assert len(await home.events(job, "lease_lost")) == 1
        assert not list((tmp_path / "web" / "data" / "sessions").glob("**/*.json"))


async def test_a_browser_that_is_told_to_leave_ends_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch, listens=False) as home, home.agent("mail", "mail_password"):
        async with home.agent("web", "portal_password") as first:
            job = await home.submit(SENTENCE)
            await home.until_asked(1)
            leaving = asyncio.create_task(first.end(signal.SIGTERM))
            await asyncio.sleep(0.2)
            home.portal.go.set()
            assert await leaving == 0
        async with home.agent("web"):
            detail = await home.end(job)
        assert detail["status"] == "done", detail["job"]["error"]
        assert await home.events(job, "lease_lost") == []
        await home.prove(detail)


@WAYS
async def test_a_browser_that_stood_still_past_its_lease_begins_anew_and_its_late_answer_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    async with (
        house(tmp_path, monkeypatch, listens=listens) as home,
        home.agent("mail", "mail_password"),
        home.agent("web", "portal_password") as browser,
    ):
        job = await home.submit(SENTENCE)
        await home.until_asked(1)
        browser.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            while not await home.events(job, "lease_lost"):
                await asyncio.sleep(0.1)
        waits = [
            each for each in (await home.get(f"/jobs/{job}/explain"))["tasks"] if each["task"] == "download"
        ]
        assert waits[0]["status"] == "held"
        assert waits[0]["remedy"]
        home.portal.go.set()
        browser.process.send_signal(signal.SIGCONT)
        detail = await home.end(job)
        assert detail["status"] == "done", detail["job"]["error"]
        assert (
            len([each for each in await home.events(job, "task_succeeded") if each["task"] == "download"])
            == 1
        )
        await home.prove(detail)


async def test_a_browser_that_is_gone_for_good_is_replaced_by_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, monkeypatch, listens=False) as home, home.agent("mail", "mail_password"):
        async with home.agent("web", "portal_password") as first:
            job = await home.submit(SENTENCE)
            await home.until_asked(1)
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        home.portal.go.set()
        async with home.agent("web", "portal_password", name="ersatz"):
            detail = await home.end(job)
            assert (detail["status"], detail["job"]["error"]["code"]) == ("failed", "session_lost")
            assert (await home.api.post(f"/jobs/{job}/retry", json={})).status_code == 200
            detail = await home.end(job)
            assert detail["status"] == "done", detail["job"]["error"]
            await home.prove(detail)
