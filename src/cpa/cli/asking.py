"""Questions to people: what exactly would be done, and how to answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Any

from cpa.cli.files import plain
from cpa.cli.terminal import clock, flat, harmless, line, shorten, told

_LONGEST = 4000
"""Characters of one argument; an approval is for all of them, so more is said to be there."""
_WIDTH = 80
_DIGITS = 10
"""Of a digest: enough to tell one action from another."""


def show(found: Iterable[Mapping[str, Any]], *, listed: bool = False) -> None:
    """Each question with all that would be done, as it would go out, and the commands that answer it. `listed`: not
    below its job, so with what that is for and who asked for it."""
    for entry in found:
        yours = ", for you" if entry.get("yours") else ""
        line(f"{entry['id']}  {entry['kind']}, since {clock(entry.get('since'))}{yours}")
        if listed and entry.get("description"):
            line(f"    job: {shorten(entry['description'], _WIDTH - 9)}")
        if listed and entry.get("requester"):
            line(f"    asked for by {entry['requester']}")
        if entry.get("expires"):
            line(f"    open until {clock(entry['expires'])}")
        for at, text in enumerate(harmless(entry["text"]).splitlines()):
            _say(text, "  " if at else "")
        if entry.get("form"):
            for name, field in entry["form"].items():
                _say(f"{flat(name)}: {_wanted(field)}")
        else:
            arguments(entry["arguments"])
        if entry.get("instead_of"):
            line("    instead of:")
            arguments(entry["instead_of"])
        for text in _who(entry):
            _say(flat(text))
        for text in answers(entry):
            line(f"    {text}")


def _who(entry: Mapping[str, Any]) -> Iterator[str]:
    """Who may answer, and who did."""
    if entry.get("approvers"):
        yield f"may answer: {', '.join(entry['approvers'])}"
    if entry["kind"] in ("approval", "proposal") and "given" in entry:
        given = f" ({', '.join(entry['given'])})" if entry["given"] else ""
        authors = [name for name in entry.get("authors") or () if name != entry.get("requester")]
        besides = f"; not {entry['requester']}, who asked for it" if entry.get("requester") else ""
        besides += f"; not {', '.join(authors)}, who decided something in it" if authors else ""
        yield f"{len(entry['given'])} of {entry['needed']} said yes{given}{besides}"


def answers(entry: Mapping[str, Any]) -> Iterator[str]:
    """The commands that answer it, short enough to be copied from a narrow terminal."""
    command = f"cpa answer {entry['id']}"
    if entry.get("form"):
        yield f"{command} {' '.join(f'{name}=…' for name in entry['form'])}"
        yield f"{command} no"
    elif entry["kind"] == "doubt":
        yield f"it happened: {command} yes"
        yield f"it did not:  {command} no"
    else:
        yield f"{command} yes" + (f" --digest {entry['digest'][:_DIGITS]}" if entry.get("digest") else "")
        yield f"{command} no"


def _wanted(field: Mapping[str, Any]) -> str:
    """What goes into a field of a form."""
    kind = field.get("type", "text")
    wanted = f"one of {', '.join(field['choices'])}" if kind == "choice" else kind
    may = "" if field.get("required", True) else ", may be left out"
    label = f" ({field['label']})" if field.get("label") else ""
    return flat(f"{wanted}{may}{label}")


def _say(text: str, begin: str = "", after: str = "  ") -> None:
    """Text within the width of a terminal; further lines of it begin with `after`."""
    parts = wrap(
        begin + text,
        _WIDTH - 4,
        subsequent_indent=after,
        drop_whitespace=False,
        replace_whitespace=False,
        break_on_hyphens=False,
    )
    for part in parts or [begin]:
        line(f"    {part}".rstrip())


def arguments(given: Mapping[str, Any]) -> None:
    """What an action is done with, a line for each; long text goes on below."""
    for name, value in ((flat(name), value) for name, value in given.items()):
        text = harmless(_spoken(value))
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}… ({len(text):,} characters; --json has them all)"
        head, *rest = text.splitlines() or [""]
        below = " " * min(len(name) + 2, 20)
        _say(head, f"{name}: ", below)
        for more in rest:
            _say(more, below, below)


def _spoken(value: Any) -> str:
    """A value for people: a file by name and size, a list with commas, a secret as what it is."""
    if isinstance(value, list):
        return ", ".join(map(_spoken, value))
    if isinstance(value, Mapping) and value.keys() == {"secret"}:
        return f"(the secret {value['secret']})"
    if isinstance(value, Mapping) and isinstance(value.get("artifact"), str):
        size = value.get("size")
        name = plain(str(value.get("name") or value["artifact"]))
        return f"{name} ({size:,} bytes)" if isinstance(size, int) else name
    return told(value)
