"""The executors that come with CPA, made from an installation's settings.

    flow   nothing but passing values on
    web    a browser
    mail   the mail account
    http   requests
    files  folders on this machine

The scheduler's own agent has all of them; an agent in a process of its own usually one. What a kind needs is
imported when it is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from cpa.errors import BadInput
from cpa.ports.executor import BaseExecutor

if TYPE_CHECKING:
    from cpa.executors.web.executor import TraceKept
    from cpa.ports.addresses import LookUp, OutboundAddresses
    from cpa.ports.artifacts import ArtifactStore
    from cpa.ports.mail import MailPort
    from cpa.ports.secrets import SecretsManager
    from cpa.settings import Settings

KINDS: Final = ("flow", "web", "mail", "http", "files")
_TENANT: Final = "default"


class Installation(Protocol):
    """What a workspace says about these; settings count for more."""

    @property
    def files(self) -> Sequence[Path]: ...

    @property
    def smtp_url(self) -> str: ...

    @property
    def imap_url(self) -> str: ...

    @property
    def mail_from(self) -> str: ...


def make(
    kinds: Collection[str],
    settings: Settings,
    workspace: Installation,
    *,
    artifacts: ArtifactStore,
    vault: SecretsManager,
    guard: OutboundAddresses,
    look_up: LookUp,
    trace_kept: TraceKept | None = None,
) -> Iterator[BaseExecutor]:
    """The executors of these kinds, in the order of `KINDS`. They are the caller's, who closes them.

    A browser keeps traces where somebody is told of them.
    """
    if "flow" in kinds:
        from cpa.executors.flow import FlowExecutor

        yield FlowExecutor()
    if "web" in kinds:
        from cpa.executors.web.executor import PlaywrightExecutor

        yield PlaywrightExecutor(
            artifacts,
            vault,
            guard,
            browser_path=settings.browser,
            sandbox=settings.browser_sandbox,
            max_contexts=settings.max_browsers,
            state_dir=settings.data / "sessions",
            trace=trace_kept is not None,
            scratch_dir=settings.data / "browser",
            max_download=settings.max_artifact_bytes,
            trace_kept=trace_kept,
        )
    if "mail" in kinds:
        from cpa.executors.mail.executor import MailExecutor

        accounts = _accounts(settings, workspace, vault, look_up)
        yield MailExecutor(accounts, artifacts, settle=settings.mail_settle)
    if "http" in kinds:
        from cpa.executors.http.executor import HttpExecutor

        yield HttpExecutor(guard, artifacts, vault)
    if "files" in kinds:
        from cpa.executors.files.executor import FileExecutor

        yield FileExecutor((*settings.files, *workspace.files), artifacts)


def check(kinds: Collection[str], settings: Settings, workspace: Installation) -> None:
    """Raise `BadInput` for a kind that could do nothing here, for want of a browser, an account or a folder."""
    if "web" in kinds:
        _check_browser(settings.browser)
    if "mail" in kinds and not (settings.smtp_url or workspace.smtp_url):
        raise BadInput(
            "there is no mail account here",
            field="smtp_url",
            remedy="set CPA_SMTP_URL (and CPA_IMAP_URL), or name them under `mail` in cpa.yaml",
        )
    if "files" in kinds and not (*settings.files, *workspace.files):
        raise BadInput(
            "there is no folder that may be touched here",
            field="files",
            remedy='set CPA_FILES=["/path"], or name folders under `files` in cpa.yaml',
        )


def _check_browser(configured: str) -> None:
    if find_spec("playwright") is None:
        raise BadInput(
            "a part that browsers need is not installed",
            field="what",
            remedy="pip install 'cpa-scheduler[web]'",
        )
    if configured and which(configured) is None:
        raise BadInput(
            "there is no such browser", field="browser", value=configured, remedy="correct CPA_BROWSER"
        )


def _accounts(
    settings: Settings, workspace: Installation, vault: SecretsManager, look_up: LookUp
) -> Mapping[str, MailPort]:
    """The one mail account of the settings or the workspace; none without an SMTP server."""
    from cpa.executors.mail.smtp import MailAccount, SmtpImapMail

    smtp_url = settings.smtp_url or workspace.smtp_url
    if not smtp_url:
        return {}
    imap_url = settings.imap_url or workspace.imap_url
    # A password in the URL counts; without one it is the secret `mail_password`, looked up when it is needed.
    named = [urlsplit(url) for url in (smtp_url, imap_url) if url]
    in_url = any(parts.password for parts in named)
    needed = any(parts.username for parts in named) and not in_url
    account = MailAccount(
        smtp_url=smtp_url,
        sender=settings.mail_from or workspace.mail_from,
        imap_url=imap_url,
        password=(lambda: vault.resolve(_TENANT, "mail_password")) if needed else None,
        proof=settings.mail_proof,
        proof_folder=settings.mail_proof_folder,
    )
    return {"default": SmtpImapMail(account, look_up=look_up)}
