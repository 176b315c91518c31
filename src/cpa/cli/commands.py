"""The root of the command line, and the commands that need no server: begin, serve, try out, look after."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from cpa.cli import agent, agents, approvals, dead_letters, jobs, keys
from cpa.cli.call import (
    CODES,
    INTERRUPTED,
    NEGATIVE,
    OK,
    Data,
    Json,
    Replies,
    Sentence,
    Workspace,
    dump,
    fail,
    replies,
    sentence,
    settings,
)
from cpa.cli.hints import Hinting
from cpa.errors import BadInput, CPAError


class _Commands(Hinting):
    meant = MappingProxyType(
        {
            "status": "job last",
            "state": "job last",
            "show": "job last",
            "list": "jobs",
            "history": "jobs",
            "run": "submit",
            "start": "serve",
            "stop": "cancel",
            "logs": "audit",
            "why": "explain last",
            "inbox": "questions",
            "version": "--version",
            "help": "--help",
        }
    )


app = typer.Typer(
    name="cpa",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="A sentence becomes a checked plan; browser, mailbox and files carry it out; the effect is proved."
    "\n\n\b\nFirst steps:\n"
    "  cpa demo                    see it work, with nothing set up\n"
    "  cpa init my-automation      write a small commented workspace\n"
    "  cpa serve                   start the server, in the workspace\n"
    '  cpa submit "..." --watch    hand in a request and watch it\n'
    "  cpa COMMAND --help          examples for each command\n"
    f"\n{CODES}",
)
intents = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What can be asked for: list it, check a file of it."
)
migrations = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


class Engine(StrEnum):
    LOCAL = "local"
    TEMPORAL = "temporal"


class Language(StrEnum):
    EN = "en"
    DE = "de"
    BOTH = "both"


def run() -> None:
    """Run the command line: every expected error becomes one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # A sign the terminal lacks must not end a command.
    try:
        app()
    except CPAError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _version(wanted: bool) -> None:
    if wanted:
        from cpa import __version__

        typer.echo(f"cpa {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options before any command."""


@app.command(epilog="\b\nExample:\n  cpa init my-automation\n  cd my-automation\n  cpa serve")
def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")]) -> None:
    """Write a small commented workspace, with one worked example. Overwrites nothing."""
    from cpa.cli.starter import write

    for path in write(folder):
        typer.echo(f"wrote {path}")
    typer.echo(f"\nNext: cd {folder} and follow its README.md")


@app.command(
    epilog="\b\nExamples:\n  cpa demo\n  cpa demo --language de\n"
    f"  cpa demo --agents    three processes, two come to harm\n  cpa demo --serve\n\n{CODES}",
)
def demo(
    serve: Annotated[
        bool, typer.Option("--serve", help="Only keep portal and mailbox running, for your own automations.")
    ] = False,
    language: Annotated[
        Language, typer.Option(help="Language of the sentence; with --agents of all that is said.")
    ] = Language.BOTH,
    agents: Annotated[
        bool,
        typer.Option("--agents", help="Three agents in processes of their own do it; two come to harm."),
    ] = False,
    keep_open: Annotated[
        bool, typer.Option("--keep-open", help="Leave the servers running at the end, to look around.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where everything of the demo lies.")] = Path("demo-data"),
) -> None:
    """See it work: a sentence in, a real mail out, proved.

    A browser fetches an invoice from a supplier portal, a mail server delivers it.
    """
    from cpa.demo.story import run_demo, serve_demo
    from cpa.demo.trial import run_agents

    if agents and (serve or keep_open):
        option = "--serve" if serve else "--keep-open"
        raise BadInput(
            "the demo with agents ends its servers itself",
            field=option,
            remedy=f"give {option} without --agents",
        )
    if agents:
        raise typer.Exit(run_agents(language=language.value, folder=folder))
    if serve:
        raise typer.Exit(serve_demo(folder=folder))
    raise typer.Exit(run_demo(language=language.value, folder=folder, keep_open=keep_open))


@app.command(
    epilog="\b\nExamples:\n  cpa serve\n  cpa serve --data /var/lib/cpa --host 0.0.0.0 --port 8700\n"
    "  cpa serve --port 0             a free port; the line it prints says which\n\n"
    "The first start writes the admin key to DATA/admin.key, readable by you alone. Stop it with Ctrl-C or "
    "SIGTERM: running attempts may end, everything else stays durable and goes on at the next start."
)
def serve(
    data: Data = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one  [default: 8700]")] = None,
    workspace: Workspace = None,
    no_builtin: Annotated[
        bool, typer.Option("--no-builtin", help="Leave all work to agents in processes of their own.")
    ] = False,
) -> None:
    """Start the server on an empty or an existing folder. Prints one line when it is ready."""
    from cpa.cli.upkeep import serve as serve_now

    builtin = False if no_builtin else None
    serve_now(settings(data=data, host=host, port=port, workspace=workspace, builtin_agent=builtin))


@migrations.callback(
    epilog="\b\nExamples:\n  cpa migrate --data /var/lib/cpa\n  cpa migrate engine --to temporal --dry-run"
)
def migrate(context: typer.Context, data: Data = None) -> None:
    """Bring the store to this version, or jobs to another engine.

    `cpa serve` brings the store to this version by itself when it starts.
    """
    from cpa.cli.upkeep import migrate as migrate_now

    context.obj = data
    if context.invoked_subcommand is None:
        typer.echo(migrate_now(settings(data=data)))


@migrations.command(
    epilog="\b\nExamples:\n  cpa migrate engine --to temporal --dry-run\n  cpa migrate engine --to temporal\n"
    "  cpa migrate engine --to local --json\n\n"
    "Stop `cpa serve` first; a dry run may look beside it. Killed in the middle, it goes on when it is called "
    "again, and nothing happens twice. Exit code 1 when a job could not be moved; 3 when the store is in use or "
    "the Temporal server does not answer."
)
def engine(
    context: typer.Context,
    to: Annotated[Engine, typer.Option(help="The engine that is to go on with all open jobs.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would move, and change nothing.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Hand all open jobs over to another engine."""
    from cpa.cli.moving import move

    answer = move(settings(data=data or context.obj), to.value, rehearsal=dry_run)
    dump(answer.facts) if as_json else typer.echo(answer.text)
    raise typer.Exit(OK if answer.well else NEGATIVE)


@app.command(
    epilog='\b\nExamples:\n  cpa route "Get ACME\'s latest invoice and mail it to billing@kunde.example"\n'
    '  cpa route "Schicke die Rechnung an ..." --intents intents.yaml --json\n\n'
    "Exit code 1 when no rule understands the text."
)
def route(
    text: Sentence,
    file: Annotated[
        Path | None, typer.Option("--intents", help="An intents file instead of the workspace's.")
    ] = None,
    reply: Replies = None,
    all: Annotated[
        bool, typer.Option("--all", help="Also how each sentence was read, and why each pattern lost.")
    ] = False,
    workspace: Workspace = None,
    as_json: Json = False,
) -> None:
    """Show what a sentence would do, and what is missing. Runs nothing, needs no server."""
    from cpa.cli.rules import route as route_now

    known = settings(workspace=workspace).workspace
    answer = route_now(sentence(text), known, file, replies=replies(reply), all=all)
    dump(answer.facts) if as_json else typer.echo(answer.text)
    raise typer.Exit(OK if answer.well else NEGATIVE)


@intents.command(
    "list", epilog="\b\nExamples:\n  cpa intents list\n  cpa intents list --intents intents.yaml --json"
)
def list_intents(
    file: Annotated[
        Path | None, typer.Option("--intents", help="An intents file instead of the workspace's.")
    ] = None,
    workspace: Workspace = None,
    as_json: Json = False,
) -> None:
    """List what can be asked for, with examples."""
    from cpa.cli.rules import listing

    answer = listing(settings(workspace=workspace).workspace, file)
    dump(answer.facts) if as_json else typer.echo(answer.text)


@intents.command("check", epilog="\b\nExample:\n  cpa intents check intents.yaml")
def check_intents(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The intents file.")],
    workspace: Workspace = None,
    as_json: Json = False,
) -> None:
    """Check an intents file. Errors with line and remedy, whether every plan can be made and every example is
    understood. Values are those of the cpa.yaml beside the file. Where there is a store, who is to answer and has
    no key is told."""
    from cpa.cli.rules import check
    from cpa.cli.upkeep import found_keys

    known = settings(workspace=workspace)
    answer = check(file, known.workspace, found_keys(known, file.parent))
    dump(answer.facts) if as_json else typer.echo(answer.text)
    raise typer.Exit(OK if answer.well else NEGATIVE)


@app.command(
    epilog="\b\nExamples:\n  cpa replay last\n"
    "  cpa replay tests/histories/1/cancel.json    as in the sources of CPA"
)
def replay(
    what: Annotated[
        str,
        typer.Argument(
            metavar="JOB|FILE", help="A job of the local store, as for `cpa job`, or a history file."
        ),
    ],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Run a job's stored events through the core again. Exit code 1 unless the stored state comes out."""
    from cpa.cli.upkeep import replay as replay_now

    answer = replay_now(what, settings(data=data))
    dump(answer.facts) if as_json else typer.echo(answer.text)
    raise typer.Exit(OK if answer.well else NEGATIVE)


@app.command(
    epilog="\b\nExamples:\n  cpa simulate                                100 runs, of seeds 0 to 99\n"
    "  cpa simulate --seed 4711 --runs 1           one of them again\n"
    "  cpa simulate --runs 50000 --workers 2       a long soak\n"
    "  cpa simulate --only crashes,loss --agents 2 these faults alone\n"
    "  cpa simulate --core --runs 100000           the core alone, event by event\n\n"
    "Exit code 1 when a promise was broken (with the seed, the shortest trace and the command that shows it "
    "again), or when so little happened that nothing is proved."
)
def simulate(
    seed: Annotated[int, typer.Option(help="The first seed; each run has the next one.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="How many runs.")] = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes to run them in.")] = 1,
    seconds: Annotated[
        float,
        typer.Option(min=0, help="Begin no run after this time  [default: unlimited]", show_default=False),
    ] = 0.0,
    core: Annotated[
        bool,
        typer.Option("--core", help="The core alone: one job a run, and all events that could happen to it."),
    ] = False,
    jobs_: Annotated[
        int,
        typer.Option("--jobs", min=0, help="Jobs in each run  [default: drawn, 1 to 5]", show_default=False),
    ] = 0,
    agents_: Annotated[
        int,
        typer.Option(
            "--agents", min=0, help="Agents in each run  [default: drawn, 1 to 4]", show_default=False
        ),
    ] = 0,
    tasks: Annotated[
        int,
        typer.Option(
            min=0, help="Most tasks of a job  [default: drawn, 1 to 6; of the core 12]", show_default=False
        ),
    ] = 0,
    minutes: Annotated[
        float,
        typer.Option(
            min=0, help="Virtual minutes of trouble in each run  [default: drawn, 1 to 4]", show_default=False
        ),
    ] = 0.0,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Faults that do not exist, with commas between; an unknown one names them all."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Exactly these faults exist, with commas between  [default: drawn]"),
    ] = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="On a real SQLite store instead of one in memory.")
    ] = False,
    wire: Annotated[
        str,
        typer.Option(
            help="How agents are joined: direct, channel, http, signed-channel, signed-http  [default: drawn]",
            show_default=False,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Check every promise in simulated trouble.

    Scheduler and agents are the real ones; time, network, disk, people and what goes wrong are simulated."""
    from cpa.cli import simulation

    wanted = simulation.Wanted(
        seed=seed,
        runs=runs,
        workers=workers,
        seconds=seconds,
        jobs=jobs_,
        agents=agents_,
        tasks=tasks,
        minutes=minutes,
        sql=sql,
        wire=wire,
        without=without or (),
        only=only or (),
    )
    answer = simulation.simulate_core(wanted) if core else simulation.simulate(wanted)
    dump(answer.facts) if as_json else typer.echo(answer.text)
    raise typer.Exit(OK if answer.well else NEGATIVE)


jobs.add_to(app)
app.registered_commands += approvals.app.registered_commands
agent.add_to(app)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(intents, name="intents")
app.add_typer(keys.app, name="keys")
app.add_typer(migrations, name="migrate")
app.add_typer(agents.app, name="agents")
