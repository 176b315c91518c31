"""One task of a plan as it is written down by people and models."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cpa.core import conditions, references
from cpa.core.classes import EffectClass
from cpa.core.documents import invalid
from cpa.core.references import Scope
from cpa.errors import InvalidDocument

MAX_TIMEOUT = 7 * 24 * 3600.0
"""Longest timeout of one attempt, in seconds."""
MAX_OPEN = 366 * 24 * 3600.0
"""Longest time, in seconds, that a question to people may stay open; without one it does for ever."""

ID = re.compile(r"\w(?:[\w-]{0,98}\w)?")
"""Ids of tasks: letters of any language, digits, underscores, hyphens inside."""


def _no_flag(value: Any) -> Any:
    """True is no number, though Python counts with it."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted here, not true or false")
    return value


class RetrySpec(BaseModel):
    """How often and how soon a task is tried again after a technical failure. Delays in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_attempts: int = Field(default=3, ge=1, le=100)
    first_delay: float = Field(default=1.0, ge=0, le=86_400)
    factor: float = Field(default=2.0, ge=1, le=100)
    max_delay: float = Field(default=60.0, ge=0, le=86_400)
    max_losses: int = Field(default=3, ge=1, le=100, description="Agents in a row that may end over it.")

    _numbers = field_validator("*", mode="before")(_no_flag)


class Approval(BaseModel):
    """How many people must say yes before a task is done, who may, and how long they have."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    needed: int = Field(default=1, ge=1, le=20, description="Different people who must say yes.")
    approvers: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description="Who may, by the names of their keys; empty: whoever may answer.",
    )
    expires: float = Field(default=0, ge=0, le=MAX_OPEN, description="Seconds; 0 is never.")

    _numbers = field_validator("needed", "expires", mode="before")(_no_flag)

    @field_validator("approvers", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return _items(value)

    @model_validator(mode="after")
    def _enough(self) -> Approval:
        if self.approvers and len(set(self.approvers)) < self.needed:
            raise ValueError(f"{self.needed} people must say yes and only {len(set(self.approvers))} may")
        return self


class ToDo(BaseModel):
    """One task of a plan, as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    action: str = Field(min_length=1, max_length=200, description="What to do: a dotted name or an alias.")
    id: str = Field(default="", description="Name inside the plan; empty takes the key or `task_<index>`.")
    do: str = Field(default="", max_length=200, description="With `playwright`: which web action.")
    selector: Any = Field(default=None, description="Short for `arguments.selector`.")
    text: Any = Field(default=None, description="Short for `arguments.text`.")
    timeout: float | None = Field(
        default=None, gt=0, le=MAX_TIMEOUT, description="Seconds for one attempt; default by action."
    )
    depends_on: tuple[Any, ...] = Field(
        default=(), description="Indices or ids of the tasks that must be done first."
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="By the action's own names.")
    outputs: tuple[str, ...] = Field(default=(), description="Result names beyond those the action promises.")
    effect: EffectClass | None = Field(default=None, description="Default by action.")
    retry: RetrySpec = RetrySpec()
    when: str = Field(default="", description="Condition over earlier results; empty is always true.")
    approval: Approval | None = Field(
        default=None, description="People must say yes first: true is one of them, anybody, at any time."
    )
    capability: str = Field(default="", max_length=200, description="A tag the agent must offer.")
    bids: float = Field(
        default=0, ge=0, le=3600, description="Seconds to wait for bids of agents before one is chosen."
    )
    tainted: tuple[str, ...] = Field(
        default=(), description="Arguments whose literal value came from outside (mail, page, model)."
    )

    _numbers = field_validator("timeout", "bids", mode="before")(_no_flag)

    @field_validator("depends_on", "outputs", "tainted", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A single item stands for a list of one, nothing for an empty one."""
        return _items(value)

    @field_validator("approval", mode="before", json_schema_input_type=bool | Approval)
    @classmethod
    def _rule(cls, value: Any) -> Any:
        return ({} if value else None) if isinstance(value, bool) else value

    @field_validator("depends_on")
    @classmethod
    def _indices_or_ids(cls, value: tuple[Any, ...]) -> tuple[int | str, ...]:
        if not all(isinstance(item, int | str) and not isinstance(item, bool) for item in value):
            raise ValueError("dependencies are indices or ids of tasks")
        return value

    @field_validator("id")
    @classmethod
    def _is_id(cls, value: str) -> str:
        if value and not ID.fullmatch(value):
            raise ValueError("an id consists of letters, digits, _ and - (at most 100)")
        return value

    @classmethod
    def read(cls, document: ToDo | Mapping[str, Any], field: str, id: str) -> ToDo:
        """From a mapping, called `id` unless it has its own. Paths of errors lie below `field`."""
        if isinstance(document, ToDo):
            return document if document.id else document.model_copy(update={"id": id})
        if not isinstance(document, Mapping):
            raise InvalidDocument(
                "a task is a mapping", field=field, value=document, remedy="Write {action: …, arguments: …}."
            )
        try:
            return cls.model_validate(document if document.get("id") else {**document, "id": id})
        except ValidationError as error:
            raise invalid(error, field, remedy=cls._remedy) from error

    @classmethod
    def _remedy(cls, finding: Mapping[str, Any]) -> str:
        if finding["type"] != "extra_forbidden":
            return ""
        close = difflib.get_close_matches(str(finding["loc"][-1])[:100], cls.model_fields, n=1)
        meant = f"Did you mean {close[0]}? " if close else "Correct the name; "
        return f"{meant}arguments of the action go below `arguments`."


def _items(value: Any) -> Any:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def from_template(task: Mapping[str, Any], scope: Scope, tainted: Collection[str] = ()) -> dict[str, Any]:
    """A task of an intent's template with `{{ arguments… }}` and `{{ values… }}` filled in.

    Only contents are filled: never `action`, `id`, `do`, `depends_on` or `capability`, so that no text of a
    request chooses a step. `tainted` names those of the request's arguments that came from outside; the task
    then says which of its own arguments hold them.
    """
    filled = dict(task)
    touched: list[str] = []
    given = task.get("arguments")
    fields = [(name, task[name]) for name in ("selector", "text") if name in task]
    if isinstance(given, Mapping):
        fields += list(given.items())
        filled["arguments"] = references.prefill(given, scope)
    for name in ("selector", "text", "timeout", "approval"):
        if name in task:
            filled[name] = references.prefill(task[name], scope)
    if isinstance(task.get("when"), str):
        filled["when"] = conditions.bind(task["when"], scope)
    for name, value in fields:
        found = references.references(value)
        if any(found_.root == "arguments" and str(found_.path[0]) in tainted for found_ in found):
            touched.append(name)
    if touched:
        filled["tainted"] = [*(task.get("tainted") or ()), *touched]
    return filled
