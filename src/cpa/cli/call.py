"""What every command shares: its settings, the server it talks to, option types, and how a call ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import quote

import typer

from cpa.errors import (
    BadInput,
    Conflict,
    CPAError,
    Forbidden,
    NotFound,
    Unauthorized,
    Unavailable,
    UnknownIntent,
)

if TYPE_CHECKING:
    from cpa.cli.client import Client
    from cpa.settings import Settings

OK, NEGATIVE, USAGE, NO_SERVER, DENIED, INTERRUPTED = 0, 1, 2, 3, 4, 130

CODES = """\b
Exit codes: 0 all well, 1 the job failed or the answer is no, 2 wrong usage
or input, 3 no server answers, 4 not allowed."""

CONNECT = """\b
The server is the one at CPA_URL (default http://127.0.0.1:8700); the key is
CPA_API_KEY, else cpa-data/admin.key here or in the workspace."""

Json = Annotated[bool, typer.Option("--json", help="The whole answer as JSON, for programs.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, as `submit` prints it.")]
Data = Annotated[Path | None, typer.Option(help="Folder of store, files and keys  [default: cpa-data]")]
Workspace = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Folder with cpa.yaml  [default: here, if it has one]"),
]


def settings(**given: Any) -> Settings:
    """The settings of this call; arguments that are None are left to environment and defaults.

    A folder with a cpa.yaml is the workspace when none is named.
    """
    from pydantic import ValidationError

    from cpa.settings import Settings

    try:
        found = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise BadInput(
            f"setting {name.removeprefix('CPA_').lower()}: {first['msg']}",
            value=first.get("input"),
            remedy="correct the option or environment variable; docs/deployment.md lists all settings",
        ) from error
    if found.workspace is None and Path("cpa.yaml").is_file():
        found = found.model_copy(update={"workspace": Path()})
    return found


def server() -> Client:
    """A client of the server that the environment names, with the key found beside it."""
    from cpa.cli.client import Client

    known = settings()
    return Client(known.url, key_of(known))


def key_of(known: Settings) -> str:
    """The key in the settings, else the one of an admin that lies beside the store; empty when there is none."""
    key = known.api_key.get_secret_value()
    for folder in (known.data, (known.workspace or Path()) / "cpa-data"):
        if not key and (folder / "admin.key").is_file():
            key = read(folder / "admin.key").strip()
    return key


def read(path: Path) -> str:
    """A text file somebody named."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text", value=str(path), remedy="save it as UTF-8") from error
    except OSError as error:
        raise BadInput(
            f"cannot read {path}: {error.strerror}", value=str(path), remedy="check the path and its rights"
        ) from error


def words(text: str) -> str:
    """Text as typed, also where the locale is not UTF-8; `-` reads standard input."""
    if text == "-":
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def part(text: str) -> str:
    """Something typed, as one part of a URL's path."""
    return quote(words(text), safe="")


def dump(answer: Any) -> None:
    """JSON on standard output."""
    sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")


def leave(status: str) -> None:
    """End with the exit code of a job's status."""
    raise typer.Exit(NEGATIVE if status in ("failed", "cancelled") else OK)


def fail(error: CPAError) -> NoReturn:
    """One line on stderr for each thing that is wrong, and the exit code that fits."""
    # A configuration file knows all its problems.
    for said in getattr(error, "problems", ()) or (error,):
        sys.stderr.write(f"cpa: {' '.join(str(said).split())}\n")
    match error:
        case Unavailable():
            code = NO_SERVER
        case Unauthorized() | Forbidden():
            code = DENIED
        case UnknownIntent() | Conflict():
            code = NEGATIVE
        case BadInput() | NotFound():
            code = USAGE
        case _:
            code = NEGATIVE
    sys.exit(code)
