"""References between tasks: a tiny, total substitution. Nothing is evaluated, nothing inserted is read again.

    {{ tasks.download.result.file }}      a result of an earlier task; filled at dispatch (`fill`)
    {{ arguments.recipient }}             what the request named; filled at planning (`prefill`)
    {{ values.portal.url }}               the workspace's own values; filled at planning (`prefill`)
    {{ "{{" }}                            two braces as text

A path goes on with `.name`, `.0`, `[0]` or `["any key"]`. A string that is nothing but one reference takes
over the value with its type. Inside a longer text a value is written out: text as it is, numbers as JSON
writes them, true and false in lower case, null as nothing, a file by its name. A list is written for people: one
entry a line where the reference has a line to itself, else with commas; nested values are written as JSON. Keys
of objects are literal. Two opening braces that begin no well-formed reference are an error, so that a typing
mistake is never mailed to anyone.

Two doors are kept shut here. Text inserted at planning will be searched once more at dispatch, so its own
braces are written as `{{ "{" }}`. And no result may contain an object that names a secret: it would make an
executor reveal a secret to whoever wrote the page or answer it came from.

A scope has the shape of the references: `{"tasks": {id: {"result": {...}}}, "arguments": {...}, "values":
{...}}`; each part may be missing.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cpa.core.room import Room
from cpa.errors import InvalidDocument, TooLarge

Scope = Mapping[str, Mapping[str, Any]]

ROOTS = ("tasks", "arguments", "values")
MAX_DEPTH = 64
"""How deep lists and objects may be nested where references are looked for."""
MAX_TEXT = 1024 * 1024
"""Longest text that filling may make, in characters."""
MAX_FILLED = 2 * MAX_TEXT
"""Most that may be filled into the values of one task, in bytes of JSON."""

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING", "__bool__": lambda self: False})()
"""What `lookup` gives for a path that leads nowhere; not the same as null."""

_NAME = r"\.(\w(?:[\w-]*\w)?)"
_INDEX = r"\[(\d{1,9})\]"
_KEY = r"""\["([^"{}]{0,200})"\]|\['([^'{}]{0,200})'\]"""
_SEGMENT = re.compile(f"{_NAME}|{_INDEX}|{_KEY}")
REFERENCE_PATTERN = re.sub(r"(?<!\\)\((?!\?)", "(?:", rf"(?:{'|'.join(ROOTS)})(?:{_SEGMENT.pattern}){{1,32}}")
"""A reference without its braces, as a regular expression without groups."""

_REFERENCE = re.compile(REFERENCE_PATTERN)
_BRACES = re.compile(r"""\{\{(?!\{)(?:\ {0,9}"(\{{1,2}|\}{1,2})"\ {0,9}|([^{}]*))\}\}""")
_RISKY = re.compile(r"\{(?=\{|\Z)|(?<=\{)\{|\A\{")
_SECRET = ("secret", "prefix")
_ESCAPED = '{{ "{" }}'


@dataclass(frozen=True, slots=True)
class Reference:
    """One parsed reference: `root` is one of `ROOTS`, `path` what follows (for tasks: id, `result`, …)."""

    root: str
    path: tuple[str | int, ...]
    text: str
    """As written, without braces."""

    @property
    def task(self) -> str:
        """The id of the task referred to; empty for other roots."""
        return str(self.path[0]) if self.root == "tasks" else ""

    @property
    def field(self) -> str:
        """The name in the task's result, or empty where the whole result is meant."""
        return str(self.path[2]) if self.root == "tasks" and len(self.path) > 2 else ""


def parse(text: str) -> Reference:
    """The reference written as `text`, without braces. Raises `InvalidDocument`."""
    path: tuple[str | int, ...]
    text = text.strip()
    if not _REFERENCE.fullmatch(text):
        raise InvalidDocument(
            f"{text[:100]!r} is no reference",
            value=text,
            remedy="Write {{ tasks.<id>.result.<name> }}, {{ arguments.<name> }} or {{ values.<name> }}; "
            'two braces as text are {{ "{{" }}.',
        )
    if "[" in text:
        root = re.split(r"[.\[]", text, maxsplit=1)[0]
        path = tuple(_segment(match) for match in _SEGMENT.finditer(text, len(root)))
    else:
        root, *names = text.split(".")
        path = tuple(names)
    if root == "tasks" and (len(path) < 2 or path[1] != "result"):
        raise InvalidDocument(
            f"{text[:100]!r} does not say which result is meant",
            value=text,
            remedy=f"Write {{{{ tasks.{path[0]}.result.<name> }}}}.",
        )
    return Reference(root, path, text)


def _segment(match: re.Match[str]) -> str | int:
    return int(match[2]) if match[2] else str(match[match.lastindex or 0])


def references(value: Any) -> tuple[Reference, ...]:
    """Every reference in a nested JSON value, in order. Raises `InvalidDocument` for a broken one."""
    found: list[Reference] = []
    for text in _texts(value, 0):
        if "{{" in text:
            found.extend(part for part in pieces(text) if isinstance(part, Reference))
    return tuple(found)


def whole(text: str) -> Reference | None:
    """The reference a string consists of, or None where it is text, or text with references in it."""
    parts = pieces(text) if "{{" in text else []
    return parts[0] if len(parts) == 1 and isinstance(parts[0], Reference) else None


def fill(value: Any, scope: Scope) -> Any:
    """`value` with every reference replaced; parts without any are shared, not copied.

    Raises `InvalidDocument` naming a reference that leads nowhere, and `TooLarge` over `MAX_TEXT` or `MAX_FILLED`.
    """
    return fill_each({"": value}, scope)[""]


def fill_each(values: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    """As `fill`, for several values by name, of which `MAX_FILLED` bounds the sum."""
    room = Room(MAX_FILLED)
    return {
        name: _fill(value, lambda text: room.take(_fill_text(text, scope)), 0)
        for name, value in values.items()
    }


def prefill(value: Any, scope: Scope) -> Any:
    """As `fill`, but leaves references to `tasks` for dispatch, and inserts text so that it stays text then.

    Not for conditions, where inserted text would become code: see `conditions.bind`.
    """
    return _fill(value, lambda text: _prefill_text(text, scope), 0)


def literal(value: Any) -> Any:
    """`value` in a form that `fill` turns back into it: nothing in its texts is a reference."""
    return _fill(value, _escape, 0)


def lookup(reference: Reference, scope: Scope) -> Any:
    """The value referred to, or `MISSING`. Never raises."""
    return _walk(reference, scope)[0]


def _walk(reference: Reference, scope: Scope) -> tuple[Any, Any, str | int]:
    """The value or `MISSING`, what it was last looked for in, and by which name."""
    value: Any = scope.get(reference.root, MISSING)
    within: Any = None
    step: str | int = ""
    for step in reference.path:
        within, value = value, _step(value, step)
        if value is MISSING:
            break
    return value, within, step


def _step(value: Any, step: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(str(step), MISSING)
    if isinstance(value, list | tuple):
        text = str(step)
        index = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else len(value)
        return value[index] if index < len(value) else MISSING
    return MISSING


def _texts(value: Any, depth: int) -> Iterator[str]:
    _check_depth(depth)
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, depth + 1)


def _fill(value: Any, fill_text: Callable[[str], Any], depth: int) -> Any:
    _check_depth(depth)
    if isinstance(value, str):
        return fill_text(value) if "{{" in value else value
    if isinstance(value, Mapping):
        return {key: _fill(item, fill_text, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(item, fill_text, depth + 1) for item in value]
    return value


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidDocument(f"nested more than {MAX_DEPTH} deep", remedy="Flatten the value.")


def pieces(text: str) -> list[str | Reference]:
    """Literal pieces and references of a text, in order. Raises `InvalidDocument` for a broken reference."""
    parts: list[str | Reference] = []
    end = 0
    for match in _BRACES.finditer(text):
        parts.append(_literal(text, end, match.start()))
        quoted, inner = match.groups()
        parts.append(quoted if quoted is not None else parse(inner))
        end = match.end()
    parts.append(_literal(text, end, len(text)))
    return [part for part in parts if part != ""]


def _literal(text: str, start: int, end: int) -> str:
    piece = text[start:end]
    if "{{" in piece:
        raise InvalidDocument(
            f"two opening braces that begin no reference: {piece[piece.index('{{') :][:60]!r}",
            value=text,
            remedy='Close the reference with }} or write the braces as {{ "{{" }}.',
        )
    return piece


def _fill_text(text: str, scope: Scope) -> Any:
    parts = pieces(text)
    if len(parts) == 1 and isinstance(parts[0], Reference):
        return _found(parts[0], scope)
    return _joined(
        part if isinstance(part, str) else _rendered(part, scope, _alone(parts, index))
        for index, part in enumerate(parts)
    )


def _prefill_text(text: str, scope: Scope) -> Any:
    parts = pieces(text)
    if len(parts) == 1 and isinstance(parts[0], Reference) and parts[0].root != "tasks":
        return _fill(_found(parts[0], scope), _escape, 0)
    kept: list[str] = []
    for index, part in enumerate(parts):
        if isinstance(part, str):
            kept.append(_escape(part))
        elif part.root == "tasks":
            kept.append(f"{{{{ {part.text} }}}}")
        else:
            kept.append(_escape(_rendered(part, scope, _alone(parts, index))))
    return _joined(kept)


def _escape(text: str) -> str:
    """The text in a form that `fill` turns back into it, wherever it stands."""
    return _RISKY.sub(lambda _: _ESCAPED, text) if "{" in text else text


def _joined(texts: Iterable[str]) -> str:
    total, kept = 0, []
    for piece in texts:
        total += len(piece)
        if total > MAX_TEXT:
            raise TooLarge(
                f"the filled text would be longer than {MAX_TEXT} characters",
                remedy="Pass large content as a file instead of as text.",
            )
        kept.append(piece)
    return "".join(kept)


def _found(reference: Reference, scope: Scope) -> Any:
    value = lookup(reference, scope)
    if value is MISSING:
        raise _leads_nowhere(reference, scope)
    if reference.root == "tasks" and _names_secret(value):
        raise InvalidDocument(
            f"the value of {{{{ {reference.text} }}}} names a secret, and a result may not",
            value=reference.text,
            remedy="Refer to the single fields that are needed instead of the whole object.",
        )
    return value


def _leads_nowhere(reference: Reference, scope: Scope) -> InvalidDocument:
    _, known, wanted = _walk(reference, scope)
    names = [str(name) for name in known] if isinstance(known, Mapping) else []
    close = difflib.get_close_matches(str(wanted), names, n=3)
    there = ", ".join(names[:20]) or "nothing"
    return InvalidDocument(
        f"there is no value for {{{{ {reference.text} }}}}",
        value=reference.text,
        remedy=f"Did you mean {' or '.join(close)}?" if close else f"There is: {there}.",
    )


def is_secret(value: Any) -> bool:
    """Whether this is `{"secret": name}`, with or without a `prefix`: what executors replace by a secret."""
    return isinstance(value, Mapping) and "secret" in value and all(key in _SECRET for key in value)


def secrets_in(value: Any) -> frozenset[str]:
    """Each secret that is named anywhere inside, with its prefix. Iterative: it may be nested to any depth."""
    stack, found = [value], set[str]()
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            if is_secret(item):
                found.add(str((item["secret"], item.get("prefix"))))
            else:
                stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return frozenset(found)


def _names_secret(value: Any) -> bool:
    return bool(secrets_in(value))


def _alone(parts: list[str | Reference], index: int) -> bool:
    """Whether nothing else stands on the line of this reference."""
    before = parts[index - 1] if index else "\n"
    after = parts[index + 1] if index + 1 < len(parts) else "\n"
    return (
        isinstance(before, str)
        and before.endswith("\n")
        and isinstance(after, str)
        and after.startswith("\n")
    )


def listed(value: Any, *, lines: bool = True) -> str | None:
    """A list as people write it, one entry a line or with commas; None for what is no list, or is nested."""
    if not isinstance(value, list | tuple):
        return None
    entries = [entry for each in value if (entry := _entry(each)) is not None]
    return ("\n" if lines else ", ").join(entries) if len(entries) == len(value) else None


def _entry(value: Any) -> str | None:
    plain = _plain(value)
    if plain is not None or not isinstance(value, Mapping) or is_secret(value):
        return plain
    fields = {name: _plain(each) for name, each in value.items()}
    if None in fields.values():
        return None
    return ", ".join(f"{name}: {each}" for name, each in fields.items() if each)


def _plain(value: Any) -> str | None:
    """What needs no brackets, as text."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Mapping) and isinstance(value.get("artifact"), str):
        return str(value.get("name") or value["artifact"])
    if isinstance(value, bool | int):
        return json.dumps(value)
    return json.dumps(value) if isinstance(value, float) and math.isfinite(value) else None


def _rendered(reference: Reference, scope: Scope, alone: bool) -> str:
    """The value as it is written inside a longer text; `alone`, where it has a line to itself."""
    value = _found(reference, scope)
    plain = _plain(value)
    if plain is not None:
        return plain
    if _names_secret(value):
        raise InvalidDocument(
            f"{{{{ {reference.text} }}}} is a secret and cannot be part of a text",
            value=reference.text,
            remedy="Let the argument be the reference alone.",
        )
    written = listed(value, lines=alone)
    if written is not None:
        return written
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDocument(
            f"the value of {{{{ {reference.text} }}}} cannot be written as text",
            value=reference.text,
            remedy="Refer to a text or a number inside it.",
        ) from error
