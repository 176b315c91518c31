"""What the results of actions look like, as far as their names tell. Checked where an agent's word is taken: what
builds on a result trusts it.

A name means the same in every action of the catalogue. What an action may not hold is let through: nothing can
refer to it. Own actions (`x.…`) give what they like; the files they name must be there, as everybody's must.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from cpa.core.actions import CATALOGUE
from cpa.core.catalogue import ActionCatalogue, ArgumentType
from cpa.core.references import is_secret

MAX_FILES: Final = 1000
"""How many files one result may name."""

_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")
_TEXTS = dict.fromkeys(
    ("url", "title", "subject", "sender", "date", "text", "message_id", "path"), ArgumentType.TEXT
)
_NUMBERS = dict.fromkeys(("count", "status", "size"), ArgumentType.NUMBER)
_FLAGS = dict.fromkeys(("closed", "text_truncated"), ArgumentType.FLAG)
_TYPES: Mapping[str, ArgumentType] = MappingProxyType(
    {
        **_TEXTS,
        **_NUMBERS,
        **_FLAGS,
        "to": ArgumentType.TEXTS,
        "accepted": ArgumentType.TEXTS,
        "headers": ArgumentType.OBJECT,
        "file": ArgumentType.FILE,
        "text_file": ArgumentType.FILE,
        "attachments": ArgumentType.FILES,
    }
)
"""By name of a result; those that are not here may hold anything."""
_LISTS: Final = frozenset(("dialogs", "messages"))


def mistake(action: str, result: Mapping[str, Any], catalogue: ActionCatalogue = CATALOGUE) -> str:
    """What is wrong with the result of this action; empty when nothing is. Null stands for what is not there."""
    names = catalogue.get(action).results if action in catalogue else ()
    for name in names:
        value = result.get(name)
        if value is not None and not _fits(name, value):
            wanted = "list" if name in _LISTS else _TYPES[name].value
            return f"{name} is of the wrong type, not {wanted}"
    if len(files(result)) > MAX_FILES:
        return f"it names more than {MAX_FILES} files"
    return ""


def files(result: Any) -> tuple[str, ...]:
    """The digests of the files that a value names, at any depth, each once."""
    return tuple(dict.fromkeys(_files(result)))


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        digest = value.get("artifact")
        if isinstance(digest, str) and _DIGEST.fullmatch(digest):
            yield digest
        for each in value.values():
            yield from _files(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _files(each)


def _fits(name: str, value: Any) -> bool:
    if name in _LISTS:
        return isinstance(value, list | tuple)
    wanted = _TYPES.get(name)
    if wanted is None:
        return True
    if is_secret(value) or not wanted.accepts(value):
        return False
    named = value if isinstance(value, list) else [value]
    return wanted not in (ArgumentType.FILE, ArgumentType.FILES) or all(
        _DIGEST.fullmatch(each["artifact"]) for each in named
    )
