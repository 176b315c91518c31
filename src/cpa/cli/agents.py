"""`cpa agents`: who does the work, how each stands, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpa.cli.call import CONNECT, Data, Json, dump, part, server, settings, words
from cpa.errors import BadInput, NotFound

if TYPE_CHECKING:
    from cpa.cli.client import Client

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Agents: who does the work. List them, look at one, drain, quarantine, activate, revoke."
    "\n\nAn agent is named by its id (ag_…), its name or its address (agent://web/browser-1).",
    epilog="\b\nExamples:\n  cpa agents                     all of them\n"
    "  cpa agents list --capability web.click\n  cpa agents show browser-1\n"
    "  cpa agents drain browser-1     it ends what it has; then stop it\n\n" + CONNECT,
)
Name = Annotated[
    str, typer.Argument(metavar="AGENT", help="Id, name or address, as `cpa agents list` shows.")
]


@app.callback()
def agents(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_agents(as_json=as_json)


@app.command(
    "list",
    epilog="\b\nExamples:\n  cpa agents list\n  cpa agents list --capability mail.send --status online\n"
    "  cpa agents list --json | jq -r '.agents[].address'\n\n" + CONNECT,
)
def list_agents(
    type: Annotated[str, typer.Option(help="Only of this type, such as WEB.")] = "",
    capability: Annotated[str, typer.Option(help="Only who offers this action or tag.")] = "",
    status: Annotated[
        str, typer.Option(help="Only online, busy, offline, draining, quarantined or revoked.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out.")] = 0,
    as_json: Json = False,
) -> None:
    """List the agents that take your tasks. First the part of the server itself, of the type BUILTIN. Who was
    revoked takes none any more and is listed with --status revoked."""
    from cpa.cli import terminal

    with server() as api:
        page = api.get(
            "/agents",
            type=words(type),
            capability=words(capability),
            status=words(status).lower(),
            limit=limit,
            offset=offset,
        )
    dump(page) if as_json else terminal.agents(page)


@app.command(epilog="\b\nExample:\n  cpa agents show browser-1\n\n" + CONNECT)
def show(agent: Name, as_json: Json = False) -> None:
    """Show one agent. Whether it is there and ready, what it does now, how it did lately."""
    from cpa.cli import terminal

    with server() as api:
        found = _found(api, agent, "", "revoked")
        # Of the part of the server itself there is nothing more to know.
        detail = api.get(f"/agents/{part(found['id'])}") if found["id"] else found
    dump(detail) if as_json else terminal.agent(detail)


@app.command(epilog="\b\nExample:\n  cpa agents drain browser-1\n\n" + CONNECT)
def drain(agent: Name) -> None:
    """Offer it nothing new; what it has, it ends. Stop it once `show` lists no attempts."""
    _change(agent, "draining")


@app.command(epilog="\b\nExample:\n  cpa agents quarantine browser-1\n\n" + CONNECT)
def quarantine(agent: Name) -> None:
    """Take its work away at once. What it says is written down and changes nothing until it is active again."""
    _change(agent, "quarantined")


@app.command(epilog="\b\nExample:\n  cpa agents activate browser-1\n\n" + CONNECT)
def activate(agent: Name) -> None:
    """Let a drained or quarantined agent work again."""
    _change(agent, "active")


@app.command(epilog="\b\nExample:\n  cpa agents revoke browser-1\n\n" + CONNECT)
def revoke(agent: Name) -> None:
    """Shut it out for good. Its keys are dead at once, its work goes to others. It would have to register anew."""
    _change(agent, "revoked")


@app.command(epilog="\b\nExample:\n  cpa agents remove browser-1\n\n" + CONNECT)
def remove(agent: Name) -> None:
    """Unregister it and forget it. As `revoke`, and it is listed nowhere any more; nor is one that was revoked."""
    with server() as api:
        found = _id(api, agent)
        api.delete(f"/agents/{part(found)}")
    typer.echo(f"{found} removed")


@app.command(
    epilog="\b\nExamples:\n  cpa agents token --name browser-1\n"
    "  cpa agents token --uses 20 --hours 8   for many\n\n"
    "The agent sends it once, as the header X-Enrolment-Token, and gets a key of its own."
)
def token(
    name: Annotated[str, typer.Option(help="The only agent it is for; any when left out.")] = "",
    uses: Annotated[int, typer.Option(min=1, max=10_000, help="How many agents may register with it.")] = 1,
    hours: Annotated[int, typer.Option(min=0, max=876_000, help="Hours it is valid; 0 is for ever.")] = 24,
    data: Data = None,
) -> None:
    """Make an enrolment token and print it, this once. With it an agent registers itself."""
    from cpa.cli.upkeep import add_token

    typer.echo(add_token(settings(data=data), words(name), uses, hours))


@app.command(epilog="\b\nExamples:\n  cpa agents tokens\n  cpa agents tokens --revoke tok_3f5a…")
def tokens(
    revoke: Annotated[str, typer.Option(metavar="ID", help="Make this token invalid.")] = "",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the enrolment tokens, or revoke one. The tokens themselves are never shown."""
    from cpa.cli import terminal
    from cpa.cli.upkeep import all_tokens, revoke_token

    known = settings(data=data)
    if revoke:
        revoke_token(known, words(revoke))
        typer.echo(f"revoked {words(revoke)}")
        return
    found = all_tokens(known)
    dump(found) if as_json else terminal.tokens(found)


def _change(agent: str, state: str) -> None:
    with server() as api:
        changed = api.post(f"/agents/{part(_id(api, agent))}/state", {"state": state})
    typer.echo(f"{changed['agent_id']} {changed['state']}")


def _id(api: Client, agent: str) -> str:
    """The id of an agent that is named by its id, its name or its address; of one that is revoked where no other
    has that name. The server says what it thinks of that."""
    found = _found(api, agent, "", "revoked")
    if not found["id"]:
        raise BadInput(
            f"{found['name']} is a part of the server itself",
            field="agent",
            value=agent,
            remedy="`cpa serve --no-builtin` leaves all work to other agents",
        )
    return str(found["id"])


def _found(api: Client, agent: str, *status: str) -> dict[str, Any]:
    """What the lists of these statuses say of an agent that is named by its name or its address; of several revoked
    ones of a name the last. An id is taken as it is: the server knows."""
    named = words(agent)
    if named.startswith("ag_"):
        return {"id": named}
    for wanted in status:
        named_so = [each for each in _listed(api, wanted) if named in (each["name"], each["address"])]
        if named_so:
            return dict(named_so[-1])
    raise NotFound(
        f"there is no agent {named}", field="agent", value=named, remedy="`cpa agents list` shows them"
    )


def _listed(api: Client, status: str) -> list[Any]:
    """All agents, page by page."""
    found: list[Any] = []
    total = 1
    while len(found) < total:
        page = api.get("/agents", status=status, limit=1000, offset=len(found))
        found, total = found + page["agents"], page["total"] if page["agents"] else 0
    return found
