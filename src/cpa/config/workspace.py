"""`cpa.yaml`: what one installation works with. Errors name file, line and remedy.

    version: 1
    values:                     # read by templates as {{ values.portal.url }}
      portal: {url: "http://127.0.0.1:8800", user: demo}
    intents: [intents.yaml]     # beside the shipped ones; the same name replaces
    shipped_intents: true       # false leaves the shipped ones out
    files: [./inbox]            # folders the file actions may touch
    mail: {smtp_url: "smtp://user@host:587", imap_url: "imaps://user@host", from: "me@host.example"}
    allow_private: ["127.0.0.1:8800"]   # private hosts that browser and HTTP actions may reach

Secrets never stand here: a value whose name says it is one is refused, and so is a password in an address.
Relative paths are relative to the file's folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from cpa.config.intents import IntentFile, load_intents, load_shipped, router_of
from cpa.config.loading import ConfigError, Document, Problem, load_file, validate
from cpa.core.intent_router import IntentRouter
from cpa.core.utterance import is_address
from cpa.errors import NotFound

FILE = "cpa.yaml"
_SECRET = re.compile(
    r"(?i)(?:^|_|-)(password|passwort|passwd|pwd|secret|geheimnis|token|api_?key|private_?key)$"
)
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::(\d{1,5}))?")
_NAME = re.compile(r"[^\W\d](?:[\w-]*\w)?")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Mail(_Strict):
    smtp_url: str = ""
    imap_url: str = ""
    sender: str = Field(default="", alias="from")


class _File(_Strict):
    version: Literal[1]
    values: dict[str, Any] = {}
    intents: tuple[str, ...] = ()
    shipped_intents: bool = True
    files: tuple[str, ...] = ()
    mail: _Mail = _Mail()
    allow_private: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One installation's configuration, checked; the names are those of `Settings` where both have them."""

    intents: IntentRouter
    folder: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    intent_files: tuple[Path, ...] = ()
    own: tuple[IntentFile, ...] = ()
    """What stands in `intent_files`."""
    files: tuple[Path, ...] = ()
    allow_private: tuple[str, ...] = ()
    smtp_url: str = ""
    imap_url: str = ""
    mail_from: str = ""


def load_workspace(folder: Path | None = None, *, intents: bool = True) -> Workspace:
    """The workspace in this folder (or the `cpa.yaml` given); None gives the shipped intents and nothing else.

    Without `intents` none are read: for those who do the work and plan none of it.

    Raises `NotFound` for no such folder or file, `ConfigError` with all problems, `BadInput`, `TooLarge`.
    """
    if folder is None:
        return Workspace(intents=router_of([load_shipped()] if intents else []))
    path, document, parsed = _read(folder)
    base = path.parent
    intent_files = tuple(base / name for name in parsed.intents if intents)
    sources = [load_shipped()] if parsed.shipped_intents and intents else []
    for number, file in enumerate(intent_files):
        try:
            sources.append(load_intents(file))
        except NotFound as error:
            problem = document.problem(
                ("intents", number), f"there is no file {file}", "Correct the path, relative to cpa.yaml."
            )
            raise ConfigError([problem]) from error
    return Workspace(
        folder=base,
        intents=router_of(sources),
        values=parsed.values,
        intent_files=intent_files,
        own=tuple(sources[-len(intent_files) :] if intent_files else ()),
        files=tuple((base / name).resolve() for name in parsed.files),
        allow_private=parsed.allow_private,
        smtp_url=parsed.mail.smtp_url,
        imap_url=parsed.mail.imap_url,
        mail_from=parsed.mail.sender,
    )


def load_values(folder: Path) -> Mapping[str, Any]:
    """The values alone of the workspace in this folder (or the `cpa.yaml` given), its intents unread. Raises as
    `load_workspace`."""
    return _read(folder)[2].values


def _read(folder: Path) -> tuple[Path, Document, _File]:
    path = folder / FILE if folder.is_dir() else folder
    document = load_file(path)
    parsed = validate(document, _File)
    problems = list(_problems(document, parsed))
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line))
    return path, document, parsed


def _problems(document: Document, parsed: _File) -> Iterator[Problem]:
    yield from _values(document, parsed.values, ("values",))
    for key, schemes in (("smtp_url", ("smtp", "smtps")), ("imap_url", ("imap", "imaps"))):
        url = getattr(parsed.mail, key)
        if url:
            yield from _url(document, ("mail", key), url, schemes)
    if parsed.mail.sender and not is_address(parsed.mail.sender):
        yield document.problem(
            ("mail", "from"), f"{parsed.mail.sender!r} is no mail address", "Write name@host.example."
        )
    for number, host in enumerate(parsed.allow_private):
        match = _HOST.fullmatch(host)
        if match is None or int(match.group(1) or 1) > 65535:
            yield document.problem(
                ("allow_private", number), f"{host!r} is no host", "Write host or host:port, without http://."
            )
    if not parsed.shipped_intents and not parsed.intents:
        yield document.problem(
            ("shipped_intents",), "no intent is left", "Name a file under intents, or take the shipped ones."
        )


def _values(document: Document, values: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Problem]:
    for name, value in values.items():
        here = (*path, name)
        if not _NAME.fullmatch(name):
            yield document.problem(
                here, f"{name!r} cannot be referred to", "Use letters, digits and _, beginning with a letter."
            )
        if _SECRET.search(name) and value not in (None, ""):
            yield document.problem(
                here,
                "looks like a secret in clear",
                'Keep it as a secret, and write {"secret": "name"} in the task.',
            )
        elif isinstance(value, str) and _carries_password(value):
            yield document.problem(
                here, "an address with a password in it", "Leave the password out and keep it as a secret."
            )
        if isinstance(value, Mapping):
            yield from _values(document, value, here)


def _url(
    document: Document, path: tuple[str | int, ...], url: str, schemes: tuple[str, ...]
) -> Iterator[Problem]:
    form = f"Write {schemes[0]}://user@host:port."
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        yield document.problem(path, f"{url!r} is no address", form)
        return
    if parts.password:
        yield document.problem(path, "a password in clear", "Leave it out and keep it as a secret.")
    elif not good:
        yield document.problem(path, f"{url!r} is no {schemes[0]} address", form)


def _carries_password(value: str) -> bool:
    try:
        return bool(urlsplit(value).password) if "://" in value else False
    except ValueError:
        return False
