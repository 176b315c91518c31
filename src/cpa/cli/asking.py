"""Questions to people: what exactly would be done, and how to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cpa.cli.files import plain
from cpa.cli.terminal import clock, harmless, line, told

_LONGEST = 4000
"""Characters of one argument; an approval is for all of them, so more is said to be there."""
_MEANS = {
    "approval": ("to do it", "not to"),
    "proposal": ("to do it", "not to"),
    "doubt": ("it happened", "it did not"),
}


def show(found: Iterable[Mapping[str, Any]]) -> None:
    """Each question with all that would be done, as it would go out, and the commands that answer it."""
    for entry in found:
        line(f"{entry['id']}  {entry['kind']}, since {clock(entry.get('since'))}")
        line(f"    {harmless(entry['text'])}")
        arguments(entry["arguments"])
        if entry.get("instead_of"):
            line("    instead of:")
            arguments(entry["instead_of"])
        for word, meaning in zip(("yes", "no"), _MEANS.get(entry["kind"], ()), strict=False):
            line(f"    {meaning + ':':13}cpa answer {entry['id']} {word}")


def arguments(given: Mapping[str, Any]) -> None:
    """What an action is done with, a line for each; long text goes on below."""
    for name, value in given.items():
        text = harmless(_spoken(value))
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}… ({len(text):,} characters; --json has them all)"
        head, *rest = text.splitlines() or [""]
        line(f"    {name}: {head}")
        for more in rest:
            line(f"    {' ' * len(name)}  {more}")


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
