"""The browser hand: `web.*` in a real Chromium, driven by Playwright.

One browser for all jobs, one context per job, one step at a time per job. Every step leaves a picture, also
of what went wrong; a job leaves a trace that Playwright's viewer replays. Both are kept as artifacts without
the job's secrets.

A step has its own deadline a little before the attempt's timeout, so that it can say which side of the point
of no return it was on, take the picture and write down where the session stands:

    timeout |---------------- step ----------------|-- picture, session --|

Effects. Everything but a click changes nothing outside the browser, or nothing that doing it again would
double. A click may do anything: cut off before it was sent it is TECHNICAL, after that UNKNOWN_OUTCOME, and
no later look can tell whether the portal acted on it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from cpa.core.classes import FailureClass
from cpa.errors import CPAError
from cpa.executors.redaction import redact_fields, redact_result
from cpa.executors.web import steps
from cpa.executors.web.browser import SharedBrowser
from cpa.executors.web.download import chunks, download
from cpa.executors.web.pool import SessionPool
from cpa.executors.web.resume import ResumeFiles, Saved
from cpa.executors.web.scratch import Scratch
from cpa.executors.web.session import MAX_PAGES, Session
from cpa.executors.web.step import Step
from cpa.executors.web.trace import redact_zip
from cpa.executors.web.trouble import Deadline, Trouble, of_browser
from cpa.executors.web.waiting import wait_for
from cpa.ports.artifacts import Artifact
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification

if TYPE_CHECKING:
    from cpa.ports.addresses import OutboundAddresses
    from cpa.ports.artifacts import ArtifactStore
    from cpa.ports.secrets import SecretsManager

_log = structlog.get_logger(__name__)

_PERFORM: dict[str, Callable[[Step], Awaitable[dict[str, Any]]]] = {
    "web.goto": steps.goto,
    "web.click": steps.click,
    "web.fill": steps.fill,
    "web.select": steps.select,
    "web.wait_for": wait_for,
    "web.extract": steps.extract,
    "web.download": download,
    "web.screenshot": steps.screenshot,
}
_DATA_SLOTS = frozenset({"text", "value"})

TraceKept = Callable[[str, str, Artifact], Awaitable[None]]


class PlaywrightExecutor(BaseExecutor):
    """Performs `web.*`. Needs the extra `web` and a Chromium; without one, steps fail with class ENVIRONMENT
    and the command that installs it.

    `browser_path`: empty means the first one found. `sandbox`: the browser's own; None is on, but for root
    (containers without user namespaces need False). `max_contexts`: jobs in the browser at the same time.
    `idle_minutes`: a context unused that long is closed. `state_dir`: where sessions are written so that they
    survive this process (mode 0600); None keeps them in memory only. `scratch_dir`: where traces and downloads
    lie until they are stored (None: the system's folder for temporary files). `max_download`: bytes of a file.
    `spare_seconds`: how long a context must be unused before a waiting job may have it (only with `state_dir`).
    `pictures`, `trace`: whether to take them. `trace_kept` is told (tenant, job, artifact) of every trace
    stored."""

    actions: ClassVar[tuple[str, ...]] = tuple(_PERFORM)

    def __init__(
        self,
        artifacts: ArtifactStore,
        secrets: SecretsManager,
        addresses: OutboundAddresses,
        *,
        browser_path: str = "",
        headless: bool = True,
        sandbox: bool | None = None,
        max_contexts: int = 4,
        idle_minutes: float = 10.0,
        spare_seconds: float = 30.0,
        state_dir: Path | None = None,
        scratch_dir: Path | None = None,
        max_download: int = 256 * 1024 * 1024,
        pictures: bool = True,
        trace: bool = True,
        trace_kept: TraceKept | None = None,
    ) -> None:
        self._artifacts = artifacts
        self._secrets = secrets
        self._addresses = addresses
        self._pictures = pictures
        self._trace_kept = trace_kept
        self._resume = ResumeFiles(state_dir) if state_dir is not None else None
        self._max_download = max_download
        self._scratch = Scratch(scratch_dir or Path(tempfile.gettempdir(), f"cpa-browser-{os.getpid()}"))
        self._browser = SharedBrowser(self._scratch, path=browser_path, headless=headless, sandbox=sandbox)
        self._pool = SessionPool(
            self._browser,
            addresses,
            limit=max_contexts,
            idle_seconds=idle_minutes * 60,
            spare_seconds=spare_seconds if state_dir is not None else None,
            trace=trace,
            load=self._load,
            restore=self._restore,
            end=self._end,
        )

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        began = time.monotonic()
        whole = Deadline(request.timeout - min(0.2, request.timeout * 0.05))
        deadline = Deadline(request.timeout - min(1.5, request.timeout * 0.25))
        pictures: tuple[str, ...] = ()
        try:
            self._check_sources(request)
            async with self._pool.hold(
                request.tenant, request.job, deadline, fresh=_opens_a_page(request)
            ) as session:
                if (
                    request.epoch > 1
                    and session.done is not None
                    and session.done[0] == request.idempotency_key
                ):
                    # Done in an earlier life of the process, which ended before its answer was stored.
                    trouble, result = None, session.done[1]
                else:
                    trouble, found = await self._perform(request, session, deadline, whole)
                    result = redact_fields(found, session.secrets)
                    session.done = (request.idempotency_key, result) if trouble is None else session.done
                pictures = await self._wind_up(request, session, whole)
        except Trouble as early:
            trouble, result = early, {}
        duration = time.monotonic() - began
        if trouble is not None:
            failed = trouble.as_result(duration=duration, artifacts=pictures)
            return redact_result(failed, self._used(request))
        file = result.get("file") or result.get("value") or result.get("values")
        if isinstance(file, dict) and "artifact" in file:
            pictures = (*pictures, file["artifact"])
        return ExecutionResult(success=True, result=result, duration=duration, artifacts=pictures)

    async def verify(self, request: ActionRequest) -> Verification:
        """Clicks: UNKNOWN for ever, a browser keeps no proof of what a portal did. All else: ABSENT, in the
        sense that doing it again is right whether or not it was done: it only reads, or sets what it sets."""
        if request.action != "web.click":
            return Verification(
                verdict=Verdict.ABSENT,
                evidence=f"{request.action} has no effect outside the browser; it is simply done again.",
            )
        session = self._pool.get(request.tenant, request.job)
        place = "no open page"
        if session is not None and session.pages:
            place = session.redact(session.page.url)
        return Verification(
            verdict=Verdict.UNKNOWN,
            evidence=f"A click leaves nothing to look up; the job's browser is at: {place}",
        )

    async def job_ended(self, tenant: str, job: str) -> None:
        try:
            await self._pool.drop(tenant, job)
        finally:
            if self._resume is not None:
                await asyncio.to_thread(self._resume.drop, tenant, job)

    async def close(self) -> None:
        """Sessions of jobs that go on elsewhere keep their files in `state_dir`."""
        try:
            await self._pool.close()
        finally:
            try:
                await self._browser.close()
            finally:
                await asyncio.to_thread(self._scratch.close)

    # -- inside ----------------------------------------------------------------------------------------------

    def _check_sources(self, request: ActionRequest) -> None:
        """What came from outside never chooses where to go or what to touch (promise P9)."""
        chosen = sorted(request.tainted - _DATA_SLOTS)
        if chosen:
            raise Trouble(
                FailureClass.POLICY,
                "tainted_argument",
                f"{request.action}: `{chosen[0]}` comes from outside and must not decide what is touched.",
                remedy="Write it in the plan, or let the requester give it.",
            )
        if any(_names_a_secret(request.arguments.get(name)) for name in request.tainted):
            raise Trouble(
                FailureClass.POLICY,
                "tainted_secret",
                f"{request.action}: a value from outside must not name a secret.",
                remedy="Name the secret in the plan.",
            )

    async def _perform(
        self, request: ActionRequest, session: Session, deadline: Deadline, whole: Deadline
    ) -> tuple[Trouble | None, dict[str, Any]]:
        """Do the step within its deadline. Only what is no trouble of the page or the target is raised."""
        from playwright.async_api import Error

        step = self._step(session, request.tenant, deadline, request.arguments)
        try:
            # A step keeps its deadline itself; beyond it there is a little time to say what was missing.
            async with asyncio.timeout((deadline.left + whole.left) / 2) as limit:
                result = await _PERFORM[request.action](step)
        except Trouble as trouble:
            if step.dispatched and trouble.failure is FailureClass.ENVIRONMENT:
                trouble.failure = FailureClass.UNKNOWN_OUTCOME
            return trouble, {}
        except Error as error:
            if not await self._browser.probe():
                session.browser = None  # opened anew by the next step
            return of_browser(error, dispatched=step.dispatched), {}
        except CPAError as error:  # of the artifact store
            failure = FailureClass.ENVIRONMENT if error.retryable else FailureClass.BUSINESS
            return Trouble(failure, error.code, error.message, remedy=error.remedy or ""), {}
        except TimeoutError:
            if not limit.expired():
                raise
            after = step.dispatched
            return Trouble(
                FailureClass.UNKNOWN_OUTCOME if after else FailureClass.TECHNICAL,
                "timeout",
                f"{request.action} did not end in time" + (" after it was sent." if after else "."),
                remedy="Give the task a longer timeout, or look why its target is slow.",
            ), {}
        if session.surplus:
            return _too_many_windows(session), {}
        if session.dialogs:
            result["dialogs"] = list(session.dialogs)
        return None, result

    def _step(self, session: Session, tenant: str, deadline: Deadline, arguments: Any) -> Step:
        return Step(
            tenant=tenant,
            session=session,
            arguments=arguments,
            deadline=deadline,
            artifacts=self._artifacts,
            addresses=self._addresses,
            resolve=self._secrets.resolve,
            opens_pdf=self._browser.opens_pdf,
            max_download=self._max_download,
        )

    async def _wind_up(self, request: ActionRequest, session: Session, whole: Deadline) -> tuple[str, ...]:
        """Write down where the session stands and take the picture; neither may cost the step its answer."""
        from playwright.async_api import Error

        kept: tuple[str, ...] = ()
        try:
            async with asyncio.timeout(whole.left):
                if self._resume is not None and (saved := await session.saved()) is not None:
                    await asyncio.to_thread(self._resume.save, session.tenant, session.job, saved)
                if self._pictures and not session.blank:
                    content = await session.picture(milliseconds=whole.milliseconds(5000))
                    artifact = await self._artifacts.put(
                        session.tenant, content, name=f"{request.task}.jpg", media_type="image/jpeg"
                    )
                    kept = (artifact.digest,)
        except (Error, CPAError, OSError) as error:  # TimeoutError is an OSError
            _log.warning(
                "web_evidence_missing",
                tenant=request.tenant,
                job=request.job,
                task=request.task,
                reason=session.redact(f"{type(error).__name__}: {error}")[:300],
            )
        return kept

    def _used(self, request: ActionRequest) -> frozenset[str]:
        """The secrets that the job's pages may show."""
        session = self._pool.get(request.tenant, request.job)
        return frozenset(session.secrets) if session is not None else frozenset()

    async def _load(self, session: Session) -> Saved | None:
        """What the job left, and the secrets that its pages may show."""
        if self._resume is None:
            return None
        saved = await asyncio.to_thread(self._resume.load, session.tenant, session.job)
        for name in saved.secrets if saved is not None else ():
            session.secret_names.add(name)
            with suppress(CPAError):  # taken away meanwhile: it is of no use to anybody any more
                session.secrets.add(self._secrets.resolve(session.tenant, name))
        return saved

    async def _restore(self, session: Session, saved: Saved, deadline: Deadline) -> None:
        from playwright.async_api import Error

        try:
            await steps.restore(self._step(session, session.tenant, deadline, {}), saved.url, saved.inputs)
        except Error as error:
            raise of_browser(error, dispatched=False) from None
        _log.info("browser_session_restored", tenant=session.tenant, job=session.job)

    async def _end(self, session: Session) -> None:
        """Close the context and keep its trace, if it has one."""
        if not session.tracing:
            await session.close()
            return
        aside = await asyncio.to_thread(self._scratch.open)
        try:
            with tempfile.TemporaryDirectory(prefix="trace-", dir=aside) as folder:
                raw, clean = Path(folder, "raw.zip"), Path(folder, "trace.zip")
                if await session.close(raw) and await self._clean(session, raw, clean):
                    await self._keep_trace(session, clean)
        finally:
            self._scratch.forget(session.trace, last=not self._pool.tracing)

    async def _clean(self, session: Session, raw: Path, clean: Path) -> bool:
        """Write the trace without secrets; False, and no file, if they cannot be told from it."""
        used = self._secrets.known(session.tenant) | session.secrets
        if await asyncio.to_thread(redact_zip, raw, clean, used):
            return True
        _log.warning(
            "trace_not_kept",
            tenant=session.tenant,
            job=session.job,
            reason="a secret is too short to be masked safely",
        )
        return False

    async def _keep_trace(self, session: Session, path: Path) -> None:
        try:
            artifact = await self._artifacts.put(
                session.tenant, chunks(path), name="trace.zip", media_type="application/zip"
            )
        except CPAError as error:  # the job is over; its answer does not depend on its trace
            _log.warning("trace_not_kept", tenant=session.tenant, job=session.job, reason=error.message)
            return
        _log.debug("trace_kept", tenant=session.tenant, job=session.job, artifact=artifact.digest)
        if self._trace_kept is not None:
            await self._trace_kept(session.tenant, session.job, artifact)


def _too_many_windows(session: Session) -> Trouble:
    return Trouble(
        FailureClass.BUSINESS,
        "too_many_windows",
        f"The page opened more than {MAX_PAGES} windows; {session.surplus} were closed.",
        remedy="Look at the picture; a page that behaves like this is nothing to work on.",
    )


def _names_a_secret(value: object) -> bool:
    return any(isinstance(each, Mapping) for each in (value if isinstance(value, list) else [value]))


def _opens_a_page(request: ActionRequest) -> bool:
    """Whether the step needs no page to begin with."""
    by_url = request.arguments.get("url") is not None
    return request.action == "web.goto" or (request.action == "web.download" and by_url)
