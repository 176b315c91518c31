"""Everything the demo needs, opened in order and closed in reverse: portal, mailbox, workspace, scheduler.

The scheduler is the one `cpa serve` runs, with its own folder and its HTTP API on a free port. Settings come from
here alone: whatever the environment says about databases, keys or accounts is meant for somebody's real work.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.types import ASGIApp

from cpa.api.app import create_app
from cpa.api.server import Server, listen
from cpa.bootstrap import Scheduler, open_engine, services_of
from cpa.demo.mailbox import SENDER, Kind, Mailbox, open_mailbox
from cpa.demo.portal import create_portal
from cpa.demo.serving import HOST, Guest, running, serve
from cpa.demo.smtpd import Account
from cpa.errors import Unavailable
from cpa.executors.web.browser import find_browser
from cpa.repository.keys import SqlKeyStore
from cpa.security.auth import Hasher, ensure_admin_key
from cpa.settings import Settings
from cpa.telemetry.logs import configure

USER = "demo"
Before = Callable[[ASGIApp], ASGIApp]
"""Puts an application before another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the world listens; 0 takes a free one."""

    portal: int = 0
    smtp: int = 0
    imap: int = 0


FREE = Ports()


@dataclass(frozen=True, slots=True, kw_only=True)
class Props:
    """The world the demo acts on."""

    folder: Path
    portal: str
    """The portal's base URL."""
    user: str
    password: str
    mail: Mailbox

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """What is there, for people."""
        return (
            ("portal", f"{self.portal}  (user {self.user}, password {self.password})"),
            ("mailbox", self.mail.title),
            ("", ", ".join(_mail_settings(self.mail).values())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The world and the scheduler in it."""

    props: Props
    api: str
    """The scheduler's base URL."""
    key: str
    sqlite: str
    engine: str
    """Who holds the jobs in flight; empty is the scheduler itself."""

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        return (
            *self.props.parts,
            ("browser", find_browser() or "Playwright's own Chromium"),
            ("scheduler", f"{self.api}, store {self.props.data / 'cpa.db'} (SQLite {self.sqlite})"),
            *((("engine", self.engine),) if self.engine else ()),
        )


@asynccontextmanager
async def open_props(
    folder: Path,
    *,
    mail: Kind = "auto",
    password: str = "",
    ports: Ports = FREE,
    before: Before = lambda portal: portal,
) -> AsyncIterator[Props]:
    """Portal and mailbox, and a workspace in `folder` that knows both. Passwords stay those of the folder, so that
    what was copied from it goes on working. `before` may put something before the portal.

    Raises `Unavailable` when a port is taken or an optional part is missing.
    """
    vault = folder / "data" / "secrets"
    portal_password = password or _kept(vault / "portal_password") or secrets.token_urlsafe(9)
    access = password or _kept(vault / "mail_password")
    try:
        async with (
            serve(before(create_portal(portal_password, user=USER)), port=ports.portal) as portal,
            open_mailbox(
                folder, kind=mail, password=access, smtp_port=ports.smtp, imap_port=ports.imap
            ) as mailbox,
        ):
            props = Props(folder=folder, portal=portal, user=USER, password=portal_password, mail=mailbox)
            _write_workspace(props)
            yield props
    except ImportError as error:
        raise Unavailable(
            f"{error.name} is not installed", remedy="Install the extra: pip install 'cpa-scheduler[demo]'"
        ) from error


@asynccontextmanager
async def open_stage(
    folder: Path, *, mail: Kind = "auto", before: Before = lambda portal: portal, **settings: Any
) -> AsyncIterator[Stage]:
    """The world of `open_props` and the scheduler in it, ready to be asked; `settings` are those of the scheduler
    that shall be others than usual."""
    async with (
        open_props(folder, mail=mail, before=before) as props,
        _open_scheduler(props, settings) as stage,
    ):
        yield stage


@asynccontextmanager
async def _open_scheduler(props: Props, given: Mapping[str, Any]) -> AsyncIterator[Stage]:
    """`cpa serve` inside this event loop; its log goes to a file."""
    settings = _settings(props).model_copy(update=dict(given))
    props.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        (props.folder / "cpa.log").open("a", encoding="utf-8") as log,
        ExitStack() as log_to,
        closing(listen(HOST, 0)) as bound,
    ):
        # The file is closed after this block; whoever logs then logs to standard error again.
        log_to.callback(configure, "WARNING")
        configure(settings.log_level, stream=log)
        async with open_engine(settings) as scheduler:
            store = SqlKeyStore(scheduler.database)
            await ensure_admin_key(store, settings.data, now=scheduler.clock.now_ms())
            app = create_app(services_of(scheduler))
            url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            server = _Api(app, bound, shutdown_seconds=settings.shutdown_seconds, ready=url.set_result)
            async with running(server, sockets=[bound]):
                yield Stage(
                    props=props,
                    engine=_engine(settings),
                    api=await url,
                    key=(settings.data / "admin.key").read_text("utf-8").strip(),
                    sqlite=await _sqlite(scheduler),
                )


class _Api(Guest, Server):
    """The API's server as a guest of this event loop."""


async def _sqlite(scheduler: Scheduler) -> str:
    return str(
        await scheduler.database.read(
            lambda connection: connection.exec_driver_sql("SELECT sqlite_version()").scalar()
        )
    )


def _engine(settings: Settings) -> str:
    """Who holds the jobs, where that is somebody else."""
    return f"Temporal at {settings.temporal_address}" if settings.engine == "temporal" else ""


def _settings(props: Props) -> Settings:
    """Everything that the environment could otherwise decide is decided here, but for the engine: that is the one
    of this house, with a task queue of the demo's own."""
    # Another demo in this folder, once it was removed, is another store.
    queue = Hasher.of(props.data).hash("the demo's task queue").hex()[:12]
    return Settings(
        _env_file=None,
        data=props.data,
        temporal_queue=f"cpa-demo-{queue}",
        # A namespace has room for a hundred versioned queues; a demo is over before there is another version.
        temporal_build="off",
        workspace=props.workspace,
        database_url="",
        redis_url="",
        openai_api_key="",
        api_key="",
        smtp_url="",
        imap_url="",
        mail_from="",
        files=(),
        allow_private=(),
        log_level="INFO",
        shutdown_seconds=5.0,
    )


def _write_workspace(props: Props) -> None:
    """`cpa.yaml` with the addresses of this run, and the two secrets, readable by the owner alone."""
    document = {
        "version": 1,
        "values": {"portal": {"url": props.portal, "user": props.user}},
        "mail": _mail_settings(props.mail) | {"from": SENDER},
        "allow_private": [urlsplit(props.portal).netloc],
    }
    props.workspace.mkdir(parents=True, exist_ok=True)
    # JSON is YAML; the addresses change with each run.
    (props.workspace / "cpa.yaml").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    vault = props.data / "secrets"
    vault.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, value in (("portal_password", props.password), ("mail_password", props.mail.smtp.password)):
        _write_secret(vault / name, value)


def _kept(path: Path) -> str:
    """A secret of an earlier start; empty where there is none."""
    return path.read_text("utf-8").strip() if path.is_file() else ""


def _write_secret(path: Path, value: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(value)


def _mail_settings(mail: Mailbox) -> dict[str, str]:
    """The addresses of a mailbox, as `cpa.yaml` takes them."""
    return {"smtp_url": _address("smtp", mail.smtp), "imap_url": _address("imap", mail.imap)}


def _address(scheme: str, account: Account) -> str:
    return f"{scheme}://{quote(account.user, safe='')}@{account.host}:{account.port}"
