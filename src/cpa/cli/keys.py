"""`cpa keys`: API keys in the local store. Works beside a running server, which learns of it in seconds."""

from __future__ import annotations

from typing import Annotated

import typer

from cpa.cli.call import Data, Json, dump, settings, words

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="API keys: who may do what.")


@app.command(
    "add",
    epilog="\b\nExamples:\n  cpa keys add billing-bot\n  cpa keys add desk --scope read --days 30",
)
def add(
    name: Annotated[str, typer.Argument(help="Who will use it; shown in the audit trail.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="admin, submit, read, agent or metrics; may be repeated  [default: submit]"),
    ] = None,
    days: Annotated[int, typer.Option(min=0, max=36_500, help="Days it is valid; 0 is for ever.")] = 0,
    data: Data = None,
) -> None:
    """Make a key and print it, this once: the store keeps only its hash."""
    from cpa.cli.upkeep import add_key

    typer.echo(
        add_key(settings(data=data), words(name), [words(each) for each in scope or ()] or ["submit"], days)
    )


@app.command("list")
def list_keys(data: Data = None, as_json: Json = False) -> None:
    """List the keys of the local store, never the keys themselves."""
    from cpa.cli import terminal
    from cpa.cli.upkeep import all_keys

    found = all_keys(settings(data=data))
    dump(found) if as_json else terminal.keys(found)


@app.command("revoke", epilog="\b\nExample:\n  cpa keys revoke key_3f5a…")
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="Id as `cpa keys list` shows it.")],
    data: Data = None,
) -> None:
    """Make a key invalid. A running server stops accepting it within two seconds."""
    from cpa.cli.upkeep import revoke_key

    revoke_key(settings(data=data), words(key))
    typer.echo(f"revoked {words(key)}")
