"""`cpa agent`: run an agent here, with the executors that come with CPA or functions of your own, for a scheduler
anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpa.cli import agents
from cpa.cli.call import Workspace, key_of, settings, words
from cpa.errors import BadInput

if TYPE_CHECKING:
    from cpa.agents.agent import Agent
    from cpa.settings import Settings

HELP = """\b
Examples:
  cpa agent web
  cpa agent mail --url https://cpa.example --token tok_…
  cpa agent web files --name browser-2 --slots 2 --data /var/lib/browser-2
  cpa agent rechner.py                    your own actions
  cpa agent http --listen 127.0.0.1:0     be called; open no channel

\b
web: a browser. mail: the account at CPA_SMTP_URL and CPA_IMAP_URL. http:
requests. files: the folders in CPA_FILES. FILE.py: `agent = Agent("rechner")`
and functions under `@agent.action("x.rechner.add")`;
docs/EXECUTOR_GUIDE.md shows one of twenty lines.

\b
The first start needs an enrolment token (`cpa agents token`, at the server)
or the key of an admin: --key, CPA_API_KEY, or the file cpa-data/admin.key
here. From then on the agent has a key of its own, which lies in its folder,
readable by you alone, with what it must not forget. Its accounts and folders
are its own too: settings, cpa.yaml of this machine, secrets/ in its folder.

\b
It prints one line when it is ready and logs to standard error; it looks for a
scheduler that is away until it is back. Ctrl-C or SIGTERM: it takes nothing
new and ends what it has; twice: at once."""


class Kind(StrEnum):
    WEB = "web"
    MAIL = "mail"
    HTTP = "http"
    FILES = "files"


_TYPES = {Kind.WEB: "WEB", Kind.MAIL: "EMAIL", Kind.HTTP: "DATA", Kind.FILES: "DATA"}
_OF_AGENTS = {each.name or getattr(each.callback, "__name__", "") for each in agents.app.registered_commands}
"""What is done to agents that are there, which `cpa agents` does."""
_SLOTS = {Kind.WEB: 4, Kind.MAIL: 4, Kind.HTTP: 20, Kind.FILES: 20}


def add_to(app: typer.Typer) -> None:
    app.command(epilog=HELP)(agent)


def agent(
    what: Annotated[list[str], typer.Argument(metavar="web|mail|http|files|FILE.py…", help="What it does.")],
    url: Annotated[
        str, typer.Option(metavar="URL", help="The scheduler  [default: CPA_URL or http://127.0.0.1:8700]")
    ] = "",
    key: Annotated[str, typer.Option(help="Key for the first registration  [default: CPA_API_KEY]")] = "",
    token: Annotated[
        str, typer.Option(help="Enrolment token instead of a key  [default: CPA_ENROLMENT_TOKEN]")
    ] = "",
    name: Annotated[str, typer.Option(help="A name nobody else has  [default: kind and host]")] = "",
    slots: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Tasks at the same time  [default: 4; http, files: 20]"),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Be called there, instead of opening a channel.")
    ] = "",
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="How the scheduler reaches --listen, where that differs.")
    ] = "",
    tag: Annotated[
        list[str] | None, typer.Option(help="A capability that tasks may ask for, such as outlook.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Its folder: identity, memory, secrets  [default: NAME-agent]")
    ] = None,
    workspace: Workspace = None,
    sign: Annotated[bool, typer.Option("--sign", help="Sign all it says, with a key of its own.")] = False,
) -> None:
    """Run an agent in a process of its own. It registers with a scheduler, takes tasks, and answers for them."""
    import os

    from cpa.agents.loop import run

    here = settings(workspace=workspace)
    kinds, file = _chosen([words(each) for each in what])
    made = _made(kinds, file)
    token = token or os.environ.get("CPA_ENROLMENT_TOKEN", "")
    made.configure(
        name=words(name),
        url=url or (here.url if file is None or "url" in here.model_fields_set else ""),
        key=key or ("" if token else key_of(here)),
        token=token,
        slots=slots,
        listen=listen,
        endpoint=endpoint,
        tags=tuple(map(words, tag or ())),
        data=data,
        sign=sign,
    )
    run(_serve(kinds, made, settings(data=made.data, workspace=workspace)))


def _chosen(what: Sequence[str]) -> tuple[tuple[Kind, ...], Path | None]:
    """The executors and the file that were named."""
    files = [each for each in what if each.endswith(".py")]
    unknown = [each for each in what if each not in set(Kind) and each not in files]
    if unknown or len(files) > 1:
        remedy = f"say {', '.join(Kind)}, or name one Python file"
        if what[0] in _OF_AGENTS:
            remedy = f"did you mean `cpa agents {' '.join(what)}`?"
        raise BadInput(
            f"there is no agent {unknown[0]!r}" if unknown else "one file at a time",
            field="what",
            remedy=remedy,
        )
    return tuple(dict.fromkeys(map(Kind, (each for each in what if each not in files)))), (
        Path(files[0]) if files else None
    )


def _made(kinds: Sequence[Kind], file: Path | None) -> Agent:
    """The agent of the file, else one that is called after what it does and where."""
    from cpa.agents.agent import Agent
    from cpa.agents.identity import own_name
    from cpa.agents.script import agent_in

    if file is not None:
        return agent_in(file)
    slots = min(_SLOTS[kind] for kind in kinds)
    return Agent(own_name("-".join(kinds)), type=_TYPES[kinds[0]], slots=slots)


async def _serve(kinds: Sequence[Kind], agent: Agent, own: Settings) -> None:
    """Give the agent its hands and let it work."""
    from cpa.config.workspace import load_workspace
    from cpa.executors import builtin
    from cpa.security.addresses import AddressGuard
    from cpa.security.secrets import EnvironmentAndFileSecrets
    from cpa.telemetry.logs import configure

    vault = EnvironmentAndFileSecrets(agent.data / "secrets")
    configure(own.log_level, known=lambda: vault.known("default"))
    installation = load_workspace(own.workspace, intents=False)
    guard = AddressGuard((*own.allow_private, *installation.allow_private))
    builtin.check(kinds, own, installation)

    for executor in builtin.make(
        kinds,
        own,
        installation,
        artifacts=agent.artifacts,
        vault=vault,
        guard=guard,
        look_up=guard.look_up,
    ):
        agent.add(executor)
    await agent.serve()
