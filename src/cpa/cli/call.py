"""What every command shares: its settings, the server it talks to, option types, and how a call ends."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import quote

import typer

from cpa.cli.terminal import flat
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

_WHOLE = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ACTING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What JSON may hold as it is, and a terminal acts on."""
_LARGEST = 64 * 1024 * 1024
"""Bytes of a file that a command reads."""

CODES = """\b
Exit codes: 0 all well, 1 the job failed or the answer is no, 2 wrong usage
or input, 3 no server answers, 4 not allowed."""

CONNECT = """\b
The server is the one at CPA_URL (default http://127.0.0.1:8700); the key is
CPA_API_KEY, else cpa-data/admin.key here or in the workspace."""

Json = Annotated[bool, typer.Option("--json", help="The whole answer as JSON, for programs.")]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, some signs of its beginning or end, or `last`.")
]
Data = Annotated[Path | None, typer.Option(help="Folder of store, files and keys  [default: cpa-data]")]
Workspace = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Folder with cpa.yaml  [default: here, if it has one]"),
]

Sentence = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="The request, in your words; - reads standard input."),
]
Replies = Annotated[
    list[str] | None,
    typer.Option(metavar="ARGUMENT=WORDS", help="Reply to what is asked back, as in to=anna@kunde.example."),
]


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer for people and for programs, and whether it is the good one."""

    well: bool
    text: str
    facts: dict[str, Any]


def sentence(said: Sequence[str] | None) -> str:
    """A request that was typed, with or without quotes around it; a `-` alone reads standard input."""
    typed = list(said or ())
    return words("-") if typed == ["-"] else words(" ".join(typed))


def replies(given: list[str] | None) -> dict[str, str]:
    """Each `argument=words`. Raises `BadInput` for anything else."""
    found: dict[str, str] = {}
    for entry in given or ():
        name, sign, said = words(entry).partition("=")
        if not sign or not name.strip() or not said.strip():
            raise BadInput(
                f"{entry!r} is no reply",
                field="reply",
                value=entry,
                remedy="write --reply to=anna@kunde.example",
            )
        found[name.strip()] = said.strip()
    return found


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

    def slow() -> None:
        sys.stderr.write(f"waiting for the server at {known.url} to take it ...\n")
        sys.stderr.flush()

    # For people alone: what reads our standard error finds in it what it found before.
    return Client(known.url, key_of(known), slow=slow if sys.stderr.isatty() else None)


def key_of(known: Settings) -> str:
    """The key in the settings, else the one of an admin that lies beside the store; empty when there is none."""
    key = known.api_key.get_secret_value()
    for folder in (known.data, (known.workspace or Path()) / "cpa-data"):
        if not key and (folder / "admin.key").is_file():
            key = read(folder / "admin.key").strip()
    return key


def job_id(api: Client, typed: str) -> str:
    """The whole id of the job that somebody means: an id, its beginning or end, or `last`, the newest.

    Parts are looked for among the newest 1,000 jobs. `BadInput` where several fit; what fits none is left as it
    is, for the server to say that there is no such job.
    """
    text = words(typed).strip().lower().strip("…")
    if _WHOLE.fullmatch(text) or not text:
        return text
    limit = 1 if text == "last" else 1000
    return fitting(text, [str(job["id"]) for job in api.get("/jobs", limit=limit)["jobs"]])


def fitting(text: str, known: Sequence[str]) -> str:
    """The one of these ids, newest first, that `text` begins or ends; the first for `last`; `text` if none fits."""
    found = (
        known[:1] if text == "last" else [job for job in known if job.startswith(text) or job.endswith(text)]
    )
    if not known and text == "last":
        raise NotFound("there is no job yet", remedy='hand in a request: cpa submit "..."')
    if len(found) > 1:
        raise BadInput(
            f"{len(found)} jobs fit {text!r}: {', '.join(found[:5])}{' …' if len(found) > 5 else ''}",
            field="job",
            remedy="give more of its signs; their ends differ most",
        )
    return found[0] if found else text


def read(path: Path) -> str:
    """A text file somebody named, without the mark that some editors write at its beginning."""
    try:
        return content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text", value=str(path), remedy="save it as UTF-8") from error


def content(path: Path) -> bytes:
    """The bytes of a file somebody named: a plain one, for a pipe or a device may have no end."""
    from cpa.config.loading import read_plain

    try:
        return read_plain(path, _LARGEST)
    except OSError as error:
        raise BadInput(
            f"cannot read {path}: {error.strerror}", value=str(path), remedy="check the path and its rights"
        ) from error


def words(text: str) -> str:
    """Text as typed, also where the locale is not UTF-8; `-` reads standard input. `BadInput` where it is no UTF-8
    text: sent with other signs in place of the wrong ones, it would go out so."""
    try:
        if text == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig")
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        if text == "-":
            raise BadInput("standard input is not UTF-8 text", remedy="save it as UTF-8") from error
        shown = "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in text)
        raise BadInput(f"{shown!r} is not UTF-8 text", remedy="set the terminal to UTF-8") from error


def part(text: str) -> str:
    """Something typed, as one part of a URL's path."""
    return quote(words(text), safe="")


def dump(answer: Any) -> None:
    """JSON on standard output; signs that would make a terminal act are spelled out in it."""
    text = json.dumps(answer, ensure_ascii=False, indent=2)
    sys.stdout.write(_ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def leave(status: str) -> None:
    """End with the exit code of a job's status."""
    raise typer.Exit(NEGATIVE if status in ("failed", "cancelled") else OK)


_OPTIONS = {
    "run_at": "--at",
    "deadline": "--deadline",
    "task_graph": "--graph",
    "Idempotency-Key": "--idempotency-key",
}
_NO_KEY = (
    "run this in the server's workspace, where cpa-data/admin.key is, or in another folder with "
    "CPA_API_KEY=$(cat WORKSPACE/cpa-data/admin.key)"
)
_HERE = (
    (re.compile(r"^(?:job_id|question_id|text): "), ""),
    (re.compile(r"^query\.(\w+)"), r"--\1"),
    (re.compile(r"^replies\.(\w+)"), r"--reply \1"),
    (re.compile(r"^X-API-Key: (no API key) .*"), rf"\1 ({_NO_KEY})"),
    (re.compile(r"^X-API-Key: "), "CPA_API_KEY: "),
    (re.compile(r"^(run_at|deadline|task_graph|Idempotency-Key)\b"), lambda found: _OPTIONS[found[1]]),
    (re.compile(r"\bGET /jobs/([0-9a-f-]{36})(?:/events)?\b"), r"`cpa job \1`"),
    (re.compile(r"\bGET /questions/[\w.-]+"), "`cpa questions`"),
    (re.compile(r"\bGET /jobs/([0-9a-f-]+)(?:/events)?"), r"`cpa job \1`"),
    (re.compile(r"\bGET /questions/[0-9a-f.-]+"), "`cpa questions`"),
    (re.compile(r"\bGET /(jobs|questions)\b"), r"`cpa \1`"),
    (re.compile(r"\bGET /agents\b"), "`cpa agents list`"),
    (re.compile(r"correct [\w.]+; /openapi.json has the schema"), "`--help` shows an example"),
)
"""What the API says to programs, as people at the command line would say it."""


def _here(text: str) -> str:
    for pattern, words_for_it in _HERE:
        text = pattern.sub(words_for_it, text)
    return text


def _asked(error: CPAError) -> tuple[str, ...]:
    """The question back, by itself, and how it is answered here; nothing for other errors."""
    _, dot, name = (error.field or "").partition("arguments.")
    if not (isinstance(error, UnknownIntent) and error.remedy and (dot or error.field == "text")):
        return ()
    return (error.remedy, f"answer with --reply {name}=...") if dot else (error.remedy,)


def fail(error: CPAError) -> NoReturn:
    """One line on stderr for each thing that is wrong, in the command line's words, and the exit code that fits."""
    for said in error.problems or _asked(error) or (error,):
        sys.stderr.write(f"cpa: {_here(flat(str(said)))}\n")
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
