"""What an approval is bound to: the SHA-256 of the exact action that people look at.

    digest = SHA-256 of the JSON of ["cpa-action-1", action, arguments, capability, effect, [tainted, sorted]]

in UTF-8 without spaces, the names of objects sorted. The arguments are those that go out: references filled, files
by the SHA-256 of their content, secrets by name. So a yes covers one action and no other; the core compares when
an agent is chosen, the shell once more with what it is about to send.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from cpa.core.classes import EffectClass
from cpa.core.job import TaskRun, TaskSpec
from cpa.core.references import fill_each, literal, secrets_in
from cpa.errors import CPAError, InvalidDocument

_VERSION = "cpa-action-1"
_encode = msgspec.json.Encoder(order="deterministic").encode


def digest_of(
    action: str,
    arguments: Mapping[str, Any],
    capability: str = "",
    effect: EffectClass = EffectClass.IDEMPOTENT,
    tainted: Collection[str] = (),
) -> str:
    """64 hexadecimal digits that stand for this very action; the order of names and of `tainted` plays no part."""
    parts = (_VERSION, action, dict(arguments), capability, effect.value, sorted(tainted))
    return hashlib.sha256(_encode(parts)).hexdigest()


def arguments_of(spec: TaskSpec, run: TaskRun, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The arguments an attempt goes out with: the plan's, or what a person put in their place, references filled.

    `results` are those of `spec.references`, by task id. Raises as `references.fill`.
    """
    if run.arguments is None and not spec.references:
        return spec.arguments
    scope = {"tasks": {name: {"result": value} for name, value in results.items()}}
    arguments = spec.arguments if run.arguments is None else run.arguments
    return fill_each(arguments, scope)


def shown(spec: TaskSpec, run: TaskRun, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """As `arguments_of`; unfilled where a reference leads nowhere: the attempt fails then, not the question."""
    try:
        return arguments_of(spec, run, results)
    except CPAError:
        return spec.arguments if run.arguments is None else run.arguments


def proposable(arguments: Mapping[str, Any], proposed: Mapping[str, Any]) -> bool:
    """Whether people can be asked about these arguments: they are others, and name no secret that was not there."""
    try:
        literal(proposed)
    except InvalidDocument:
        return False
    return proposed != arguments and all(
        secrets_in(value) <= secrets_in(arguments.get(name)) for name, value in proposed.items()
    )
