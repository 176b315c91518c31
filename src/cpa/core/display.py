"""What comes from elsewhere as people see it. In arguments, where a credential may stand in clear, it does not.

Hidden are arguments that the catalogue calls sensitive, values under names such as `password` or `api_key` at
any depth, and such parameters of addresses. Names of secrets, and references to results, are shown: they give
nothing away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from cpa.core.actions import CATALOGUE
from cpa.core.references import is_secret

HIDDEN: Final = "[hidden]"
LINE: Final = 1_000
"""Longest text from elsewhere within a sentence of ours."""
_SENSITIVE: Final = {
    action.name: frozenset(name for name, spec in action.arguments.items() if spec.sensitive)
    for action in CATALOGUE
}
_WORDS: Final = r"passw|passphrase|kennwort|secret|token|api[_-]?key|authori[sz]ation|credential"
_NAME: Final = re.compile(_WORDS, re.IGNORECASE)
_PARAMETER: Final = re.compile(rf"([?&;][^=&;#]*(?:{_WORDS})[^=&;#]*=)[^&;#]+", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"\{\{[^{}]*\}\}")


def displayed(action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a task of this action, for people."""
    sensitive = _SENSITIVE.get(action, frozenset())
    return {name: _hidden(value) if name in sensitive else _seen(value) for name, value in arguments.items()}


def brief(text: str) -> str:
    """Text from elsewhere in one line of at most `LINE` characters."""
    line = " ".join(text.split())
    return line if len(line) <= LINE else line[: LINE - 1] + "…"


def _seen(value: Any) -> Any:
    if isinstance(value, str):
        return _PARAMETER.sub(rf"\1{HIDDEN}", value) if "://" in value else value
    if isinstance(value, list | tuple):
        return [_seen(each) for each in value]
    if isinstance(value, Mapping) and not is_secret(value):
        return {
            name: _hidden(each) if _NAME.search(str(name)) else _seen(each) for name, each in value.items()
        }
    return value


def _hidden(value: Any) -> Any:
    if is_secret(value) or value is None:
        return value
    if isinstance(value, Mapping):
        return {name: _hidden(each) for name, each in value.items()}
    return value if isinstance(value, str) and _REFERENCE.fullmatch(value) else HIDDEN
